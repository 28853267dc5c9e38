"""What the specification's reference model answered, asked of Wirt's IOMMU (docs/conformance.md)."""

from __future__ import annotations

import collections
from pathlib import Path

import pytest

from support.iommu import RAM, Bench
from support.iommu_reference import vectors
from support.iommu_reference.ours import Ours
from support.iommu_reference.play import Player

FILE = Path(__file__).with_name("reference_vectors.json.xz")
# Table "Fault record CAUSE field encodings": all that an implementation without data corruption reports for a
# translation.
CAUSES = {1, 5, 7, 12, 13, 15, 20, 21, 23, *range(256, 264), 265, 266, 267}


@pytest.mark.parametrize("kind", vectors.KINDS)
def test_the_reference_model_agrees(kind: str) -> None:
    header, entries = vectors.read(FILE)
    player = Player(Ours())
    causes: collections.Counter[int] = collections.Counter()
    for entry in entries:
        if entry.kind != kind:
            continue
        case = vectors.draw(kind, entry.seed)
        assert vectors.checksum(case) == entry.case, (
            f"the generator has changed: make the vectors again, {header.command}"
        )
        got = vectors.flat(player.play(case))
        for i, (operation, expected) in enumerate(zip(case.operations, entry.record[0], strict=True)):
            assert got[0][i] == expected, f"{kind} {entry.seed}, operation {i}: {operation}"
            causes.update(fault[1] for fault in expected[1])
        assert got[1:] == entry.record[1:], f"{kind} {entry.seed}: registers and memory at the end"
    if kind == "walks":
        assert causes.keys() >= CAUSES


def test_a_device_id_is_too_wide_in_any_bit(bench: Bench) -> None:
    # The model keeps eight of the nine bits of an index.
    for bit in range(6, 24):
        assert bench.request(1 << bit, 0)["cause"] == 260


def test_bare_stages_cut_nothing_off(bench: Bench) -> None:
    # The model keeps 56 bits, which would make an address in memory of one that is in none.
    bench.device(5)
    beyond = 1 << 56 | RAM
    assert bench.request(5, beyond)["address"] == beyond
    assert bench.core.dma_translate(5, beyond)[0] == beyond
