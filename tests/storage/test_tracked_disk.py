"""Disks as they were, and what was written since: views, the dirty map, and both under threads."""

from __future__ import annotations

import hashlib
import os
import random
import threading
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, precondition, rule

from wirt import _core
from wirt.errors import ConfigError, StateError, StorageError

_CLUSTER = 4096


def _content(disk: _core.BlockBackend) -> bytes:
    return disk.read(0, disk.size)


@pytest.fixture(name="image")
def image_fixture(tmp_path: Path) -> Path:
    path = tmp_path / "disk.img"
    path.write_bytes(b"\xee" * (1 << 20))
    return path


class TrackedDisks(RuleBasedStateMachine):
    """A disk, its views and its clones against arrays of bytes."""

    # Neither a whole number of clusters nor of granules, and more than one group of clusters.
    SIZE = 81 * _CLUSTER + 512
    GRANULE = 2 * _CLUSTER

    views = Bundle("views")
    clones = Bundle("clones")
    _extent = st.tuples(st.integers(0, SIZE - 1), st.one_of(st.integers(1, 3 * _CLUSTER), st.integers(1, SIZE)))

    def __init__(self) -> None:
        super().__init__()
        self.disk = _core.TrackedDisk(self.make_base())
        self.model = bytearray(_content(self.disk))
        self.dirty: set[int] | None = None
        self.alive = 0

    def make_base(self) -> _core.BlockBackend:
        return _core.memory_disk(self.SIZE)

    def _changed(self, offset: int, data: bytes) -> None:
        self.model[offset : offset + len(data)] = data
        if self.dirty is not None:
            self.dirty |= set(range(offset // self.GRANULE, (offset + len(data) - 1) // self.GRANULE + 1))

    @rule(extent=_extent, value=st.integers(0, 255))
    def write(self, extent: tuple[int, int], value: int) -> None:
        data = bytes([value]) * min(extent[1], self.SIZE - extent[0])
        self.disk.write(extent[0], data)
        self._changed(extent[0], data)

    @rule(extent=_extent, unmap=st.booleans())
    def write_zeroes(self, extent: tuple[int, int], unmap: bool) -> None:
        length = min(extent[1], self.SIZE - extent[0])
        self.disk.write_zeroes(extent[0], length, unmap)
        self._changed(extent[0], bytes(length))

    @rule(extent=_extent)
    def discard(self, extent: tuple[int, int]) -> None:
        length = min(extent[1], self.SIZE - extent[0])
        self.disk.discard(extent[0], length)
        self._changed(extent[0], bytes(length))  # these bases do make zeroes of it

    @rule(target=views)
    def view(self) -> tuple[_core.DiskView, bytes]:
        self.alive += 1
        return self.disk.view(), bytes(self.model)

    @rule(view=consumes(views))
    def drop(self, view: tuple[_core.DiskView, bytes]) -> None:
        assert _content(view[0]) == view[1]
        self.alive -= 1

    @rule(view=views, extent=_extent)
    def read_view(self, view: tuple[_core.DiskView, bytes], extent: tuple[int, int]) -> None:
        disk, model = view
        offset, length = extent[0], min(extent[1], self.SIZE - extent[0])
        assert disk.read(offset, length) == model[offset : offset + length]
        assert disk.broken is None

    @rule(view=views, extent=_extent)
    def data_runs_of_a_view(self, view: tuple[_core.DiskView, bytes], extent: tuple[int, int]) -> None:
        disk, model = view
        first, last = extent[0], min(sum(extent), self.SIZE)
        at = first
        for offset, length in disk.data_runs(first, last - first):
            assert at <= offset < offset + length <= last
            assert not any(model[at:offset])
            at = offset + length
        assert not any(model[at:last])

    # A clone keeps its view alive, hence is counted as one.
    @rule(target=clones, view=consumes(views))
    def clone(self, view: tuple[_core.DiskView, bytes]) -> tuple[_core.BlockBackend, bytearray]:
        return _core.overlay(view[0]), bytearray(view[1])

    @rule(clone=clones, extent=_extent, value=st.integers(0, 255))
    def write_clone(self, clone: tuple[_core.BlockBackend, bytearray], extent: tuple[int, int], value: int) -> None:
        disk, model = clone
        data = bytes([value]) * min(extent[1], self.SIZE - extent[0])
        disk.write(extent[0], data)
        model[extent[0] : extent[0] + len(data)] = data
        assert _content(disk) == model

    @rule(clone=consumes(clones))
    def drop_clone(self, clone: tuple[_core.BlockBackend, bytearray]) -> None:
        assert _content(clone[0]) == clone[1]
        self.alive -= 1

    @precondition(lambda self: self.dirty is None)
    @rule()
    def start_tracking(self) -> None:
        self.disk.start_tracking(self.GRANULE)
        self.dirty = set()

    @rule()
    def take_dirty(self) -> None:
        if self.dirty is None:
            return
        taken: set[int] = set()
        end = -1
        for offset, length in self.disk.take_dirty():
            assert offset > end  # in order, and touching runs are one
            end = offset + length
            assert offset % self.GRANULE == 0
            assert end % self.GRANULE == 0 or end == self.SIZE
            taken |= set(range(offset // self.GRANULE, (end - 1) // self.GRANULE + 1))
        assert taken == self.dirty
        self.dirty = set()

    @precondition(lambda self: self.dirty is not None)
    @rule()
    def stop_tracking(self) -> None:
        self.disk.stop_tracking()
        self.dirty = None

    @invariant()
    def the_disk_is_what_was_written(self) -> None:
        assert _content(self.disk) == self.model

    def teardown(self) -> None:
        # Views outlive the disk.
        del self.disk


class TrackedFiles(TrackedDisks):
    """The same over a file, whose holes the file system knows."""

    def make_base(self) -> _core.BlockBackend:
        self.file = os.memfd_create("disk")
        os.ftruncate(self.file, self.SIZE)
        return _core.open_disk(f"/proc/self/fd/{self.file}", False, False)

    def teardown(self) -> None:
        super().teardown()
        os.close(self.file)


class TrackedOverlays(TrackedDisks):
    """The same over a clone of a disk that is not empty."""

    def make_base(self) -> _core.BlockBackend:
        base = _core.TrackedDisk(_core.memory_disk(self.SIZE))
        base.write(5 * _CLUSTER, b"\x55" * (50 * _CLUSTER))
        clone = _core.overlay(base.view())
        base.write(0, b"\x66" * (60 * _CLUSTER))
        return clone


for _machine in (TrackedDisks, TrackedFiles, TrackedOverlays):
    _machine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestTrackedDisks = TrackedDisks.TestCase
TestTrackedFiles = TrackedFiles.TestCase
TestTrackedOverlays = TrackedOverlays.TestCase


# --- views ---


def test_copies_are_shared_and_go_with_the_last_view_that_needs_them(image: Path) -> None:
    disk = _core.TrackedDisk(_core.open_disk(str(image), False, False))
    disk.write(0, b"1" * 1000)
    assert disk.preserved_bytes == 0  # nobody looks
    first, same = disk.view(), disk.view()
    disk.write(0, b"2" * 1000)
    disk.write(500, b"3" * 1000)
    assert disk.preserved_bytes == _CLUSTER
    second = disk.view()
    disk.write(_CLUSTER - 1, b"44")
    assert disk.preserved_bytes == 3 * _CLUSTER
    assert first.read(0, 1) == same.read(0, 1) == b"1"
    assert second.read(499, 2) == b"23"
    del first
    assert disk.preserved_bytes == 3 * _CLUSTER
    # Its copy of the second cluster serves the older one, too; that of the first does not.
    del second
    assert disk.preserved_bytes == 2 * _CLUSTER
    assert same.read(_CLUSTER, 1) == b"\xee"
    assert disk.read(_CLUSTER, 1) == b"4"
    del same
    assert disk.preserved_bytes == 0


def test_zeroes_take_no_memory() -> None:
    disk = _core.TrackedDisk(_core.memory_disk(1 << 30))
    view = disk.view()
    disk.write(0, b"x" * (1 << 20))
    disk.discard(0, 1 << 30)
    disk.write_zeroes(0, 1 << 30, True)
    assert disk.preserved_bytes == 0
    assert view.read(0, 1 << 20) == bytes(1 << 20)


def test_views_are_read_only(image: Path) -> None:
    view = _core.TrackedDisk(_core.open_disk(str(image), False, False)).view()
    assert view.read_only
    assert view.size == 1 << 20
    for change in (
        lambda: view.write(0, b"x"),
        lambda: view.write_zeroes(0, 512, True),
        lambda: view.discard(0, 512),
    ):
        with pytest.raises(StorageError, match="Read-only"):
            change()


def test_a_view_of_a_closed_disk_keeps_the_file(image: Path) -> None:
    disk = _core.TrackedDisk(_core.open_disk(str(image), False, False))
    view = disk.view()
    disk.write(0, b"new")
    del disk
    with pytest.raises(StorageError, match="in use"):
        _core.open_disk(str(image), False, False)
    assert view.read(0, 4) == b"\xee" * 4
    del view
    assert _core.open_disk(str(image), False, False).read(0, 4) == b"new\xee"


def test_what_cannot_be_preserved_breaks_the_view_and_not_the_write(image: Path) -> None:
    disk = _core.TrackedDisk(_core.open_disk(str(image), False, False))
    whole = disk.view()
    disk.write(0, b"one")
    view = disk.view()
    os.truncate(image, 512)  # so that there is no reading, while writing makes the file longer
    disk.write(8 * _CLUSTER, b"two")
    assert disk.read(8 * _CLUSTER, 3) == b"two"
    for lost in (view, whole):
        assert lost.broken is not None
        assert "disk.img, as it was: what the disk held could not be preserved" in lost.broken
        with pytest.raises(StorageError, match="Input/output error"):
            lost.read(0, 3)
    assert disk.preserved_bytes == 0
    assert disk.view().read(0, 3) == b"one"


def test_a_thousand_clones_cost_what_they_write() -> None:
    disk = _core.TrackedDisk(_core.memory_disk(1 << 30))
    disk.write(0, b"base" * 1024)
    before = _resident_bytes()
    clones = [_core.overlay(disk.view()) for _ in range(1000)]
    for number, clone in enumerate(clones):
        disk.write(0, number.to_bytes(4, "little"))
        clone.write(100 * _CLUSTER, number.to_bytes(4, "little"))
    assert all(clone.read(0, 4) == b"base" for clone in clones)
    assert [int.from_bytes(clone.read(100 * _CLUSTER, 4), "little") for clone in clones] == list(range(1000))
    # A page of content, one of the map, two page tables for each, and what Python and malloc take.
    assert _resident_bytes() - before < 1000 * 32 * 1024


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


# --- the dirty map ---


def test_tracking_is_for_one_at_a_time() -> None:
    disk = _core.TrackedDisk(_core.memory_disk(1 << 20))
    with pytest.raises(StateError, match="start_tracking"):
        disk.take_dirty()
    disk.stop_tracking()
    disk.start_tracking(65536)
    with pytest.raises(StateError, match="stop_tracking"):
        disk.start_tracking(65536)
    disk.write(0, b"x")
    disk.stop_tracking()
    disk.start_tracking(512)
    assert disk.take_dirty() == []


@pytest.mark.parametrize("granularity", [0, 1, 256, 1000, 1 << 31])
def test_granularities_are_powers_of_two(granularity: int) -> None:
    disk = _core.TrackedDisk(_core.memory_disk(1 << 20))
    with pytest.raises(ConfigError, match="power of two"):
        disk.start_tracking(granularity)


def test_dirty_runs_end_with_the_disk() -> None:
    disk = _core.TrackedDisk(_core.memory_disk(3 * 65536 + 512))
    disk.start_tracking(65536)
    disk.write(3 * 65536 + 511, b"x")
    disk.write(65536, b"x")
    assert disk.take_dirty() == [(65536, 65536), (3 * 65536, 512)]
    disk.discard(0, disk.size)
    assert disk.take_dirty() == [(0, disk.size)]


# --- threads ---


@pytest.mark.parametrize("kind", ["memory", "file", "overlay"])
def test_views_hold_still_and_the_mirror_is_exact_while_writers_hammer(kind: str, tmp_path: Path) -> None:
    size = 4 << 20
    if kind == "memory":
        base = _core.memory_disk(size)
    else:
        (tmp_path / "disk.img").touch()
        os.truncate(tmp_path / "disk.img", size)
        base = _core.open_disk(str(tmp_path / "disk.img"), False, kind == "overlay")
    disk = _core.TrackedDisk(base)
    copy = _core.memory_disk(size)
    disk.start_tracking(65536)
    stop = threading.Event()
    failures: list[str] = []

    def write(seed: int) -> None:
        draw = random.Random(seed)
        for _ in range(1500):
            offset = draw.randrange(size - 70000)
            if draw.random() < 0.1:
                disk.discard(offset, draw.randrange(1, 70000))
            else:
                disk.write(offset, draw.randbytes(draw.randrange(1, 70000)))

    def look(seed: int) -> None:
        draw = random.Random(seed)
        held: list[tuple[_core.DiskView, str]] = []
        while not stop.is_set():
            view = disk.view()
            held.append((view, hashlib.sha256(_content(view)).hexdigest()))
            for old, digest in held:
                if hashlib.sha256(_content(old)).hexdigest() != digest:
                    failures.append(f"a view changed, broken: {old.broken}")
            if len(held) > 3:
                held.pop(draw.randrange(len(held)))

    def mirror() -> None:
        for offset, length in disk.take_dirty():
            copy.write(offset, disk.read(offset, length))

    def keep_mirroring() -> None:
        while not stop.is_set():
            mirror()

    writers = [threading.Thread(target=write, args=(seed,)) for seed in range(3)]
    others = [threading.Thread(target=look, args=(seed,)) for seed in range(2)]
    others.append(threading.Thread(target=keep_mirroring))
    for thread in (*writers, *others):
        thread.start()
    for thread in writers:
        thread.join()
    stop.set()
    for thread in others:
        thread.join()
    mirror()
    assert not failures
    assert _content(copy) == _content(disk)
    assert disk.preserved_bytes == 0
