"""Where Wirt keeps what it can fetch or build again."""

from __future__ import annotations

import os
import sys
from pathlib import Path

__all__ = ["cache_dir"]


def cache_dir() -> Path:
    """The platform's cache directory for Wirt; not created.

    ``WIRT_CACHE_DIR`` overrides it. Otherwise ``$XDG_CACHE_HOME/wirt`` or ``~/.cache/wirt`` (XDG Base Directory
    Specification), and ``~/Library/Caches/wirt`` on macOS.
    """
    override = os.environ.get("WIRT_CACHE_DIR")
    if override:
        return Path(override)
    # The specification has relative values ignored.
    xdg = os.environ.get("XDG_CACHE_HOME", "")
    if xdg and Path(xdg).is_absolute():
        return Path(xdg) / "wirt"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "wirt"
    return Path.home() / ".cache" / "wirt"
