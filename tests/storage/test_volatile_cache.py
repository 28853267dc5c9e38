"""A disk that loses power: what was flushed stays, what was not may go."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import wirt
from wirt.guest_image import guest_image

_SECTOR = 512
_SECTORS = 64


@pytest.fixture(name="image")
def image_fixture(tmp_path: Path) -> Path:
    path = tmp_path / "disk.img"
    path.write_bytes(bytes(_SECTOR * _SECTORS))
    return path


def test_reads_show_what_was_written_and_the_file_only_what_was_flushed(image: Path) -> None:
    disk = wirt.Disk(image, volatile_cache=True)
    disk.write(700, b"cached")
    assert disk.read(696, 14) == b"\0\0\0\0cached\0\0\0\0"
    assert image.read_bytes() == bytes(_SECTOR * _SECTORS)
    disk.flush()
    assert image.read_bytes()[700:706] == b"cached"


def test_closing_is_a_clean_end(image: Path) -> None:
    disk = wirt.Disk(image, volatile_cache=True)
    disk.write(0, b"kept")
    disk.close()
    assert image.read_bytes()[:4] == b"kept"


def test_a_disk_without_power_fails_until_its_machine_is_closed(image: Path) -> None:
    disk = wirt.Disk(image, volatile_cache=True)
    with wirt.Machine(guest_image(), disks=[disk]):
        disk.lose_power(seed=1)
        with pytest.raises(wirt.StorageError, match="Input/output error"):
            disk.read(0, 1)
    assert disk.read(0, 1) == b"\0"


def test_other_disks_have_no_power_to_lose(image: Path) -> None:
    with pytest.raises(wirt.ConfigError, match="volatile_cache=True"):
        wirt.Disk(image).lose_power(seed=1)


def test_a_read_only_file_has_no_write_cache(image: Path) -> None:
    with pytest.raises(wirt.StorageError, match="read-only"):
        wirt.Disk(image, read_only=True, volatile_cache=True)


_EXTENT = st.tuples(st.integers(0, _SECTORS * _SECTOR - 1), st.integers(1, 3000))


@given(st.lists(_EXTENT), st.lists(_EXTENT), st.integers(0, 2**64 - 1))
def test_flushed_sectors_survive_and_each_other_is_old_or_new(
    tmp_path_factory: pytest.TempPathFactory,
    before: list[tuple[int, int]],
    after: list[tuple[int, int]],
    seed: int,
) -> None:
    image = tmp_path_factory.mktemp("disk") / "disk.img"
    image.write_bytes(bytes(_SECTOR * _SECTORS))
    disk = wirt.Disk(image, volatile_cache=True)
    for offset, length in before:
        disk.write(offset, b"F" * min(length, disk.size - offset))
    disk.flush()
    flushed = image.read_bytes()
    for offset, length in after:
        disk.write(offset, b"U" * min(length, disk.size - offset))
    latest = disk.read(0, disk.size)

    lost = disk.lose_power(seed)

    left = image.read_bytes()
    sectors = [slice(at, at + _SECTOR) for at in range(0, len(left), _SECTOR)]
    assert all(left[sector] in (flushed[sector], latest[sector]) for sector in sectors)
    assert sum(left[sector] != latest[sector] for sector in sectors) <= lost
