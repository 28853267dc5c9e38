"""The IOATC as software can see it: what is cached is used until it is invalidated, and by what."""

from __future__ import annotations

import threading

import pytest

from support.iommu import (
    DDTP,
    IOHPMCTR,
    IOHPMEVT,
    OFF,
    PAGE,
    PC_V,
    PDTV,
    RAM,
    THREE_LEVEL,
    Bench,
    G,
    iodir_ddt,
    iodir_pdt,
    iotinval_gvma,
    iotinval_vma,
    mode,
)
from support.iommu import RWX as FLAGS

OLD, NEW = RAM + 0x80_0000, RAM + 0x90_0000


def stale(bench: Bench, device_id: int = 5, iova: int = 0x1000, **how: int) -> bool:
    address = bench.request(device_id, iova, **how)["address"] & ~0xFFF
    assert address in (OLD, NEW)
    if not how:
        assert bench.core.dma_translate(device_id, iova)[0] & ~0xFFF == address
    return address == OLD


@pytest.fixture
def mapped(bench: Bench) -> Bench:
    """Device 5 (PSCID 1) and 6 (PSCID 2) have 0x1000 cached, whose entry has changed since."""
    bench.first = bench.table()
    for device_id, pscid in ((5, 1), (6, 2)):
        bench.device(device_id, fsc=mode(8, bench.first), pscid=pscid)
    bench.entry = bench.map(bench.first, 0x1000, OLD)
    assert stale(bench, 5)
    assert stale(bench, 6)
    bench.store(bench.entry, NEW >> 2 | FLAGS)
    return bench


@pytest.mark.parametrize(
    ("command", "left"),
    [
        (iotinval_vma(), (False, False)),
        (iotinval_vma(pscid=1), (False, True)),
        (iotinval_vma(address=0x1000), (False, False)),
        (iotinval_vma(address=0x2000), (True, True)),
        (iotinval_vma(pscid=2, address=0x1000), (True, False)),
        (iotinval_vma(pscid=2, address=0x3000), (True, True)),
        (iotinval_vma(pscid=3), (True, True)),
        (iotinval_vma(gscid=0), (True, True)),
        (iotinval_gvma(), (True, True)),
        ((1 | 1 << 10, 1 << 9), (False, False)),  # range: 0 to 0x1fff
        ((1 | 1 << 10, 1 << 9 | 0b0010 << 10), (True, True)),  # 0x2000 to 0x3fff
        ((1 | 1 << 10, 1 << 9 | (1 << 51) - 1 << 10), (False, False)),  # everything
        ((1 | 1 << 10 | 1 << 34, 1 << 10), (False, False)),  # NL
    ],
)
def test_iotinval_vma(mapped: Bench, command: tuple[int, int], left: tuple[bool, bool]) -> None:
    assert stale(mapped, 5)
    assert stale(mapped, 6)
    assert mapped.command(*command)
    assert (stale(mapped, 5), stale(mapped, 6)) == left


def test_global_entries_outlive_a_process(bench: Bench) -> None:
    root = bench.table()
    bench.device(5, fsc=mode(8, root), pscid=1)
    entry = bench.map(root, 0x1000, OLD, flags=FLAGS | G)
    assert stale(bench)
    bench.store(entry, NEW >> 2 | FLAGS)
    assert bench.command(*iotinval_vma(pscid=1, address=0x1000))
    assert bench.command(*iotinval_vma(pscid=1))
    assert stale(bench)
    assert bench.command(*iotinval_vma(address=0x1000))
    assert not stale(bench)


def test_superpages_go_whole(bench: Bench) -> None:
    root = bench.table()
    bench.device(5, fsc=mode(8, root), pscid=1)
    entry = bench.map(root, 0x20_0000, RAM + 0x80_0000, level=1)
    assert bench.core.dma_translate(5, 0x20_1000) == (OLD + 0x1000, (2 << 20) - 0x1000)
    bench.store(entry, (RAM + 0x60_0000) >> 2 | FLAGS)
    assert bench.command(*iotinval_vma(pscid=1, address=0x3F_F000))
    assert bench.core.dma_translate(5, 0x20_1000)[0] == RAM + 0x60_1000


def test_pieces_of_a_superpage_go_with_their_leaf(bench: Bench) -> None:
    # 2 MiB of guest memory through pages of 4 KiB: the translation is cached as one of these. Tables map themselves.
    first, second = bench.table(), bench.table(second=True)
    bench.device(5, fsc=mode(8, first), iohgatp=mode(8, second, 1), pscid=1)
    entry = bench.map(first, 0x20_0000, RAM + 0x80_0000, level=1)
    bench.map(second, RAM, RAM, level=1, second=True)
    for page in (OLD + PAGE, NEW + PAGE, RAM + 0x60_1000):
        bench.map(second, page, page, second=True)
    assert bench.core.dma_translate(5, 0x20_1000) == (OLD + 0x1000, PAGE)
    bench.store(entry, (RAM + 0x60_0000) >> 2 | FLAGS)
    assert bench.command(*iotinval_vma(pscid=1, gscid=1, address=0x40_0000))
    assert bench.core.dma_translate(5, 0x20_1000)[0] == OLD + 0x1000
    assert bench.command(*iotinval_vma(pscid=1, gscid=1, address=0x3F_F000))
    assert bench.core.dma_translate(5, 0x20_1000)[0] == RAM + 0x60_1000


def test_pieces_of_a_second_stage_superpage_go_with_their_leaf(bench: Bench) -> None:
    # The first stage is Bare, which counts as pages of 1 GiB.
    second = bench.table(second=True)
    bench.device(5, iohgatp=mode(9, second, 1))
    entry = bench.map(second, 0, 0, levels=4, level=3, second=True)
    assert bench.core.dma_translate(5, RAM) == (RAM, 1 << 30)
    bench.store(entry, 1 << 39 >> 2 | FLAGS)
    assert bench.command(*iotinval_gvma(gscid=1, address=0x1000))
    assert bench.core.dma_translate(5, RAM)[0] == RAM + (1 << 39)


def test_second_stage(bench: Bench) -> None:
    root = bench.table(second=True)
    for device_id, gscid in ((5, 1), (6, 2)):
        bench.device(device_id, iohgatp=mode(8, root, gscid))
    entry = bench.map(root, 0x1000, OLD, second=True)

    def after(*command: int) -> tuple[bool, bool]:
        bench.store(entry, OLD >> 2 | FLAGS)
        assert bench.command(*iotinval_gvma())
        assert stale(bench, 5)
        assert stale(bench, 6)
        bench.store(entry, NEW >> 2 | FLAGS)
        assert bench.command(*command)
        return stale(bench, 5), stale(bench, 6)

    assert after(*iotinval_gvma()) == (False, False)
    assert after(*iotinval_gvma(gscid=1)) == (False, True)
    assert after(*iotinval_gvma(gscid=2, address=0x1000)) == (True, False)
    assert after(*iotinval_gvma(gscid=2, address=0x2000)) == (True, True)
    assert after(*iotinval_vma()) == (True, True)


def test_device_contexts(mapped: Bench) -> None:
    other = mapped.table()
    mapped.map(other, 0x1000, NEW)
    mapped.device(5, fsc=mode(8, other), pscid=7)
    assert stale(mapped, 5)
    assert mapped.command(*iotinval_vma(pscid=7))
    assert mapped.command(*iodir_ddt(6))
    assert stale(mapped, 5)
    assert mapped.command(*iodir_ddt(5))
    assert not stale(mapped, 5)
    mapped.store(mapped.device_slot(5), 0)
    assert not stale(mapped, 5)
    assert mapped.command(*iodir_ddt())
    assert mapped.request(5, 0x1000)["cause"] == 258
    assert mapped.core.dma_translate(5, 0x1000) is None


def test_process_contexts(bench: Bench) -> None:
    directory, first, second = bench.table(), bench.table(), bench.table()
    bench.map(first, 0x1000, OLD)
    bench.map(second, 0x1000, NEW)
    bench.device(5, tc=PDTV, fsc=mode(1, directory))
    for command, left in ((iodir_pdt(5, 3), False), (iodir_pdt(5, 4), True), (iodir_ddt(5), False)):
        bench.process(directory, 1, 3, fsc=mode(8, first), pscid=1)
        assert bench.command(*iodir_ddt())
        assert stale(bench, process_id=3)
        bench.process(directory, 1, 3, fsc=mode(8, second), pscid=2)
        assert stale(bench, process_id=3)
        assert bench.command(*command)
        assert stale(bench, process_id=3) == left
    bench.store(directory + 16 * 3, PC_V & 0)
    assert bench.command(*iodir_pdt(5, 3))
    assert bench.request(5, 0x1000, process_id=3)["cause"] == 266


def test_what_is_not_valid_is_not_cached(bench: Bench) -> None:
    root = bench.table()
    assert bench.request(5, 0x1000)["cause"] == 258
    bench.device(5, fsc=mode(8, root))
    assert bench.request(5, 0x1000)["cause"] == 13
    bench.map(root, 0x1000, NEW)
    assert not stale(bench)


def test_more_permission_needs_no_invalidation(bench: Bench) -> None:
    root = bench.table()
    bench.device(5, fsc=mode(8, root))
    entry = bench.map(root, 0x1000, OLD, flags=FLAGS & ~4)
    assert bench.core.dma_translate(5, 0x1000)
    assert bench.core.dma_translate(5, 0x1000, write=True) is None
    bench.store(entry, OLD >> 2 | FLAGS)
    assert bench.core.dma_translate(5, 0x1000, write=True)


def test_a_hit_walks_nothing(bench: Bench) -> None:
    root = bench.table()
    bench.device(5, fsc=mode(8, root))
    bench.map(root, 0x1000, OLD)
    for n, event in enumerate((4, 5, 7)):
        bench.write(IOHPMEVT + 8 * n, event, 8)
    for _ in range(5):
        bench.request(5, 0x1000)
    assert [bench.read(IOHPMCTR + 8 * n, 8) for n in range(3)] == [1, 1, 3]


def test_off_is_off_at_once(mapped: Bench) -> None:
    mapped.write(DDTP, OFF, 8)
    assert mapped.core.dma_translate(5, 0x1000) is None
    # A wider directory: the cached context of a narrower one is still that device's.
    mapped.write(DDTP, mapped.root >> 2 | THREE_LEVEL, 8)
    assert stale(mapped)
    mapped.core.reset()
    assert mapped.core.dma_translate(5, 0x1000) == (0x1000, (1 << 64) - 1)


def test_many_pages_collide_without_harm(bench: Bench) -> None:
    root = bench.table()
    bench.device(5, fsc=mode(9, root))
    pages = [(n * 0x20_1000) & ((1 << 30) - 1) for n in range(500)]
    for n, page in enumerate(pages):
        bench.map(root, page, RAM + n * PAGE, levels=4)
    for _ in range(2):
        for n, page in enumerate(pages):
            assert bench.core.dma_translate(5, page + 9)[0] == RAM + n * PAGE + 9


def test_devices_translate_while_software_invalidates(bench: Bench) -> None:
    root = bench.table()
    bench.device(5, fsc=mode(8, root), pscid=1)
    entries = [bench.map(root, n * PAGE, OLD + n * PAGE) for n in range(8)]
    wrong: list[int] = []
    stop = threading.Event()

    def device() -> None:
        while not stop.is_set():
            for n in range(8):
                physical = bench.core.dma_translate(5, n * PAGE + n)
                if physical is None or physical[0] not in (OLD + n * PAGE + n, NEW + n * PAGE + n):
                    wrong.append(n)

    threads = [threading.Thread(target=device) for _ in range(3)]
    for thread in threads:
        thread.start()
    for turn in range(100):
        target = NEW if turn % 2 == 0 else OLD
        for n, entry in enumerate(entries):
            bench.store(entry, (target + n * PAGE) >> 2 | FLAGS)
        assert bench.command(*iotinval_vma(pscid=1))
        for n in range(8):
            assert bench.core.dma_translate(5, n * PAGE)[0] == target + n * PAGE
    stop.set()
    for thread in threads:
        thread.join()
    assert not wrong
