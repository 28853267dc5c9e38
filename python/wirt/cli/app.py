"""The command ``wirt``: its subcommands and how errors end it."""

from __future__ import annotations

import sys
from typing import Any, NoReturn

import click

from wirt import __version__
from wirt.errors import (
    ConfigError,
    ConsoleClosed,
    ConsoleTimeout,
    ImageError,
    NetworkError,
    PullError,
    SnapshotError,
    StateError,
    StorageError,
    WirtError,
)

__all__ = ["cli", "exit_status", "run"]

# Apart from what a shell, click (2) and a guest's own small codes use.
_STATUS: tuple[tuple[type[WirtError], int], ...] = (
    (ConfigError, 71),
    (ImageError, 72),
    (StorageError, 73),
    (NetworkError, 74),
    (StateError, 75),
    (PullError, 76),
    (ConsoleTimeout, 77),
    (ConsoleClosed, 77),
    (SnapshotError, 78),
    (WirtError, 70),
)
_INTERRUPTED = 130


def exit_status(error: WirtError) -> int:
    """The exit status that the command ends with for an error; ``wirt --help`` lists them."""
    return next(status for kind, status in _STATUS if isinstance(error, kind))


class _LazyGroup(click.Group):
    """Imports a subcommand when it is called, so that each starts as fast as what it needs."""

    _commands = ("bench", "demo", "doctor", "inspect", "migrate", "pull", "receive", "run", "snapshot")

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self._commands)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self._commands:
            return None
        from importlib import import_module

        command: Any = import_module(f"wirt.cli.{cmd_name}").command
        assert isinstance(command, click.Command)
        return command


@click.group(
    cls=_LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=(
        "Exit status: 0; the guest's own code (1 to 69, larger ones as 69); 2 wrong usage; 70 other errors; 71 "
        "configuration; 72 image; 73 disk; 74 network; 75 state; 76 pull; 77 console; 78 snapshot; 130 interrupted."
    ),
)
@click.version_option(__version__, prog_name="wirt")
def cli() -> None:
    """Virtual machines inside one process: unmodified RISC-V guests, no KVM, no root, no daemon."""


def run() -> NoReturn:
    """Runs the command; a WirtError becomes one line on standard error and a status of its own."""
    try:
        # What a command gives ctx.exit() or Exit() comes back as the value of the call.
        status = cli(standalone_mode=False)
        sys.exit(status if isinstance(status, int) else 0)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        click.echo("wirt: interrupted", err=True)
        sys.exit(_INTERRUPTED)
    except WirtError as error:
        click.echo(f"wirt: {error}", err=True)
        sys.exit(exit_status(error))
    except BrokenPipeError:
        # Whoever read our output has had enough.
        sys.stderr.close()
        sys.exit(0)
    except OSError as error:
        # A file to be written, for the most part.
        click.echo(f"wirt: {error.filename or 'the system'}: {error.strerror or error}", err=True)
        sys.exit(exit_status(WirtError()))
