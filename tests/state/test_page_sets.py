"""The algebra of page sets against Python's sets, and chains of dirty sets against the memory that they are of."""

from __future__ import annotations

import itertools
import shutil
import tempfile
from array import array
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import wirt
from support.firmware import SPIN
from wirt import _core
from wirt.errors import SnapshotError

_PAGES = 200  # no multiple of 64
_sets = st.sets(st.integers(0, _PAGES - 1))


def page_set(pages: set[int]) -> _core.PageSet:
    result = _core.PageSet(_PAGES)
    for page in pages:
        result.insert(page)
    return result


def as_set(pages: _core.PageSet) -> set[int]:
    return set(array("Q", pages.numbers()))


@given(_sets, _sets)
def test_algebra(a: set[int], b: set[int]) -> None:
    for operation in ("__ior__", "__iand__", "__isub__"):
        left, expected = page_set(a), set(a)
        left = getattr(left, operation)(page_set(b))
        expected = getattr(expected, operation)(b)
        assert as_set(left) == expected
        assert len(left) == len(expected)
        assert bool(left) == bool(expected)
        assert [page for page in range(_PAGES + 64) if page in left] == sorted(expected)
        assert left.equals(page_set(expected))
    union = page_set(a)
    union.insert_numbers(array("Q", b).tobytes())
    assert as_set(union) == a | b
    union.remove_numbers(array("Q", a).tobytes())
    assert as_set(union) == b - a


@given(_sets)
def test_runs_and_numbers(pages: set[int]) -> None:
    whole = page_set(pages)
    runs = whole.runs()
    assert {page for first, count in runs for page in range(first, first + count)} == pages
    # As few as can be, in order.
    assert all(first + count < later for (first, count), (later, _) in itertools.pairwise(runs))
    assert list(array("Q", whole.numbers())) == sorted(pages)
    taken = []
    copy = whole.copy()
    while numbers := array("Q", copy.take(7)):
        assert len(numbers) <= 7
        taken += numbers
    assert taken == sorted(pages)
    assert as_set(whole) == pages


def test_edges() -> None:
    whole = _core.PageSet(_PAGES)
    whole.insert_all()
    assert as_set(whole) == set(range(_PAGES))
    for wrong in (_PAGES, 1 << 40):
        with pytest.raises(IndexError):
            whole.insert(wrong)
        with pytest.raises(SnapshotError):
            whole.insert_numbers(array("Q", [wrong]).tobytes())
    with pytest.raises(ValueError, match="different sizes"):
        whole |= _core.PageSet(_PAGES + 1)
    with pytest.raises(ValueError, match="eight bytes"):
        whole.insert_numbers(b"1234567")


# Pages past the image that the guest is; 0 empties the page.
_writes = st.lists(st.tuples(st.integers(1024, 1100), st.integers(0, 255)), max_size=12)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(_writes, st.booleans(), st.booleans()), min_size=1, max_size=6))
def test_chains_are_the_memory_that_was(steps: list[tuple[list[tuple[int, int]], bool, bool]]) -> None:
    """Any chain, with full ones and compressed ones in it, flattened at any link: the memory of that moment."""
    folder = Path(tempfile.mkdtemp())
    model: dict[int, int] = {}
    models = []
    try:
        with wirt.Machine(firmware=SPIN, memory="16M", deterministic=True) as vm:
            dma = vm.dma(0x20000)
            for number, (writes, full, zstd) in enumerate(steps):
                for page, value in writes:
                    dma.write(0x8000_0000 + page * 4096, bytes([value]) * 4096)
                    model[page] = value
                models.append((dict(model), vm.state_hash()))
                vm.snapshot(
                    folder / f"{number}", incremental=number > 0 and not full, compress="zstd" if zstd else False
                )
        for number, (expected, digest) in enumerate(models):
            flat = wirt.Snapshot.open(folder / f"{number}").flatten(folder / "flat")
            for path in (folder / f"{number}", flat.path):
                with wirt.Machine.restore(path) as vm:
                    assert vm.state_hash() == digest
                    dma = vm.dma(0x20000)
                    for page, value in expected.items():
                        assert dma.read(0x8000_0000 + page * 4096, 4096) == bytes([value]) * 4096
    finally:
        shutil.rmtree(folder)
