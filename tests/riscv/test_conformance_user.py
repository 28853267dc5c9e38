"""Random programs in M-, S- and U-mode: each register and flag that an instruction writes, as Spike has it.

The long run is benchmarks/acceptance/conformance.py; docs/conformance.md has its figures.
"""

import pytest

from support import comparison, spike
from support.comparison import Mismatch, Tally, compare
from support.random_programs import SCALAR, default_extensions, generate
from wirt import isa

# Half of them on a hart that has all scalar extensions.
SEEDS = [(seed, scalar) for scalar in (False, True) for seed in range(4)]


def test_every_instruction_agrees_with_spike():
    tally = Tally()
    for seed, scalar in SEEDS:
        compare(generate(seed, scalar=scalar), tally)
    # Those that only return or wait where they are legal are in the privileged programs; where they are not, they trap.
    elsewhere = {"mret", "sret", "wfi", "ecall", "ebreak", "c.ebreak", "hinval.vvma", "hinval.gvma"}
    executed = set(tally.by_name)
    # A compressed form that expands to the same may be counted under another name: c.nop is c.addi.
    here = default_extensions() | SCALAR
    assert {row.name for row in isa.instructions() if row.extension in here} - elsewhere - executed == set()


@pytest.mark.parametrize("scalar", [False, True])
def test_agrees_with_spike_on_a_fresh_seed(fresh_seed, scalar):
    compare(generate(fresh_seed, scalar=scalar, chunks=20))


def test_a_wrong_register_is_noticed(monkeypatch):
    genuine = spike.parse_commits

    def forged(log):
        for i, commit in enumerate(genuine(log)):
            if i >= 2000 and commit.writes and commit.writes[0][0].startswith("x"):
                name, value = commit.writes[0]
                commit.writes[0] = (name, value ^ 1 << 40)
            yield commit

    monkeypatch.setattr(comparison.spike, "parse_commits", forged)
    with pytest.raises(Mismatch, match="writes x"):
        compare(generate(0, chunks=5))


def test_wrong_memory_is_noticed(monkeypatch):
    genuine = spike.run

    def forged(elf, **options):
        memory = bytearray(genuine(elf, **options))
        memory[0x1_0000] ^= 1
        return bytes(memory)

    monkeypatch.setattr(comparison.spike, "run", forged)
    with pytest.raises(Mismatch, match="memory at"):
        compare(generate(0, chunks=5), trace=False)
