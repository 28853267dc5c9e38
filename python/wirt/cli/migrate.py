"""``wirt migrate``: moves a running machine to where ``wirt receive`` waits; and ``wirt receive``'s options."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from wirt.cli.output import progress_bar
from wirt.errors import ConfigError
from wirt.migration.progress import MigrationProgress
from wirt.sizes import format_size, parse_size

__all__ = ["command", "secret_of", "security_options", "tls_of"]

_F = TypeVar("_F", bound=Callable[..., Any])


def security_options(function: _F) -> _F:
    """Adds what both sides need to know each other by."""
    file = click.Path(exists=True, dir_okay=False, path_type=Path)
    for option in (
        click.option("--secret-file", type=file, help="A file with what both sides know, 16 bytes at least."),
        click.option("--ca", type=file, help="PEM file of who signs the other side's certificate."),
        click.option("--key", type=file, help="PEM file of this side's private key."),
        click.option("--cert", type=file, help="PEM file of this side's certificate; TLS is used then."),
    ):
        function = option(function)
    return function


def tls_of(cert: Path | None, key: Path | None, ca: Path | None) -> dict[str, str] | None:
    """What ``tls=`` takes."""
    if cert is None and key is None and ca is None:
        return None
    if cert is None or key is None or ca is None:
        raise ConfigError("TLS needs --cert, --key and --ca")
    return {"cert": str(cert.resolve()), "key": str(key.resolve()), "ca": str(ca.resolve())}


def secret_of(file: Path | None) -> str | None:
    """What ``secret=`` takes."""
    return None if file is None else file.read_text(encoding="utf-8").strip()


@click.command("migrate")
@click.argument("control")
@click.argument("address", required=False)
@security_options
@click.option("--mode", type=click.Choice(["precopy", "postcopy", "hybrid"]), default="precopy", show_default=True)
@click.option("--downtime", type=float, default=0.3, show_default=True, metavar="SECONDS", help="At most.")
@click.option("--streams", type=click.IntRange(1, 16), default=1, show_default=True, help="Connections side by side.")
@click.option("--storage", is_flag=True, help="Send the content of disks along.")
@click.option("--bandwidth", metavar="SIZE", help="Bytes a second at most, such as 100M.")
@click.option("--timeout", type=float, metavar="SECONDS", help="Give up after so long.")
@click.option(
    "--resolve", type=click.Choice(["ask", "here", "there"]), help="End a doubt: where the machine is, or ask there."
)
def command(
    control: str,
    address: str | None,
    cert: Path | None,
    key: Path | None,
    ca: Path | None,
    secret_file: Path | None,
    mode: str,
    downtime: float,
    streams: int,
    storage: bool,
    bandwidth: str | None,
    timeout: float | None,
    resolve: str | None,
) -> None:
    """Move the machine of a `wirt run --control CONTROL` to a `wirt receive ADDRESS`, while it runs.

    Both are tcp://HOST:PORT or unix:/PATH, CONTROL the latter.
    """
    from wirt.cli.control import ask

    if resolve is not None:
        here = {"ask": None, "here": True, "there": False}[resolve]
        click.echo(f"the migration is {ask(control, 'resolve', {'here': here}, lambda _: None)}")
        return
    if address is None:
        raise click.UsageError("ADDRESS is missing: where `wirt receive` waits")
    arguments: dict[str, Any] = {
        "to": address,
        "mode": mode,
        "downtime": downtime,
        "streams": streams,
        "storage": storage,
        "tls": tls_of(cert, key, ca),
        "secret": secret_of(secret_file),
        "bandwidth": None if bandwidth is None else float(parse_size(bandwidth, "bandwidth")),
        "timeout": timeout,
    }
    with progress_bar(quiet=False) as bar:
        task = bar.add_task("connecting", total=None)
        most = 1

        def show(progress: MigrationProgress) -> None:
            nonlocal most
            left = progress.remaining_pages * 4096 + progress.remaining_disk_bytes
            most = max(most, left)
            text = f"{progress.phase} {progress.round}: {format_size(left)} left"
            if progress.bandwidth:
                text += f", {format_size(int(progress.bandwidth))}/s"
            if progress.dirty_rate:
                text += f", written {format_size(int(progress.dirty_rate))}/s"
            if progress.throttle:
                text += f", slowed by {progress.throttle:.0%}"
            text += f", stands still {progress.expected_downtime * 1000:.0f} ms"
            bar.update(task, description=text, total=most, completed=most - left)

        report = ask(control, "migrate", arguments, show)
    assert isinstance(report, dict)
    click.echo(
        f"moved in {report['total_time']:.2f} s, {format_size(report['sent_bytes'])}, "
        f"the guest stood still for {report['downtime'] * 1000:.1f} ms"
    )
