"""What the subcommands share: JSON, progress, the rich console."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress

__all__ = ["PullProgress", "json_option", "print_json", "progress_bar"]

_F = TypeVar("_F", bound=Callable[..., Any])


def json_option(function: _F) -> _F:
    """Adds ``--json`` to a command."""
    return click.option("as_json", "--json", is_flag=True, help="Print JSON for a program to read.")(function)


def print_json(value: object) -> None:
    """One JSON document on standard output."""
    click.echo(json.dumps(value, indent=2))


@contextmanager
def progress_bar(*, quiet: bool) -> Iterator[RichProgress]:
    """A progress display on standard error that leaves nothing behind; silent where nobody watches."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    console = Console(stderr=True, quiet=quiet)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=quiet or not console.is_terminal) as progress:
        yield progress


class PullProgress:
    """Shows the steps of a pull: a bar on a terminal, a line a step elsewhere."""

    def __init__(self, progress: RichProgress, *, quiet: bool) -> None:
        self._progress = progress
        self._quiet = quiet
        self._task = progress.add_task("", total=None)

    def step(self, text: str) -> None:
        """A new step begins."""
        self._progress.update(self._task, description=text, total=None, completed=0)
        if self._progress.disable and not self._quiet:
            click.echo(text, err=True)

    def fraction(self, done: float) -> None:
        """How much of it is done, 0 to 1."""
        self._progress.update(self._task, total=1.0, completed=done)
