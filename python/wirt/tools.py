"""Programs of the host that Wirt runs: apt, gpgv, compilers."""

from __future__ import annotations

import os

__all__ = ["tool_environment"]


def tool_environment(**extra: str) -> dict[str, str]:
    """The environment for a program of the host: messages in English, and nothing preloaded.

    What is preloaded into this Python, such as a sanitizer's runtime, is not meant for others: gpgv hangs in it.
    """
    inherited = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    return inherited | {"LC_ALL": "C"} | extra
