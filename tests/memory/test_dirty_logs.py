"""Dirty logs and captures: what a mirror made by rounds ends with, and what a capture reads while the guest writes."""

from __future__ import annotations

import hashlib
import struct
import time

import pytest

import wirt
from support.firmware import RAM, words
from wirt import _core
from wirt.guest_image import guest_image

_PAGE = 4096
_MIGRATION = _core.DirtyLog.migration

# lui t0, 0x80400; li t1, 1 << 16 as lui t1, 0x10;
# next: sd a0, 0(t0); addi a0, a0, 1; addi t0, t0, 64; addi t1, t1, -1; bnez t1, -16; j start
WRITER = words(0x8040_02B7, 0x0001_0337, 0x00A2_B023, 0x0015_0513, 0x0402_8293, 0xFFF3_0313, 0xFE03_18E3, 0xFE5F_F06F)


def page_numbers(raw: bytes) -> tuple[int, ...]:
    return struct.unpack(f"<{len(raw) // 8}Q", raw)


def copy_pages(vm: wirt.Machine, pages: _core.PageSet, mirror: bytearray) -> None:
    memory = vm.memory
    for first, count in pages.runs():
        start, end = first * _PAGE, (first + count) * _PAGE
        mirror[start:end] = memory[RAM + start : RAM + end]


def machine(program: str, cpus: int, **options) -> wirt.Machine:
    return wirt.Machine(guest_image(), cmdline=program, memory="32M", cpus=cpus, **options)


@pytest.mark.parametrize("cpus", [1, 4])
@pytest.mark.parametrize("program", ["memtest memtest.mb=8", "smp"])
def test_rounds_of_dirty_pages_make_an_exact_mirror(program: str, cpus: int) -> None:
    with machine(program, cpus) as vm:
        vm.start()
        _core.start_log(vm._core, _MIGRATION)
        everything = _core.PageSet(32 * 256)
        everything.insert_all()
        mirror = bytearray(32 << 20)
        copy_pages(vm, everything, mirror)
        rounds = 0
        while vm.state == "running" and rounds < 40:
            copy_pages(vm, _core.take_dirty(vm._core, _MIGRATION), mirror)
            rounds += 1
        if vm.state == "running":
            vm.pause()
        copy_pages(vm, _core.take_dirty(vm._core, _MIGRATION), mirror)
        assert rounds > 1
        assert not _core.take_dirty(vm._core, _MIGRATION)
        assert hashlib.sha256(mirror).digest() == hashlib.sha256(vm.memory[RAM : RAM + (32 << 20)]).digest()


def test_dma_makes_pages_dirty() -> None:
    disks = [wirt.Disk.memory("4M"), wirt.Disk.memory("4M", bus="ahci")]
    with machine("bench=io bench.repeat=1 bench.kinds=disk", 1, disks=disks) as vm:
        vm.start()
        _core.start_log(vm._core, _MIGRATION)
        everything = _core.PageSet(32 * 256)
        everything.insert_all()
        mirror = bytearray(32 << 20)
        copy_pages(vm, everything, mirror)
        for _ in range(30):
            copy_pages(vm, _core.take_dirty(vm._core, _MIGRATION), mirror)
        if vm.state == "running":
            vm.pause()
        copy_pages(vm, _core.take_dirty(vm._core, _MIGRATION), mirror)
        assert sum(device.counters.bytes_moved for device in vm.devices) > 0
        assert bytes(mirror) == vm.memory[RAM : RAM + (32 << 20)]


def test_logs_are_independent_and_end() -> None:
    with wirt.Machine(firmware=WRITER, memory="16M", deterministic=True) as vm:
        vm.run_for(100)
        logs = [_core.DirtyLog.snapshot, _core.DirtyLog.migration]
        for log in logs:
            _core.start_log(vm._core, log)
        vm.run_for(5 * 64 * 3)
        taken = _core.take_dirty(vm._core, logs[0])
        assert len(taken) >= 3
        assert _core.dirty_count(vm._core, logs[1]) == len(taken)
        assert _core.take_dirty(vm._core, logs[1]).equals(taken)
        _core.stop_log(vm._core, logs[0])
        vm.run_for(5 * 64 * 3)
        assert _core.dirty_count(vm._core, logs[0]) == 0
        assert _core.dirty_count(vm._core, logs[1]) >= 3


def test_the_host_makes_pages_dirty_too() -> None:
    with wirt.Machine(firmware=WRITER, memory="16M") as vm:
        _core.start_log(vm._core, _MIGRATION)
        vm.memory[RAM + 5 * _PAGE] = 1
        vm.memory[RAM + 9 * _PAGE - 2 : RAM + 9 * _PAGE + 2] = b"abcd"
        vm.bus.write(RAM + 20 * _PAGE, 8, 7)
        assert page_numbers(_core.take_dirty(vm._core, _MIGRATION).numbers()) == (5, 8, 9, 20)


@pytest.mark.parametrize("deterministic", [False, True])
def test_a_capture_is_of_one_moment(deterministic: bool) -> None:
    with wirt.Machine(firmware=WRITER, memory="16M", deterministic=deterministic) as vm:
        if deterministic:
            vm.run_for(1_000_003)
        else:
            vm.start()
            time.sleep(0.05)
            vm.pause()
        expected = vm.memory[RAM : RAM + (16 << 20)]
        capture = _core.begin_capture(vm._core, None)
        with pytest.raises(wirt.StateError, match="being written already"):
            _core.begin_capture(vm._core, None)
        vm.resume()
        time.sleep(0.02)  # so that the guest is before the reader somewhere
        captured = bytearray(16 << 20)
        visited = 0
        while True:
            count, numbers, content = capture.read(64)
            if count == 0:
                break
            visited += count
            for index, page in enumerate(page_numbers(numbers)):
                captured[page * _PAGE : (page + 1) * _PAGE] = content[index * _PAGE : (index + 1) * _PAGE]
        vm.pause()
        assert visited == 16 * 256
        assert capture.remaining == 0
        assert bytes(captured) == expected
        assert vm.memory[RAM : RAM + (16 << 20)] != expected
        capture.close()
        _core.begin_capture(vm._core, None).close()


def test_a_capture_of_some_pages() -> None:
    with wirt.Machine(firmware=WRITER, memory="16M") as vm:
        vm.memory[RAM + 3 * _PAGE] = 3
        vm.memory[RAM + 4 * _PAGE] = 4
        wanted = _core.PageSet(16 * 256)
        for page in (3, 4, 7):
            wanted.insert(page)
        capture = _core.begin_capture(vm._core, wanted)
        vm.memory[RAM + 4 * _PAGE] = 40
        vm.memory[RAM + 5 * _PAGE] = 50
        count, numbers, content = capture.read(100)
        assert count == 3  # page 7 holds nothing, and is not given
        assert {page: content[i * _PAGE] for i, page in enumerate(page_numbers(numbers))} == {3: 3, 4: 4}
        assert capture.preserved == 1
