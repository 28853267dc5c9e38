"""MTIMER and MSWI in the CLINT's layout (RISC-V ACLINT 1.0-rc4, chapters 2 and 3)."""

from __future__ import annotations

import pytest

import wirt

BASE = 0x200_0000
MTIMECMP, MTIME = 0x4000, 0xBFF8
HARTS = 3
MSIP, MTIP = 1 << 3, 1 << 7

JUMP_TO_ITSELF = bytes.fromhex("6f000000")


@pytest.fixture
def vm():
    # Never started, so that its clock stands still.
    with wirt.Machine(memory="16M", cpus=HARTS) as vm:
        yield vm


def test_msip_reaches_each_hart(vm):
    for hart in range(HARTS):
        vm.bus.write(BASE + 4 * hart, 4, 0xFFFF_FFFF)
        assert vm.bus.read(BASE + 4 * hart, 4) == 1
        assert [bool(each.csr["mip"] & MSIP) for each in vm.harts] == [other == hart for other in range(HARTS)]
        vm.bus.write(BASE + 4 * hart, 4, 0xFFFF_FFFE)
        assert vm.bus.read(BASE + 4 * hart, 4) == 0
        assert not vm.harts[hart].csr["mip"] & MSIP


def test_mtime_is_read_and_written_whole_and_in_halves(vm):
    assert vm.bus.read(BASE + MTIME, 8) == 0
    vm.bus.write(BASE + MTIME, 8, 0x0123_4567_89AB_CDEF)
    assert vm.bus.read(BASE + MTIME, 8) == 0x0123_4567_89AB_CDEF
    assert vm.bus.read(BASE + MTIME, 4) == 0x89AB_CDEF
    assert vm.bus.read(BASE + MTIME + 4, 4) == 0x0123_4567
    vm.bus.write(BASE + MTIME, 4, 0x1111_1111)
    vm.bus.write(BASE + MTIME + 4, 4, 0x2222_2222)
    assert vm.bus.read(BASE + MTIME, 8) == 0x2222_2222_1111_1111
    assert vm.harts[0].csr["time"] == 0x2222_2222_1111_1111


def test_mtimecmp_is_read_and_written_whole_and_in_halves(vm):
    for hart in range(HARTS):
        address = BASE + MTIMECMP + 8 * hart
        vm.bus.write(address, 8, 0x0123_4567_89AB_CDEF)
        assert vm.bus.read(address, 8) == 0x0123_4567_89AB_CDEF
        vm.bus.write(address + 4, 4, hart)
        vm.bus.write(address, 4, 0xFFFF_FFFF)
        assert vm.bus.read(address, 8) == hart << 32 | 0xFFFF_FFFF
        assert vm.bus.read(address + 4, 4) == hart


def test_no_hart_has_a_timer_interrupt_at_reset(vm):
    assert not any(hart.csr["mip"] & MTIP for hart in vm.harts)


@pytest.mark.parametrize(
    ("offset", "size"),
    [
        (4 * HARTS, 4),  # the MSIP of a hart that is not there
        (0x3FFC, 4),
        (0x0, 8),  # MSIP registers are 32 bits wide
        (0x0, 1),
        (MTIMECMP, 2),
        (MTIMECMP + 8 * HARTS, 8),
        (0xBFF0, 8),
        (MTIME, 1),
        (0xC000, 8),
        (0xFFF8, 8),
    ],
)
def test_holes_and_other_widths_have_no_effect(vm, offset: int, size: int):
    vm.bus.write(BASE + offset, size, 0xFFFF_FFFF_FFFF_FFFF >> (64 - 8 * size))
    assert vm.bus.read(BASE + offset, size) == 0
    assert not any(hart.csr["mip"] & MSIP for hart in vm.harts)
    assert vm.bus.read(BASE + MTIME, 8) == 0


def test_timer_interrupt_arrives():
    with wirt.Machine(firmware=JUMP_TO_ITSELF, memory="16M", deterministic=True) as vm:
        vm.bus.write(BASE + MTIMECMP, 8, 100)
        for _ in range(1000):
            if vm.bus.read(BASE + MTIME, 8) >= 100:
                break
            assert not vm.harts[0].csr["mip"] & MTIP
            vm.run_for(1000)
        vm.run_for(1000)
        assert vm.harts[0].csr["mip"] & MTIP
        vm.bus.write(BASE + MTIMECMP, 8, 1 << 62)
        vm.run_for(1)
        assert not vm.harts[0].csr["mip"] & MTIP
