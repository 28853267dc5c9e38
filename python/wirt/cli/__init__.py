"""The command line. What can be done here can be done from Python with as many words."""

from __future__ import annotations

__all__ = ["main"]


def main() -> None:
    """Entry point of the command ``wirt``."""
    from wirt.cli.app import run

    run()
