"""Makes the shared support importable, and draws the seed of this run."""

import os
import random
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))


@pytest.fixture(scope="session")
def fresh_seed(pytestconfig) -> int:
    """Another one each time; WIRT_SEED=... repeats a run."""
    seed = int(os.environ.get("WIRT_SEED") or random.SystemRandom().getrandbits(32))
    with pytestconfig.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        print(f"\nfresh seed of the conformance tests: WIRT_SEED={seed}")
    return seed
