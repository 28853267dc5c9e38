"""A file goes from one that has it to the next, and nobody else gets in between."""

from __future__ import annotations

import pytest

import wirt
from wirt import _core

SIZE = 1 << 20


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "disk.img"
    path.write_bytes(bytes(range(256)) * (SIZE // 256))
    return path


def opened(path, *, incoming=False):
    return _core.TrackedDisk(_core.open_disk(str(path), False, False, incoming))


def refuses_others(path):
    for options in ({}, {"read_only": True}, {"ephemeral": True}):
        with pytest.raises(wirt.StorageError, match="another machine"):
            wirt.Disk(path, **options)


def test_nobody_else_gets_in_between(image):
    first = opened(image)
    next_ = opened(image, incoming=True)
    next_.expect_hand_over()
    with pytest.raises(wirt.StorageError, match="in use"):
        next_.take()
    first.write(0, b"first")
    refuses_others(image)
    first.hand_over()
    refuses_others(image)
    next_.take()
    refuses_others(image)
    assert next_.read(0, 5) == b"first"
    next_.write(5, b" next")
    next_.flush()
    del first
    refuses_others(image)
    del next_
    assert wirt.Disk(image).read(0, 10) == b"first next"


def test_who_has_not_got_it_does_not_write(image):
    first = opened(image)
    next_ = opened(image, incoming=True)
    for change in (
        lambda disk: disk.write(0, b"no"),
        lambda disk: disk.discard(0, 4096),
        lambda disk: disk.write_zeroes(0, 4096, False),
    ):
        with pytest.raises(wirt.StorageError, match="Input/output error"):
            change(next_)
    first.hand_over()
    with pytest.raises(wirt.StorageError, match="Input/output error"):
        first.write(0, b"no")
    assert image.read_bytes()[:4] == b"\0\1\2\3"


def test_it_comes_back_when_the_next_one_has_not_taken_it_or_lets_go(image):
    first = opened(image)
    next_ = opened(image, incoming=True)
    first.hand_over()
    first.take()
    first.write(0, b"mine")
    first.hand_over()
    next_.take()
    with pytest.raises(wirt.StorageError, match="in use"):
        first.take()
    next_.let_go()
    first.take()
    first.write(4, b" again")
    refuses_others(image)
    with pytest.raises(wirt.StorageError, match="in use"):
        next_.take()


def test_it_goes_on_to_a_third_once_the_first_has_gone(image):
    first = opened(image)
    second, third = opened(image, incoming=True), opened(image, incoming=True)
    first.hand_over()
    second.take()
    with pytest.raises(wirt.StorageError, match="has not let go"):
        second.hand_over()
    second.write(0, b"still mine")
    del first
    second.hand_over()
    refuses_others(image)
    third.take()
    assert third.read(0, 10) == b"still mine"


def test_a_file_that_nobody_has_is_not_handed_over(image):
    disk = opened(image, incoming=True)
    with pytest.raises(wirt.StorageError, match="nobody has it open"):
        disk.expect_hand_over()


def test_what_cannot_be_handed_over_says_so(image, tmp_path):
    read_only = tmp_path / "read_only.img"
    read_only.write_bytes(bytes(SIZE))
    for disk in (
        wirt.Disk.memory(SIZE),
        wirt.Disk(read_only, read_only=True),
        wirt.Disk(read_only, ephemeral=True),
        wirt.Disk(image, volatile_cache=True),
    ):
        backend = disk._opened()
        assert not backend.can_hand_over
        with pytest.raises(wirt.StorageError, match="cannot be handed over"):
            backend.hand_over()


def test_an_incoming_disk_is_for_a_machine_that_comes(image):
    holder = wirt.Disk(image)
    with pytest.raises(wirt.StorageError, match=r"Machine\.receive"):
        wirt.Machine(firmware=b"\x6f\0\0\0", disks=[wirt.Disk(image, incoming=True)])
    for options in ({"read_only": True}, {"ephemeral": True}, {"volatile_cache": True}):
        with pytest.raises(wirt.ConfigError, match="incoming"):
            wirt.Disk(image, incoming=True, **options)
    holder.close()
