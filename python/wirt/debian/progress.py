"""How a long fetch tells its caller what it is doing."""

from __future__ import annotations

from typing import Protocol

__all__ = ["Progress", "silent"]


class Progress(Protocol):
    """Receives the steps of a pull; the command line draws them."""

    def step(self, text: str) -> None:
        """A new step begins; the one before is done."""

    def fraction(self, done: float) -> None:
        """How much of the present step is done, 0 to 1. Steps of unknown length never call it."""


class _Silent:
    def step(self, text: str) -> None:
        pass

    def fraction(self, done: float) -> None:
        pass


silent: Progress = _Silent()
