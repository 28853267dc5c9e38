"""Raw images: what is accepted, what is refused and why, and that the bytes go where they belong."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import wirt

SIZE = 1 << 20


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "disk.img"
    path.write_bytes(bytes(range(256)) * (SIZE // 256))
    return path


def test_a_file_is_a_disk(image):
    disk = wirt.Disk(image)
    assert disk.size == SIZE
    assert not disk.read_only
    assert disk.read(256, 4) == b"\0\1\2\3"
    disk.write(SIZE - 4, b"wirt")
    disk.flush()
    assert image.read_bytes()[-4:] == b"wirt"
    assert image.stat().st_size == SIZE


@pytest.mark.parametrize("extra", [1, 100, 511])
def test_a_size_that_is_no_multiple_of_512_is_refused_with_the_remedy(image, extra):
    os.truncate(image, SIZE + extra)
    with pytest.raises(wirt.StorageError, match=rf"multiple of 512.*truncate -s {SIZE + 512} .*disk\.img"):
        wirt.Disk(image)


def test_an_empty_file_is_refused(tmp_path):
    (tmp_path / "empty.img").touch()
    with pytest.raises(wirt.StorageError, match=r"is empty.*truncate"):
        wirt.Disk(tmp_path / "empty.img")


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(wirt.StorageError, match=r"none\.img.*create it first"):
        wirt.Disk(tmp_path / "none.img")


def test_a_directory_is_refused(tmp_path):
    with pytest.raises(wirt.StorageError, match="directory"):
        wirt.Disk(tmp_path, read_only=True)


@pytest.mark.parametrize("path", ["/dev/null", "/dev/zero"])
def test_a_character_device_is_refused(path):
    with pytest.raises(wirt.StorageError, match="neither a file nor a block device"):
        wirt.Disk(path, read_only=True)


def test_a_fifo_is_refused_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(wirt.StorageError):
        wirt.Disk(tmp_path / "fifo", read_only=True)


@contextmanager
def without_privileges():
    """Root may write anything: somebody else tries."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)


def test_a_file_that_may_not_be_written_says_what_to_do():
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        image = Path(folder) / "disk.img"
        image.write_bytes(bytes(4096))
        image.chmod(0o444)
        with without_privileges():
            with pytest.raises(wirt.StorageError, match="read_only=True"):
                wirt.Disk(image)
            assert wirt.Disk(image, read_only=True).read_only


def test_read_only_refuses_writes(image):
    before = image.read_bytes()
    disk = wirt.Disk(image, read_only=True)
    with pytest.raises(wirt.StorageError, match=r"[Rr]ead-only"):
        disk.write(0, b"x" * 512)
    assert image.read_bytes() == before


def test_a_file_cut_behind_our_back_is_an_error_not_a_crash(image):
    disk = wirt.Disk(image)
    os.truncate(image, 512)
    assert len(disk.read(0, 512)) == 512
    with pytest.raises(wirt.StorageError):
        disk.read(512, 512)


def test_a_range_outside_the_disk_is_refused(image):
    disk = wirt.Disk(image)
    for offset, length in ((SIZE, 1), (SIZE - 1, 2), ((1 << 64) - 1, 2)):
        with pytest.raises(wirt.StorageError):
            disk.read(offset, length)


# --- two users of one image ---


def test_two_writers_are_refused(image):
    first = wirt.Disk(image)
    with pytest.raises(wirt.StorageError, match="in use by another machine or Disk"):
        wirt.Disk(image)
    del first
    wirt.Disk(image)


@pytest.mark.parametrize("options", [{"read_only": True}, {"ephemeral": True}])
def test_readers_share_an_image_but_not_with_a_writer(image, options):
    readers = [wirt.Disk(image, **options) for _ in range(3)]
    with pytest.raises(wirt.StorageError, match="in use"):
        wirt.Disk(image)
    readers.clear()
    writer = wirt.Disk(image)
    with pytest.raises(wirt.StorageError, match="being written"):
        wirt.Disk(image, **options)
    del writer


def test_another_process_counts_too(image):
    disk = wirt.Disk(image)
    program = f"import wirt\ntry:\n    wirt.Disk({str(image)!r})\nexcept wirt.StorageError as e:\n    print(e)"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "in use by another machine or Disk" in result.stdout
    del disk


# --- content, as a property ---


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    writes=st.lists(
        st.tuples(st.integers(0, SIZE - 1), st.binary(min_size=1, max_size=9000)).map(
            lambda w: (w[0], w[1][: SIZE - w[0]])
        ),
        max_size=12,
    )
)
@pytest.mark.parametrize("kind", ["file", "ephemeral", "memory"])
def test_a_disk_is_an_array_of_bytes(tmp_path_factory, kind, writes):
    if kind == "memory":
        disk = wirt.Disk.memory(SIZE)
        model = bytearray(SIZE)
    else:
        path = tmp_path_factory.mktemp("disk") / "disk.img"
        model = bytearray(os.urandom(SIZE))
        path.write_bytes(model)
        disk = wirt.Disk(path, ephemeral=kind == "ephemeral")
    for offset, data in writes:
        disk.write(offset, data)
        model[offset : offset + len(data)] = data
        assert disk.read(offset, len(data)) == data
    assert disk.read(0, SIZE) == model
