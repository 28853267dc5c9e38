"""Page walks, PMP, traps and CSR fields against Spike; see support/privileged_programs.py for what is drawn."""

import random

import pytest

from support.comparison import compare
from support.privileged_programs import PageWalks, Protection, Registers, Traps
from wirt import isa

KINDS = {"page walks": PageWalks, "PMP": Protection, "traps": Traps}


@pytest.mark.parametrize("seed", [1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_agrees_with_spike(kind, seed):
    compare(KINDS[kind](seed, cases=400).build())


@pytest.mark.parametrize("kind", KINDS)
def test_agrees_with_spike_on_a_fresh_seed(kind, fresh_seed):
    compare(KINDS[kind](fresh_seed, cases=400).build())


def test_fields_of_every_csr(fresh_seed):
    numbers = sorted(isa.csrs().values())
    for part in (numbers[: len(numbers) // 2], numbers[len(numbers) // 2 :]):
        compare(Registers(fresh_seed).build(part))


def test_absent_csrs_trap(fresh_seed):
    absent = sorted(set(range(0x1000)) - set(isa.csrs().values()))
    compare(Registers(fresh_seed).build(sorted(random.Random(fresh_seed).sample(absent, 150))))
