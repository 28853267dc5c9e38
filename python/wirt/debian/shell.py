"""A shell in a guest, spoken to over its console: commands in, their output and status back.

Any Bourne shell at its prompt will do, on any console; the kernel's own messages should go to another one, or the guest
be quiet. What a guest prints is data: nothing of it is interpreted but the markers around a command's output.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from wirt.console import Console

__all__ = ["CommandFailed", "Result", "Shell"]

# The quotes are for the echo of what was typed: the shell removes them, so only its output holds the bare words.
_LINE = "echo BEG''IN; {{ {command}\n}}; echo E''ND:$?\n"
_BEGIN = re.compile(r"BEGIN\r?\n")
_END = re.compile(r"END:(\d+)\r?\n")


class CommandFailed(Exception):
    """A command in the guest ended with another status than 0; the message holds its output."""


@dataclass(frozen=True)
class Result:
    """What a command printed on the console, and its exit status."""

    output: str
    status: int


class Shell:
    """The shell behind a console, at its prompt.

    Args:
        console: the machine's console.

    Example:
        >>> vm.console.expect("/ # ")
        >>> Shell(vm.console).check("uname -r")
    """

    def __init__(self, console: Console) -> None:
        self._console = console

    def run(self, command: str, timeout: float = 60.0) -> Result:
        """Runs a command and waits for its end.

        Args:
            command: one or more lines of shell; all of their output is the console's.
            timeout: seconds.

        Raises:
            ConsoleTimeout, ConsoleClosed: it did not end.
        """
        self._console.send(_LINE.format(command=command))
        self._console.expect(_BEGIN, timeout)
        found = self._console.expect(_END, timeout)
        return Result(found.before.replace("\r\n", "\n"), int(found.groups[0] or -1))

    def check(self, command: str, timeout: float = 60.0) -> str:
        """Runs one that must succeed; what it printed, without white space around it.

        Args:
            command: as for :meth:`run`.
            timeout: seconds.

        Raises:
            CommandFailed: its status was not 0.
        """
        result = self.run(command, timeout)
        if result.status != 0:
            raise CommandFailed(f"{command}: status {result.status}\n{result.output}")
        return result.output.strip()
