"""The hypervisor extension against Spike; see support/hypervisor_programs.py for what is drawn."""

import random

import pytest

from support.comparison import compare
from support.hypervisor_programs import GuestRegisters, GuestTraps, TwoStage
from wirt import isa


@pytest.mark.parametrize("kind", [TwoStage, GuestTraps])
def test_agrees_with_spike(kind, fresh_seed):
    compare(kind(1, cases=250).build())
    compare(kind(fresh_seed, cases=250).build(), trace=False)


def test_csrs_from_every_mode(fresh_seed):
    names = [name for name, number in isa.csrs().items() if number >> 8 & 3 == 2]
    others = random.Random(fresh_seed).sample(sorted(set(isa.csrs()) - set(names)), 25)
    numbers = [isa.csrs()[name] for name in (*names, "mtval2", "mtinst", "mstatus", "mip", "mie", *others)]
    compare(GuestRegisters(fresh_seed).build(sorted(set(numbers))), trace=False)
