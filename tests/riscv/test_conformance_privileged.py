"""Page walks, PMP, traps and CSR fields against Spike; see support/privileged_programs.py for what is drawn."""

import random
import struct

import pytest

from support import comparison, spike
from support.aia_programs import VirtualInterrupts
from support.comparison import compare
from support.privileged_programs import (
    A1,
    DATA,
    LOG,
    LOG_ENTRY,
    SAVE,
    Frame,
    PageWalks,
    Protection,
    Registers,
    Traps,
    access_code,
)
from support.trigger_programs import TriggerHits
from wirt import isa

KINDS = {"page walks": PageWalks, "PMP": Protection, "traps": Traps}
# The same, and more, on harts with all scalar extensions.
SCALAR_KINDS = {
    "page walks": lambda seed, cases: PageWalks(seed, cases, scalar=True),
    "traps": lambda seed, cases: Traps(seed, cases, scalar=True),
    "triggers": TriggerHits,
}


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_agrees_with_spike(kind, seed):
    compare(KINDS[kind](seed, cases=400).build())


@pytest.mark.parametrize("kind", SCALAR_KINDS)
def test_scalar_extensions_agree_with_spike(kind, fresh_seed):
    for seed in (1, fresh_seed):
        compare(SCALAR_KINDS[kind](seed, cases=300).build(), trace=False)


def test_virtual_interrupts_agree_with_spike(fresh_seed):
    for seed in (1, fresh_seed):
        compare(VirtualInterrupts(seed, cases=300).build(), trace=False)


@pytest.mark.parametrize("kind", KINDS)
def test_agrees_with_spike_on_a_fresh_seed(kind, fresh_seed):
    compare(KINDS[kind](fresh_seed, cases=400).build())


def test_fields_of_every_csr(fresh_seed):
    numbers = sorted(isa.csrs().values())
    for part in (numbers[: len(numbers) // 2], numbers[len(numbers) // 2 :]):
        compare(Registers(fresh_seed).build(part))


def test_fields_of_the_csrs_of_scalar_extensions(fresh_seed):
    numbers = sorted(isa.csrs().values())
    for part in (numbers[: len(numbers) // 2], numbers[len(numbers) // 2 :]):
        compare(Registers(fresh_seed, scalar=True).build(part), trace=False)


def test_absent_csrs_trap(fresh_seed):
    absent = sorted(set(range(0x1000)) - set(isa.csrs().values()))
    compare(Registers(fresh_seed).build(sorted(random.Random(fresh_seed).sample(absent, 150))))


def logged(memory: bytes, case: int) -> tuple[int, int]:
    """mcause and mtval of a case."""
    return struct.unpack_from("<QQ", memory, LOG - SAVE + LOG_ENTRY * case + 8)


@pytest.mark.parametrize(
    ("name", "address", "ours", "theirs"),
    [
        # "An address-misaligned exception or an access-fault exception will be generated" (A 2.1).
        ("lr.w", DATA + 2, (4, DATA + 2), (5, DATA + 2)),
        ("lr.d", DATA + 4, (4, DATA + 4), (5, DATA + 4)),
        ("sc.w", DATA + 1, (6, DATA + 1), (7, DATA + 1)),
        ("sc.d", DATA + 4, (6, DATA + 4), (7, DATA + 4)),
        ("amoadd.w", DATA + 3, (6, DATA + 3), (7, DATA + 3)),
        ("amomaxu.d", DATA + 4, (6, DATA + 4), (7, DATA + 4)),
        # tval is "the faulting effective address (i.e. the value of rs1)" (CMO 1.0, chapter 2).
        ("cbo.zero", 0x1800_0010, (7, 0x1800_0010), (7, 0x1800_0000)),
        # And where they agree: nothing is there.
        ("cbo.clean", 0x1800_0010, (7, 0x1800_0010), (7, 0x1800_0010)),
        ("ld", 0x1800_0010, (5, 0x1800_0010), (5, 0x1800_0010)),
        ("amoadd.w", 0x1800_0010, (7, 0x1800_0010), (7, 0x1800_0010)),
    ],
)
def test_exceptions_that_are_free_to_choose(name, address, ours, theirs, tmp_path):
    frame = Frame(0)
    frame.set_csr("menvcfg", 0xF0)
    frame.begin()
    frame.asm.li(A1, address)
    frame.asm.word(access_code(name))
    frame.end()
    program = frame.finish(name)
    elf = tmp_path / "program.elf"
    elf.write_bytes(program.elf)
    assert logged(spike.run(elf), 0) == theirs
    with comparison.machine(program) as vm:
        comparison.run_to(vm, program.end)
        assert logged(bytes(vm.memory[slice(*program.signature)]), 0) == ours
