"""``wirt receive``: the terminal becomes the console of a machine that comes from elsewhere."""

from __future__ import annotations

from pathlib import Path

import click

from wirt.cli.machine_options import parse_disk
from wirt.cli.migrate import secret_of, security_options, tls_of
from wirt.cli.run import interact
from wirt.machine import Machine

__all__ = ["command"]

_CONFIRMATION_S = 60.0


@click.command("receive")
@click.argument("address")
@security_options
@click.option(
    "--disk",
    "-d",
    multiple=True,
    metavar="FILE[,OPTION...]",
    help="A disk for each of the machine's; with the option `incoming`, a file that the other host hands over.",
)
@click.option("--timeout", type=click.FloatRange(0), metavar="SECONDS", help="How long to wait for a machine.")
@click.option("--control", metavar="unix:/PATH", help="Let `wirt migrate` move it on.")
def command(
    address: str,
    cert: Path | None,
    key: Path | None,
    ca: Path | None,
    secret_file: Path | None,
    disk: tuple[str, ...],
    timeout: float | None,
    control: str | None,
) -> None:
    """Wait for a machine that `wirt migrate` sends, and run it with this terminal as its console.

    ADDRESS is tcp://HOST:PORT (with TLS, or on loopback with a secret) or unix:/PATH.
    """
    click.echo(f"wirt: waiting for a machine at {address}", err=True)
    vm = Machine.receive(
        address,
        disks=[parse_disk(text) for text in disk],
        tls=tls_of(cert, key, ca),
        secret=secret_of(secret_file),
        timeout=timeout,
    )
    reception = vm.migration
    with vm:
        click.echo("wirt: the machine is here", err=True)
        status = interact(vm, None, control)
    # A source that has not heard of it would run the machine once more.
    if reception is not None and hasattr(reception, "await_confirmation"):
        reception.await_confirmation(_CONFIRMATION_S)
    raise click.exceptions.Exit(status)
