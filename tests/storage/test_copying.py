"""Copying disks without their holes, and telling whether a file has moved on."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wirt import _core
from wirt.errors import StorageError

_SIZE = 8 << 20


@pytest.fixture(name="image")
def image_fixture(tmp_path: Path) -> Path:
    path = tmp_path / "disk.img"
    path.touch()
    os.truncate(path, _SIZE)
    return path


def _holds_holes(folder: Path) -> bool:
    path = folder / "probe"
    path.touch()
    os.truncate(path, 1 << 20)
    with path.open("rb") as file:
        try:
            return os.lseek(file.fileno(), 0, os.SEEK_DATA) > 0
        except OSError:
            return True


# --- data runs ---


def test_a_file_knows_its_holes(image: Path, tmp_path: Path) -> None:
    if not _holds_holes(tmp_path):
        pytest.skip("this file system does not tell of holes")
    disk = _core.open_disk(str(image), False, False)
    assert disk.data_runs() == []
    disk.write(1 << 20, b"x" * 65536)
    disk.write(_SIZE - 1, b"x")
    runs = disk.data_runs()
    assert [offset for offset, _ in runs] == [1 << 20, _SIZE - 4096]
    assert runs[0][1] >= 65536
    assert sum(runs[-1]) == _SIZE
    assert disk.data_runs((1 << 20) + 100, 1000) == [((1 << 20) + 100, 1000)]
    assert disk.data_runs(_SIZE) == []


def test_overlays_add_what_they_own() -> None:
    base = _core.memory_disk(_SIZE)
    base.write(0, b"x")
    base.write(5 << 20, b"x")
    disk = _core.overlay(base)
    disk.write(4096, b"x")
    disk.write(1 << 20, b"x")
    assert disk.data_runs() == [(0, 8192), (1 << 20, 4096), (5 << 20, 4096)]
    disk.write_zeroes(0, _SIZE, True)
    assert base.data_runs() == [(0, 4096), (5 << 20, 4096)]
    assert not any(disk.read(0, _SIZE))


def test_a_memory_disk_forgets_what_is_zeroed() -> None:
    disk = _core.memory_disk(3 * 4096 + 512)
    disk.write(0, b"x" * disk.size)
    assert disk.data_runs() == [(0, disk.size)]
    disk.discard(100, disk.size - 100)
    assert disk.data_runs() == [(0, 4096)]


def test_what_does_not_know_says_all_of_it(image: Path) -> None:
    disk = _core.VolatileCache(_core.open_disk(str(image), False, False))
    assert disk.data_runs() == [(0, _SIZE)]


def test_runs_outside_the_disk_are_refused() -> None:
    disk = _core.memory_disk(4096)
    for offset, length in ((0, 4097), (4097, None), (1, 4096)):
        with pytest.raises(StorageError, match="not all inside"):
            disk.data_runs(offset, length)


_EXTENTS = st.lists(st.tuples(st.integers(0, 99), st.integers(1, 40000), st.integers(0, 1)), max_size=8)


@given(_EXTENTS, st.integers(0, 400000), st.integers(0, 400000))
def test_a_copy_is_exact_in_its_range_and_leaves_the_rest(
    extents: list[tuple[int, int, int]], first: int, last: int
) -> None:
    size = 100 * 4096
    disk = _core.memory_disk(size)
    for cluster, length, value in extents:
        disk.write(cluster * 4096, bytes([value]) * min(length, size - cluster * 4096))
    first, last = sorted((first, last))
    fd = os.memfd_create("copy")
    try:
        os.ftruncate(fd, size)
        written = disk.copy_range(fd, first, last - first)
        copy = os.pread(fd, size, 0)
        content = disk.read(0, size)
        assert copy == bytes(first) + content[first:last] + bytes(size - last)
        # By clusters: what is zero in the range is not written.
        assert written <= sum(
            min(at + 4096, last) - max(at, first)
            for at in range(first - first % 4096, last, 4096)
            if any(content[max(at, first) : min(at + 4096, last)])
        )
    finally:
        os.close(fd)


def test_a_copy_made_in_steps_is_sparse_although_the_disk_is_written(image: Path, tmp_path: Path) -> None:
    disk = _core.TrackedDisk(_core.open_disk(str(image), False, False))
    disk.write(3 << 20, b"early" + bytes(1 << 20) + b"end")
    view = disk.view()
    step = 1 << 20
    path = tmp_path / "copy.img"
    with path.open("wb+") as file:
        os.truncate(file.fileno(), _SIZE)
        written = 0
        for offset in range(0, _SIZE, step):
            disk.write(offset, b"later" * 100)
            written += view.copy_range(file.fileno(), offset, min(step, _SIZE - offset))
    assert written == 2 * 4096
    assert path.read_bytes() == view.read(0, _SIZE)
    assert path.read_bytes()[3 << 20 : (3 << 20) + 5] == b"early"
    if _holds_holes(tmp_path):
        assert path.stat().st_blocks * 512 < 1 << 20


def test_a_copy_that_does_not_fit_says_so(image: Path) -> None:
    program = f"""
import os, resource, signal
from wirt import _core
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
disk = _core.open_disk({str(image)!r}, False, False)
disk.write(0, b"x" * {_SIZE})
resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))
with open({str(image) + ".copy"!r}, "wb") as file:
    try:
        disk.copy_range(file.fileno(), 0, disk.size)
    except Exception as error:
        print(type(error).__name__, error)
"""
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[1] == resource.RLIM_INFINITY
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "StorageError a copy of a disk cannot be written at byte 1048576" in run.stdout
    assert "File too large; make room" in run.stdout


def test_a_copy_of_what_cannot_be_read_says_so(image: Path) -> None:
    disk = _core.open_disk(str(image), False, False)
    disk.write(0, b"x" * _SIZE)
    view = _core.TrackedDisk(disk).view()
    with image.open("rb") as readable, pytest.raises(StorageError, match="Bad file descriptor"):
        view.copy_range(readable.fileno(), 0, 4096)
    cut = _core.VolatileCache(disk)  # knows of no holes
    os.truncate(image, 4096)
    fd = os.memfd_create("copy")
    with pytest.raises(StorageError, match=r"disk\.img.*cannot be read"):
        cut.copy_range(fd, 0, _SIZE)
    os.close(fd)


# --- identity ---


def test_a_file_has_an_identity_that_moves_with_its_content(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.utime(image, ns=(10**18, 10**18 + 1))
    monkeypatch.chdir(image.parent)
    (image.parent / "link").symlink_to("disk.img")
    disk = _core.TrackedDisk(_core.open_disk("link", False, False))
    monkeypatch.chdir("/")
    identity = disk.identity()
    assert identity is not None
    status = image.stat()
    assert identity.path == str(image.resolve())
    assert (identity.size, identity.device, identity.inode) == (_SIZE, status.st_dev, status.st_ino)
    assert identity.mtime_ns == 10**18 + 1
    disk.write(0, b"x")
    moved = disk.identity()
    assert moved is not None
    assert moved.mtime_ns > identity.mtime_ns


def test_what_must_be_included_has_none(image: Path) -> None:
    file = _core.open_disk(str(image), False, False)
    assert _core.memory_disk(4096).identity() is None
    assert _core.overlay(file).identity() is None
    assert _core.TrackedDisk(file).view().identity() is None
    assert _core.VolatileCache(file).identity() is None
    image.unlink()
    assert file.identity() is None
