"""Makes the shared support importable, and draws the seed of this run."""

import os
import random
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))


@pytest.fixture(scope="session")
def fresh_seed() -> int:
    """Another one each time; WIRT_SEED=... repeats a run."""
    seed = int(os.environ.get("WIRT_SEED") or random.SystemRandom().getrandbits(32))
    print(f"\nfresh seed: WIRT_SEED={seed}")
    return seed
