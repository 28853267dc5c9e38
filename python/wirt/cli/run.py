"""``wirt run``: the terminal becomes the console of a machine."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Unpack

import click

from wirt.cli.machine_options import MachineOptions, build_machine, machine_options
from wirt.machine import Machine

__all__ = ["command", "interact"]

_LARGEST_GUEST_CODE = 69


@click.command("run")
@machine_options
@click.option("--stats", is_flag=True, help="Print the machine's counters as JSON on standard error at the end.")
@click.option(
    "--timeout", type=click.FloatRange(0), metavar="SECONDS", help="End the machine after so long, with status 124."
)
@click.option(
    "--vnc",
    metavar="ADDRESS",
    help="Show the display to VNC viewers: :N, 127.0.0.1:PORT or unix:PATH (--display bochs unless said).",
)
@click.option(
    "--restore", type=click.Path(path_type=Path), metavar="PATH", help="Go on from a snapshot; no GUEST and no machine."
)
@click.option(
    "--snapshot",
    "snapshot_to",
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="Take a snapshot when you leave the console, or when time is up, with disks in memory in it.",
)
@click.option("--control", metavar="unix:/PATH", help="Let `wirt migrate` of the same user move the machine.")
@click.pass_context
def command(
    ctx: click.Context,
    stats: bool,
    timeout: float | None,
    vnc: str | None,
    restore: Path | None,
    snapshot_to: Path | None,
    control: str | None,
    **options: Unpack[MachineOptions],
) -> None:
    """Run a guest with this terminal as its console; Ctrl-] leaves it.

    GUEST is debian or debian-installer once pulled, or demo, the guest inside this package; or give --kernel or
    --firmware. The exit status is the guest's.
    """
    if restore is not None:
        _refuse_machine_options(ctx)
    elif vnc is not None and options["display"] is None:
        options["display"] = "bochs"
    with Machine.restore(restore) if restore is not None else build_machine(options) as vm:
        if vnc is not None:
            click.echo(f"wirt: VNC viewers connect to {vm.vnc(vnc).address}", err=True)
        vm.start()
        status = interact(vm, timeout, control)
        if snapshot_to is not None:
            _take_snapshot(vm, snapshot_to)
        if stats:
            click.echo(_stats(vm), err=True)
    raise click.exceptions.Exit(status)


def _refuse_machine_options(ctx: click.Context) -> None:
    """A snapshot says which machine it is of."""
    given = [
        name
        for name in MachineOptions.__required_keys__
        if ctx.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE
    ]
    if given:
        raise click.UsageError(
            f"--restore goes on with the snapshot's own machine: leave out {', '.join(sorted(given))}"
        )


def _take_snapshot(vm: Machine, path: Path) -> None:
    if vm.state not in ("running", "paused"):
        click.echo("wirt: no snapshot: the guest has ended", err=True)
        return
    vm.pause()
    # Disks that a snapshot cannot refer to are few and small: those in memory and ephemeral ones.
    included = any(disk._opened().identity() is None for disk in vm.disks)
    snapshot = vm.snapshot(path, disks="include" if included else "reference")
    click.echo(f"\r\nwirt: {snapshot.path}; go on with: wirt run --restore {path}", err=True)


def interact(vm: Machine, timeout: float | None, control: str | None) -> int:
    """The terminal is the console, until the machine ends or goes elsewhere; the command's exit status."""
    if sys.stdin.isatty():
        click.echo("wirt: Ctrl-] leaves the console", err=True)
    if control is None:
        return _interact(vm, timeout)
    from wirt.cli.control import Control

    socket = Control(vm, control)
    try:
        return _interact(vm, timeout)
    finally:
        socket.close()


def _undecided(vm: Machine) -> bool:
    return vm.migration is not None and vm.migration.state in ("switching", "in doubt", "post-copy", "interrupted")


def _interact(vm: Machine, timeout: float | None) -> int:
    while True:
        left = vm.console.interact(timeout=timeout)
        if left or not (vm.state == "running" or _undecided(vm)):
            break
        # Paused to be switched over. Leaving now would be the end of it, here or there.
        said = False
        while _undecided(vm):
            if vm.migration is not None and vm.migration.state == "in doubt" and not said:
                said = True
                click.echo("\r\nwirt: it is not known whether the machine runs there: wirt migrate --resolve", err=True)
            time.sleep(0.05)
        if vm.state != "running" or timeout is not None:
            break
    if vm.migration is not None and vm.migration.state == "completed":
        click.echo("\r\nwirt: the machine runs elsewhere now", err=True)
        return 0
    if vm.state == "running":
        if left:
            return 0
        click.echo(f"\r\nwirt: time is up after {timeout} s", err=True)
        return 124
    # What a Python device raised, or nothing.
    vm.wait(0)
    code = vm.exit_code
    if code is None:
        click.echo(f"\r\nwirt: the machine stopped ({vm.stop_reason})", err=True)
        return _LARGEST_GUEST_CODE
    return min(code, _LARGEST_GUEST_CODE)


def _stats(vm: Machine) -> str:
    import json

    return json.dumps(vm.stats().as_json(), indent=2)
