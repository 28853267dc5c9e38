"""What harts see of each other's accesses, translations and code, on threads of the host.

Litmus tests (support/litmus.py) against the memory model of the Unprivileged ISA (support/memory_model.py), and fences
on other harts (support/remote_fences.py). Which of the outcomes that the model allows occur is up to the host, and
decides nothing here; the long run is benchmarks/acceptance/litmus.py.
"""

from __future__ import annotations

import random

import pytest

from support import litmus
from support.litmus import TESTS, Litmus
from support.memory_model import Model
from support.remote_fences import FENCES, RemoteFences

# Loads, then final memory. What the specification's own text and the literature say of the outcome: whether it may be.
KNOWN = [
    (("w x 1; r y", "w y 1; r x"), (0, 0, 1, 1), True),
    (("w x 1; fence rw,rw; r y", "w y 1; fence rw,rw; r x"), (0, 0, 1, 1), False),
    (("w x 1; fence.tso; r y", "w y 1; fence.tso; r x"), (0, 0, 1, 1), True),
    (("amoswap.rl x 1; lr.aq y", "amoswap.rl y 1; lr.aq x"), (0, 0, 0, 0, 1, 1), False),
    (("w x 1; w y 1", "r y; r x"), (1, 0, 1, 1), True),
    (("w x 1; fence w,w; w y 1", "r y; r x addr:0"), (1, 0, 1, 1), False),
    (("w x 1; fence w,w; w y 1", "r y; r x ctrl:0"), (1, 0, 1, 1), True),
    (("w x 1; fence w,w; w y 1", "r y; w z 1 data:0; r z; r x addr:1"), (1, 1, 0, 1, 1, 1), False),
    (("w x 1; fence w,w; w y 1", "r y; w z 1 ctrl:0; r z; r x addr:1"), (1, 1, 0, 1, 1, 1), True),
    (("r x; w y 1", "r y; w x 1"), (1, 1, 1, 1), True),
    (("r x; w y 1 ctrl:0", "r y; w x 1 ctrl:0"), (1, 1, 1, 1), False),
    (("w x 1", "r x; r x"), (1, 0, 1), False),
    (("w x 1", "w y 1", "r x; r y addr:0", "r y; r x addr:0"), (1, 0, 1, 0, 1, 1), False),
    (("w x 1", "w y 1", "r x; r y", "r y; r x"), (1, 0, 1, 0, 1, 1), True),
    (("lr x; sc x 1", "lr x; sc x 2"), (0, 0, 0, 0, 2), False),
    (("amoadd x 1", "amoadd x 1"), (0, 0, 2), False),
    (("w.w x 1; r.d x", "w.w x+4 1; r.d x"), (1, 1 << 32, 1 << 32 | 1), True),
    (("w.d x 0x100000001", "r.w x; r.w x+4"), (0, 1, 1 << 32 | 1), True),
    (("w.d x 0x100000001", "r.d x"), (1, 1 << 32 | 1), False),
]


@pytest.mark.parametrize(("harts", "outcome", "may_be"), KNOWN)
def test_the_model_says_what_is_known(harts, outcome, may_be):
    model = Model(harts)
    assert (outcome in model.allowed()) is may_be
    assert model.sequential() <= model.allowed()


@pytest.mark.parametrize("name", TESTS)
def test_no_outcome_that_the_memory_model_forbids(name, fresh_seed):
    test = TESTS[name]
    width = random.Random(f"{fresh_seed} {name}").choice(test.widths)
    assert litmus.check(test, width, rounds=8).forbidden == {}


def test_an_outcome_that_is_forbidden_is_noticed(monkeypatch):
    """Whatever comes of two harts that add, it is one of two things; neither may be here."""
    test = Litmus(("amoadd x 1", "amoadd x 1"))
    monkeypatch.setattr(litmus, "outcomes_of", lambda *_: (frozenset(), frozenset()))
    result = litmus.check(test, "d", rounds=2)
    assert sum(result.forbidden.values()) == 2 * litmus.ROUND
    assert set(result.forbidden) <= {(0, 1, 2), (1, 0, 2)}


@pytest.mark.parametrize("sbi", [False, True], ids=["IPI", "RFENCE"])
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("fence", FENCES)
def test_a_fence_on_another_hart_is_done_when_it_says_so(fence, workers, sbi):
    report = RemoteFences(fence, 20, sbi=sbi, workers=workers).run()
    assert report.errors == {}
    assert report.changes == 20


@pytest.mark.parametrize("sbi", [False, True], ids=["IPI", "RFENCE"])
def test_code_that_is_exchanged_in_the_page_that_calls_it(sbi):
    report = RemoteFences("fence.i", 20, sbi=sbi, near=True).run()
    assert report.errors == {}


@pytest.mark.parametrize("fence", ["sfence.vma", "hfence.gvma", "hfence.vvma"])
def test_a_handler_that_forgets_the_fence_is_noticed(fence):
    """Here translations live until they are fenced: each change is one that the worker does not see."""
    assert RemoteFences(fence, 20, sbi=False, forgetful=True).run().errors
