"""The guest's keyboard and tablet, from the host's side."""

from __future__ import annotations

from collections.abc import Sequence

from wirt import _core, evdev
from wirt.errors import ConfigError, StateError

__all__ = ["Keyboard", "Tablet"]

_Report = Sequence[tuple[int, int, int]]


class _Device:
    def __init__(self, core: _core.Input) -> None:
        self._core = core

    def report(self, events: _Report) -> None:
        """Sends events that belong to one moment.

        Args:
            events: (type, code, value), with the numbers of linux/input-event-codes.h.

        Raises:
            StateError: the guest has taken nothing for thousands of events; this report is dropped.
        """
        if not self._core.send(events):
            raise StateError("the guest takes no input: it has no driver for it, or is not running")


class Keyboard(_Device):
    """A keyboard with a US layout.

    What is sent before the guest has a driver waits for it.
    """

    def type(self, text: str) -> None:
        r"""Types a text of ASCII characters; ``\n`` is Enter.

        Raises:
            ConfigError: a character has no key; nothing is then typed.
            StateError: as for :meth:`report`.
        """
        keys = []
        for character in text:
            key = evdev.key_for_character(character)
            if key is None:
                raise ConfigError(f"{character!r}: is on no key of a US keyboard")
            keys.append(key)
        shift = evdev.KEYS["shift"]
        for code, shifted in keys:
            self._chord([shift, code] if shifted else [code])

    def press(self, *keys: str) -> None:
        """Presses keys one after the other and lets go of them, last first.

        Args:
            keys: names as in ``wirt.evdev.KEYS``, or single characters: ``press("ctrl", "alt", "delete")``.

        Raises:
            ConfigError: there is no such key.
            StateError: as for :meth:`report`.
        """
        codes = []
        for name in keys:
            found = evdev.KEYS.get(name)
            if found is None and len(name) == 1 and (key := evdev.key_for_character(name)):
                found = key[0]
            if found is None:
                raise ConfigError(f"{name!r}: is no key; wirt.evdev.KEYS has their names")
            codes.append(found)
        self._chord(codes)

    def key(self, code: int, down: bool) -> None:
        """Presses or releases one key by its code.

        Raises:
            StateError: as for :meth:`report`.
        """
        self.report([(evdev.EV_KEY, code, int(down))])

    @property
    def leds(self) -> set[str]:
        """Which of ``num``, ``caps`` and ``scroll`` the guest has switched on."""
        return {name for bit, name in enumerate(evdev.LEDS) if self._core.leds >> bit & 1}

    def _chord(self, codes: Sequence[int]) -> None:
        for code in codes:
            self.key(code, True)
        for code in reversed(codes):
            self.key(code, False)


class Tablet(_Device):
    """A pointing device with absolute coordinates, which need not be captured and drifts nowhere."""

    def move(self, x: float, y: float) -> None:
        """Moves the pointer.

        Args:
            x: 0.0 is the left edge of the display and 1.0 the right one; beyond them is at the edge.
            y: the same from top to bottom.

        Raises:
            StateError: as for :meth:`report`.
        """
        self.report(self.position(x, y))

    def click(self, button: str = "left") -> None:
        """Presses a button and lets go of it: ``left``, ``right``, ``middle``, ``side`` or ``extra``.

        Raises:
            ConfigError: there is no such button.
            StateError: as for :meth:`report`.
        """
        code = evdev.BUTTONS.get(button)
        if code is None:
            raise ConfigError(f"{button!r}: is none of {', '.join(evdev.BUTTONS)}")
        self.report([(evdev.EV_KEY, code, 1)])
        self.report([(evdev.EV_KEY, code, 0)])

    def scroll(self, vertical: int = 0, horizontal: int = 0) -> None:
        """Turns the wheel by steps: up and to the right when positive.

        Raises:
            StateError: as for :meth:`report`.
        """
        steps = ((evdev.REL_WHEEL, vertical), (evdev.REL_HWHEEL, horizontal))
        if report := [(evdev.EV_REL, code, value) for code, value in steps if value]:
            self.report(report)

    @staticmethod
    def position(x: float, y: float) -> list[tuple[int, int, int]]:
        """The events of a move, to be sent together with others."""
        scaled = [round(min(max(value, 0.0), 1.0) * evdev.TABLET_RANGE) for value in (x, y)]
        return [(evdev.EV_ABS, evdev.ABS_X, scaled[0]), (evdev.EV_ABS, evdev.ABS_Y, scaled[1])]
