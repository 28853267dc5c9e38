"""Sizes as people write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

import wirt
from wirt.sizes import format_size, parse_size


@pytest.mark.parametrize(
    ("text", "size"),
    [("512M", 512 << 20), ("1g", 1 << 30), ("64 KiB", 64 << 10), ("2KB", 2048), ("7", 7), ("1T", 1 << 40), (9, 9)],
)
def test_sizes(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "M", "-1", "1.5G", "1E", "0x10", None, 1.0, True, "1 2"])
def test_no_sizes(text):
    with pytest.raises(wirt.ConfigError):
        parse_size(text)


@given(st.integers(min_value=0, max_value=1 << 62), st.sampled_from(["", "K", "M", "G", "T"]))
def test_units_are_powers_of_1024(number, unit):
    assert parse_size(f"{number}{unit}") == number << 10 * ["", "K", "M", "G", "T"].index(unit)


def test_format():
    assert [format_size(n) for n in (0, 17, 4096, 1536 << 20)] == ["0 B", "17 B", "4 KiB", "1.5 GiB"]
