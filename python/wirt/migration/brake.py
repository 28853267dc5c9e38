"""Slows a guest that writes faster than its memory can be sent: a duty cycle of the harts."""

from __future__ import annotations

import threading
import time

from wirt import _core

__all__ = ["Brake"]


class Brake:
    """Off at first; a thread turns the harts off and on.

    Attributes:
        strength: the part of the time in which the harts stand still, 0 to 1.
    """

    MOST = 0.95
    _FIRST, _STEP = 0.2, 0.15
    _PERIOD_S = 0.02

    def __init__(self, machine: _core.Machine) -> None:
        self._machine = machine
        self.strength = 0.0
        self._end = threading.Event()
        self._thread: threading.Thread | None = None
        self._since = 0.0

    def harder(self) -> None:
        """A step more."""
        self.strength = min(self.strength + self._STEP if self.strength else self._FIRST, self.MOST)
        if self._thread is None:
            self._since = time.monotonic()
            self._thread = threading.Thread(target=self._run, name="wirt-brake", daemon=True)
            self._thread.start()

    @property
    def total(self) -> float:
        """Seconds since it was first on."""
        return time.monotonic() - self._since if self._thread is not None else 0.0

    def _run(self) -> None:
        while not self._end.is_set():
            _core.set_brake(self._machine, True)
            self._end.wait(self._PERIOD_S * self.strength)
            _core.set_brake(self._machine, False)
            self._end.wait(self._PERIOD_S * (1 - self.strength))

    def close(self) -> None:
        """Off for good."""
        self._end.set()
        if self._thread is not None:
            self._thread.join()
            _core.set_brake(self._machine, False)
