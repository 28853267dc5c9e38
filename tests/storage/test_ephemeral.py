"""Ephemeral disks: the guest writes, the file stays; and disks in memory."""

from __future__ import annotations

import pytest

import wirt

SIZE = 1 << 20


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "disk.img"
    path.write_bytes(b"\xee" * SIZE)
    return path


def test_writes_are_seen_and_dropped(image):
    disk = wirt.Disk(image, ephemeral=True)
    assert not disk.read_only
    disk.write(1000, b"wirt")
    disk.flush()
    assert disk.read(999, 6) == b"\xeewirt\xee"
    del disk
    assert image.read_bytes() == b"\xee" * SIZE
    assert wirt.Disk(image, ephemeral=True).read(1000, 4) == b"\xee" * 4


def test_two_overlays_of_one_image_do_not_see_each_other(image):
    first, second = (wirt.Disk(image, ephemeral=True) for _ in range(2))
    first.write(0, b"1" * 5000)
    second.write(4096, b"2" * 10)
    assert first.read(4096, 4) == b"1111"
    assert second.read(4090, 20) == b"\xee" * 6 + b"2" * 10 + b"\xee" * 4


def test_read_only_wins_over_ephemeral(image):
    disk = wirt.Disk(image, read_only=True, ephemeral=True)
    assert disk.read_only


@pytest.mark.parametrize("size", [0, 511, 1000])
def test_a_memory_disk_has_whole_sectors(size):
    with pytest.raises(wirt.StorageError, match="multiple of 512"):
        wirt.Disk.memory(size)


def test_a_large_memory_disk_costs_what_is_written():
    disk = wirt.Disk.memory("64G")
    assert disk.size == 64 << 30
    disk.write(disk.size - 4, b"wirt")
    assert disk.read(disk.size - 8, 8) == b"\0\0\0\0wirt"
