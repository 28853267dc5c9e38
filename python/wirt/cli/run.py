"""``wirt run``: the terminal becomes the console of a machine."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Unpack

import click

from wirt.cli.machine_options import MachineOptions, build_machine, machine_options
from wirt.machine import Machine

__all__ = ["command"]

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
@click.pass_context
def command(
    ctx: click.Context,
    stats: bool,
    timeout: float | None,
    vnc: str | None,
    restore: Path | None,
    snapshot_to: Path | None,
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
        if sys.stdin.isatty():
            click.echo("wirt: Ctrl-] leaves the console", err=True)
        status = _interact(vm, timeout)
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


def _interact(vm: Machine, timeout: float | None) -> int:
    left = vm.console.interact(timeout=timeout)
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
