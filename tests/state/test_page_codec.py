"""Pages as they travel: what is encoded arrives, and what is broken is refused before a byte of it is applied."""

from __future__ import annotations

import random

import pytest

import wirt
from support.firmware import SPIN
from wirt import _core
from wirt.description import build, describe

PAGE = 4096


@pytest.fixture
def pair():
    """A machine, and an empty one of the same kind for its memory."""
    with wirt.Machine(firmware=SPIN, memory="16M") as vm:
        empty = build(describe(vm), memory=None, state=None, dtb=b"", disks=[])
        yield vm, empty
        empty.close()


def content(vm):
    return bytes(memoryview(vm.memory))


def send(encoder, pages, empty, most=1 << 18, remember=True):
    total = 0
    while pages:
        batch = encoder.encode(pages, most, remember)
        total += len(batch)
        _core.decode_pages(empty._core, batch)
    return total


def all_pages(vm):
    pages = _core.PageSet(len(vm.memory) // PAGE)
    pages.insert_all()
    return pages


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("cache", [1, 16, 4096])
def test_what_is_sent_again_and_again_arrives(pair, seed, cache):
    vm, empty = pair
    chance = random.Random(seed)
    memory = memoryview(vm.memory)
    encoder = _core.PageEncoder(vm._core, cache)
    for _ in range(6):
        for _ in range(40):
            page = chance.randrange(24) * PAGE
            start = page + chance.randrange(PAGE)
            data = chance.choice([chance.randbytes(chance.randrange(1, 64)), bytes(PAGE), chance.randbytes(PAGE)])
            data = data[: page + PAGE - start]
            memory[start : start + len(data)] = data
            if chance.random() < 0.2:
                memory[page : page + PAGE] = bytes(PAGE)
        send(encoder, all_pages(vm), empty, most=chance.choice([1, 5000, 1 << 20]))
        assert content(vm) == content(empty)
    counts = encoder.counts
    assert counts.looked_at == 6 * len(vm.memory) // PAGE
    if cache == 4096:
        assert counts.changed > 0
        assert counts.same > 0


def test_a_small_change_is_a_small_batch(pair):
    vm, empty = pair
    memory = memoryview(vm.memory)
    memory[: PAGE * 8] = random.Random(0).randbytes(PAGE * 8)
    encoder = _core.PageEncoder(vm._core, 64)
    assert send(encoder, all_pages(vm), empty) > PAGE * 8
    memory[100], memory[PAGE * 3 + 4095] = memory[100] ^ 1, memory[PAGE * 3 + 4095] ^ 1
    # Two records of one run of a word; a run in the last word is reached in three steps.
    assert send(encoder, all_pages(vm), empty) == 2 * (6 + 2 + 8) + 2 * 2
    assert content(vm) == content(empty)


@pytest.mark.parametrize(
    "batch",
    [
        b"\0",
        b"\0\0\0\0\1\0",  # ends within the data
        b"\xff\xff\xff\xff\0\0",  # no such page
        b"\0\0\0\0\1\x10" + bytes(4097),  # longer than a page
        b"\0\0\0\0\1\0\0",  # half a run
        b"\0\0\0\0\x0a\0\xff\xff" + bytes(8),  # a run of more than there is
        b"\0\0\0\0\x06\0" + b"\xff\0" * 3 + b"",  # behind the page's end
    ],
)
def test_a_broken_batch_changes_nothing(pair, batch):
    vm, empty = pair
    memoryview(vm.memory)[:PAGE] = bytes([7]) * PAGE
    pages = _core.PageSet(len(vm.memory) // PAGE)
    pages.insert(0)
    good = _core.PageEncoder(vm._core, 1).encode(pages, 1 << 20, False)
    with pytest.raises(wirt.SnapshotError):
        _core.decode_pages(empty._core, good + batch)
    assert not any(content(empty))


def test_random_bytes_are_refused_or_pages(pair):
    _, empty = pair
    chance = random.Random(5)
    for _ in range(300):
        length, data = chance.randrange(64), chance.randbytes(chance.randrange(64))
        before = content(empty)[: 256 * PAGE]
        try:
            count = _core.decode_pages(
                empty._core, bytes([chance.randrange(256), 0, 0, 0]) + length.to_bytes(2, "little") + data
            )
            assert count >= 1
        except wirt.SnapshotError:
            assert content(empty)[: 256 * PAGE] == before


def test_pages_are_not_put_into_a_machine_that_ran(pair):
    vm, _ = pair
    vm.step()
    with pytest.raises(wirt.StateError):
        _core.decode_pages(vm._core, b"")


def test_sets_of_pages_travel():
    pages = _core.PageSet(100)
    for page in (0, 63, 64, 99):
        pages.insert(page)
    assert _core.PageSet.of_bits(100, pages.bits()).equals(pages)
    with pytest.raises(wirt.SnapshotError):
        _core.PageSet.of_bits(100, b"\xff" * 16)
    with pytest.raises(wirt.SnapshotError):
        _core.PageSet.of_bits(100, bytes(8))
    assert len(pages.share(0, 2)) == len(pages.share(1, 2)) == 2
    assert pages.take_range(60, 5).runs() == [(63, 2)]
    assert pages.take_from(90, 5).runs() == [(99, 1)]
    assert pages.runs() == [(0, 1)]
