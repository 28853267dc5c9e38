"""The guest's consoles, from the host's side."""

from __future__ import annotations

import os
import re
import select
import sys
import time
from collections.abc import Callable, Sequence
from typing import BinaryIO

from wirt import _core
from wirt.errors import ConsoleClosed, ConsoleTimeout

__all__ = ["Console", "Match", "Pattern"]

Pattern = str | bytes | re.Pattern[str] | re.Pattern[bytes]

_TAIL_CHARACTERS = 2000
_SLICE_S = 0.05
_ESCAPE_KEY = 0x1D  # Ctrl-]


class Match:
    """What :meth:`Console.expect` found.

    Attributes:
        index: which of the patterns it was.
        before: the output since the last match, up to this one.
        text: what matched.
        groups: the groups of a regular expression.
    """

    def __init__(self, index: int, before: str, text: str, groups: tuple[str | None, ...]) -> None:
        self.index = index
        self.before = before
        self.text = text
        self.groups = groups

    def __repr__(self) -> str:
        return f"<wirt.Match {self.index}: {self.text!r}>"


class Console:
    """One console of the guest: its output so far, and its input.

    ``expect`` and ``read`` share one position in the output: each goes on where the last one ended. Undecodable
    bytes become U+FFFD.
    """

    def __init__(self, core: _core.Console, running: Callable[[], bool]) -> None:
        self._core = core
        self._running = running
        self._read_to = 0  # absolute position behind `_pending`
        self._pending = b""  # read from the guest, not yet consumed

    def _rewind(self) -> None:
        """The machine went back: what is printed from here on is new."""
        self._read_to = self._core.written
        self._pending = b""

    @property
    def name(self) -> str:
        """Which console it is."""
        return self._core.name

    @property
    def output(self) -> str:
        """All that the guest has printed (at least the last 4 MiB); reading it consumes nothing."""
        return _decode(self._core.read(0)[0])

    def send(self, data: str | bytes) -> None:
        r"""Gives the guest input, as typed: end a line with ``\n``."""
        self._core.send(data.encode() if isinstance(data, str) else data)

    def read(self, timeout: float = 0.0) -> bytes:
        """New output, as bytes; waits up to ``timeout`` seconds for the first of it."""
        if not self._pending:
            self._fill(timeout)
        data, self._pending = self._pending, b""
        return data

    def expect(self, patterns: Pattern | Sequence[Pattern], timeout: float | None = 60.0) -> Match:
        """Waits until the guest prints something.

        Text is searched as it stands; give a compiled regular expression for more. Of several patterns the one that
        matches first in the output wins, then the one that comes first in the list. Output up to the end of the match
        is consumed.

        Args:
            patterns: one pattern or several.
            timeout: seconds; None waits as long as the machine runs.

        Raises:
            ConsoleTimeout: it did not come in time; the error carries the console's tail.
            ConsoleClosed: the machine stopped without it.
        """
        if isinstance(patterns, str | bytes | re.Pattern):
            patterns = [patterns]
        expressions = [_compile(pattern) for pattern in patterns]
        deadline = None if timeout is None else time.monotonic() + timeout
        while True:
            # Asked before reading: what was printed before the stop is then surely read below.
            running = self._running()
            self._fill(0.0)
            found = [
                (match.start(), index, match)
                for index, e in enumerate(expressions)
                if (match := e.search(self._pending))
            ]
            if found:
                start, index, match = min(found, key=lambda item: item[:2])
                before = self._pending[:start]
                self._pending = self._pending[match.end() :]
                groups = tuple(None if group is None else _decode(group) for group in match.groups())
                return Match(index, _decode(before), _decode(match.group()), groups)
            if not running:
                raise ConsoleClosed(
                    self._complaint("the machine does not run and has not printed", patterns), self.tail
                )
            left = _SLICE_S if deadline is None else min(_SLICE_S, deadline - time.monotonic())
            if left <= 0:
                raise ConsoleTimeout(self._complaint(f"the guest did not print in {timeout} s", patterns), self.tail)
            self._fill(left)

    @property
    def tail(self) -> str:
        """The last 2000 characters of output."""
        return self.output[-_TAIL_CHARACTERS:]

    def interact(
        self, stdin: BinaryIO | None = None, stdout: BinaryIO | None = None, timeout: float | None = None
    ) -> bool:
        """Makes the terminal the guest's console until Ctrl-] is typed or the machine stops.

        The terminal is put into raw mode, so that Ctrl-C and the like reach the guest, and is restored at the end.
        Where standard input is no terminal it is sent as it is; its end does not end the session.

        Args:
            stdin: the terminal; standard input unless given.
            stdout: where the guest's output goes; standard output unless given.
            timeout: seconds after which it returns in any case.

        Returns:
            True when Ctrl-] was typed, False when time was up or the machine does not run (any more).
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        with _Terminal(stdin or sys.stdin.buffer) as terminal:
            out = stdout or sys.stdout.buffer
            # From where the last expect() or read() ended: what was printed meanwhile belongs on the screen.
            position = self._read_to - len(self._pending)
            self._pending = b""
            while True:
                running = self._running()
                data, position = self._core.read(position, 0.01 if terminal.open else _SLICE_S)
                if data:
                    out.write(data)
                    out.flush()
                    self._read_to = position
                typed = terminal.read()
                if terminal.is_terminal and bytes([_ESCAPE_KEY]) in typed:
                    self.send(typed.partition(bytes([_ESCAPE_KEY]))[0])
                    return True
                if typed:
                    self.send(typed)
                if not running and not data:
                    return False
                if deadline is not None and time.monotonic() >= deadline:
                    return False

    def _fill(self, timeout: float) -> None:
        data, self._read_to = self._core.read(self._read_to, timeout)
        self._pending += data

    def _complaint(self, what: str, patterns: Sequence[Pattern]) -> str:
        wanted = " or ".join(repr(p.pattern if isinstance(p, re.Pattern) else p) for p in patterns)
        tail = self.tail
        return f"{what} {wanted}; its last output was:\n{tail}" if tail else f"{what} {wanted}, nor anything else"

    def __repr__(self) -> str:
        return f"<wirt.Console {self.name}, {self._core.written} bytes written>"


class _Terminal:
    """Standard input, in raw mode if it is a terminal, read without waiting."""

    def __init__(self, file: BinaryIO) -> None:
        self._descriptor = file.fileno()
        self.is_terminal = os.isatty(self._descriptor)
        self.open = True
        self._saved: list[object] | None = None

    def __enter__(self) -> _Terminal:
        if self.is_terminal:
            import termios
            import tty

            self._saved = termios.tcgetattr(self._descriptor)
            tty.setraw(self._descriptor)
        return self

    def __exit__(self, *_: object) -> None:
        if self._saved is not None:
            import termios

            termios.tcsetattr(self._descriptor, termios.TCSADRAIN, self._saved)  # type: ignore[arg-type]

    def read(self) -> bytes:
        if not self.open or not select.select([self._descriptor], [], [], 0)[0]:
            return b""
        data = os.read(self._descriptor, 4096)
        self.open = bool(data)
        return data


def _compile(pattern: Pattern) -> re.Pattern[bytes]:
    if isinstance(pattern, str):
        return re.compile(re.escape(pattern.encode()))
    if isinstance(pattern, bytes):
        return re.compile(re.escape(pattern))
    if isinstance(pattern.pattern, bytes):
        return re.compile(pattern.pattern, pattern.flags)
    # A bytes expression has no Unicode classes; ASCII ones are what consoles speak.
    return re.compile(pattern.pattern.encode(), pattern.flags & ~re.UNICODE)


def _decode(data: bytes) -> str:
    return data.decode("utf-8", "replace")
