"""What the tests with real guests start from."""

from __future__ import annotations

import pytest

from wirt.debian import Guest, cached_guest


@pytest.fixture(scope="session")
def debian() -> Guest:
    guest = cached_guest("debian")
    if guest is None:
        pytest.fail("there is no Debian kernel in the cache: run `wirt pull debian`")
    return guest
