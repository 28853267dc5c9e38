"""Jumps through registers go where they say, whatever the interpreter remembers of where they went before."""

from __future__ import annotations

import random

import pytest

import wirt
from support.assembler import RAM_BASE, Assembler, encode
from support.firmware import SPIN
from wirt import Privilege

A0, T0, T1, T2 = 10, 5, 6, 7
PAGE = 4096
ROOTS = (RAM_BASE + 0x10_0000, RAM_BASE + 0x11_0000)  # each a table of three levels, a page a level
SITE, TARGETS = RAM_BASE + 0x20_0000, (RAM_BASE + 0x21_0000, RAM_BASE + 0x22_0000)
SITE_AT, TARGET_AT = 0x1000_0000, 0x1000_1000  # virtual
LEAF = 0xCF  # V R W X A D
STAY = 0x0000006F  # jal zero, 0


@pytest.mark.parametrize("count", [1, 2, 8, 9, 40])
def test_one_jump_and_many_targets(count: int):
    rng = random.Random(count)
    sequence = [rng.randrange(count) for _ in range(3000)]
    values = [rng.randrange(1, 2000) for _ in range(count)]
    asm = Assembler()
    asm.la(8, "sequence")
    asm.la(9, "table")
    asm.li(18, len(sequence))
    asm.label("next")
    asm.op("lbu", T0, 8, imm=0)
    asm.op("slli", T0, T0, imm=2)
    asm.op("add", T0, T0, 9)
    asm.op("lwu", T0, T0, imm=0)
    asm.op("jalr", 1, T0, imm=0)
    asm.op("addi", 8, 8, imm=1)
    asm.op("addi", 18, 18, imm=-1)
    asm.jump("next", "bne", rs1=18, rs2=0)
    end = asm.here
    asm.word(STAY)
    for index, value in enumerate(values):
        asm.label(f"target{index}")
        asm.op("addi", A0, A0, imm=value)
        asm.op("jalr", 0, 1, imm=0)
    asm.label("table")
    for index in range(count):
        asm.word(asm.labels[f"target{index}"])
    asm.label("sequence")
    asm.content += bytes(sequence)
    with wirt.Machine(firmware=asm.elf(), memory="16M", deterministic=True) as vm:
        vm.run_for(12 * len(sequence))
        assert vm.harts[0].pc == end
        assert vm.harts[0].x[A0] == sum(values[index] for index in sequence)


def test_a_jump_across_two_pages_takes_no_memory_each_time():
    asm = Assembler()
    asm.la(T0, "target")
    asm.jump("jump")
    asm.org(RAM_BASE + PAGE - 2)
    asm.label("jump")
    asm.word(encode("jalr", 0, T0))
    asm.label("target")
    asm.op("addi", A0, A0, imm=1)
    asm.jump("jump")
    with wirt.Machine(firmware=asm.elf(), memory="16M", deterministic=True) as vm:
        vm.run_for(1000)
        before = vm.stats().harts[0].block_cache_bytes
        vm.run_for(60_000)
        assert vm.harts[0].x[A0] > 20_000
        assert vm.stats().harts[0].block_cache_bytes == before


def word(vm: wirt.Machine, address: int, raw: int, size: int = 4) -> None:
    vm.memory[address : address + size] = raw.to_bytes(size, "little")


def map_page(vm: wirt.Machine, root: int, virtual: int, physical: int) -> None:
    middle, last = root + PAGE, root + 2 * PAGE
    word(vm, root + 8 * (virtual >> 30 & 511), middle >> 2 | 1, 8)
    word(vm, middle + 8 * (virtual >> 21 & 511), last >> 2 | 1, 8)
    word(vm, last + 8 * (virtual >> 12 & 511), physical >> 2 | LEAF, 8)


@pytest.fixture
def vm():
    """Two address spaces with one jump in both, and behind its target's address another page in each."""
    with wirt.Machine(firmware=SPIN, memory="16M", deterministic=True) as machine:
        hart = machine.harts[0]
        hart.csr["pmpaddr0"] = (1 << 54) - 1
        hart.csr["pmpcfg0"] = 0x1F
        word(machine, SITE, encode("jalr", 0, T0))
        for root, target, value in zip(ROOTS, TARGETS, (1, 100), strict=True):
            map_page(machine, root, SITE_AT, SITE)
            map_page(machine, root, TARGET_AT, target)
            word(machine, target, encode("addi", A0, A0, imm=value))
            word(machine, target + 4, STAY)
        yield machine


def jump(vm: wirt.Machine, space: int, start: int = SITE_AT, instructions: int = 20) -> int:
    """What a jump to the target adds to a0."""
    hart = vm.harts[0]
    before = hart.x[A0]
    hart.csr["satp"] = 8 << 60 | ROOTS[space] >> 12
    hart.privilege = Privilege.supervisor
    hart.x[T0] = TARGET_AT
    hart.pc = start
    vm.run_for(instructions)
    assert hart.pc == TARGET_AT + 4
    return hart.x[A0] - before


def test_each_address_space_has_its_own_targets(vm: wirt.Machine):
    spaces = [0, 0, 0, 1, 1, 0, 1, 0, 0, 1, 1, 1]
    assert [jump(vm, space) for space in spaces] == [(1, 100)[space] for space in spaces]


@pytest.mark.parametrize("whole", [True, False], ids=["everything", "the page"])
def test_after_a_fence_the_target_is_translated_anew(vm: wirt.Machine, whole: bool):
    assert [jump(vm, 0) for _ in range(3)] == [1, 1, 1]
    map_page(vm, ROOTS[0], TARGET_AT, TARGETS[1])
    word(vm, SITE + 8, encode("sfence.vma", 0, 0 if whole else T0, 0))
    word(vm, SITE + 12, encode("jalr", 0, T0))
    assert jump(vm, 0, SITE_AT + 8) == 100
    assert [jump(vm, 0) for _ in range(3)] == [100, 100, 100]
    assert jump(vm, 1) == 100


def test_after_fence_i_the_target_is_decoded_anew(vm: wirt.Machine):
    word(vm, SITE + 8, encode("sw", 0, T0, T2))
    word(vm, SITE + 12, encode("fence.i"))
    word(vm, SITE + 16, encode("jalr", 0, T0))
    for value in (1, 7, 9, 7):
        vm.harts[0].x[T2] = encode("addi", A0, A0, imm=value)
        assert jump(vm, 0, SITE_AT + 8) == value
        assert [jump(vm, 0) for _ in range(3)] == [value] * 3
        assert jump(vm, 1) == 100


def test_a_mapping_that_goes_away_faults(vm: wirt.Machine):
    hart = vm.harts[0]
    assert [jump(vm, 0) for _ in range(3)] == [1, 1, 1]
    word(vm, ROOTS[0] + 2 * PAGE + 8 * (TARGET_AT >> 12 & 511), 0, 8)
    word(vm, SITE + 8, encode("sfence.vma", 0, 0, 0))
    word(vm, SITE + 12, encode("jalr", 0, T0))
    hart.csr["mtvec"] = RAM_BASE
    hart.pc = SITE_AT + 8
    vm.run_for(3)
    assert (hart.csr["mcause"], hart.csr["mepc"], hart.csr["mtval"]) == (12, TARGET_AT, TARGET_AT)
