"""Sizes as people write them."""

from __future__ import annotations

import re

from wirt.errors import ConfigError

__all__ = ["format_size", "parse_size"]

_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def parse_size(size: int | str, what: str = "size") -> int:
    """Bytes, from a count of bytes or a text such as ``"512M"``, ``"1G"`` or ``"64K"`` (powers of 1024).

    Args:
        size: a number of bytes, or digits and an optional K, M, G or T (``KiB`` and ``KB`` mean the same).
        what: what the size is of, for the error.

    Raises:
        ConfigError: it is no size.
    """
    if isinstance(size, bool) or not isinstance(size, int | str):
        raise ConfigError(f'{what} {size!r}: give a number of bytes or a text such as "512M"')
    if isinstance(size, int):
        return size
    match = re.fullmatch(r"\s*(\d+)\s*([KMGT]?)(?:i?B)?\s*", size, re.IGNORECASE)
    if match is None:
        raise ConfigError(f'{what} {size!r}: give a number of bytes or a text such as "512M", "1G" or "64K"')
    return int(match[1]) * _UNITS[match[2].upper()]


def format_size(size: float) -> str:
    """A size in the unit that keeps it short: ``1.5 GiB``, ``512 MiB``, ``17 B``."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.4g} {unit}"
        size /= 1024
    return f"{size:.4g} TiB"
