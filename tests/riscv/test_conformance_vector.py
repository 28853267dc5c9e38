"""Random programs of vector instructions: memory, and each register that an instruction writes, as Spike has them.

The long run is benchmarks/acceptance/conformance.py; docs/conformance.md has its figures.
"""

import pytest

from support import comparison, spike
from support.comparison import Mismatch, Tally, compare
from support.vector_programs import EXTENSIONS, VLENS, generate
from wirt import isa


def test_agrees_with_spike():
    tally = Tally()
    for vlen in VLENS:
        compare(generate(vlen, vlen, chunks=16), tally)
    names = {row.name for row in isa.instructions() if row.extension in EXTENSIONS}
    assert len(names & set(tally.by_name)) > 0.7 * len(names)


def test_agrees_with_spike_on_a_fresh_seed(fresh_seed):
    compare(generate(fresh_seed, VLENS[fresh_seed % len(VLENS)]), trace=False)


def test_a_wrong_vector_register_is_noticed(monkeypatch):
    genuine = spike.parse_commits

    def forged(log):
        for i, commit in enumerate(genuine(log)):
            if i >= 500 and commit.writes and commit.writes[-1][0].startswith("v") and commit.writes[-1][0] != "vl":
                name, value = commit.writes[-1]
                commit.writes[-1] = (name, value ^ 1 << 40)
            yield commit

    monkeypatch.setattr(comparison.spike, "parse_commits", forged)
    with pytest.raises(Mismatch, match="writes v"):
        compare(generate(0, 128, chunks=5))
