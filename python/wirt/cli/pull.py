"""``wirt pull``: fetches guests."""

from __future__ import annotations

import click

from wirt.cli.output import PullProgress, json_option, print_json, progress_bar
from wirt.debian.pull import DEFAULT_SUITE, pull_debian, pull_installer

__all__ = ["command"]

_GUESTS = {"debian": pull_debian, "debian-installer": pull_installer}


@click.command("pull")
@click.argument("guest", type=click.Choice(list(_GUESTS)))
@click.option("--suite", default=DEFAULT_SUITE, show_default=True, help="Debian suite with riscv64, e.g. sid.")
@click.option("--mirror", metavar="URL", help="Archive to fetch from [default: $WIRT_DEBIAN_MIRROR, then apt's own].")
@click.option("--insecure", is_flag=True, help="Go on where nothing here can check the archive's signature.")
@json_option
def command(guest: str, suite: str, mirror: str | None, insecure: bool, as_json: bool) -> None:
    """Fetch a guest's kernel and initramfs, verified, into the cache.

    debian is the distribution's kernel with a small initramfs (busybox and the drivers for this machine);
    debian-installer is its network installer. Nothing is installed on this host.
    """
    with progress_bar(quiet=as_json) as progress:
        pulled = _GUESTS[guest](suite, mirror=mirror, insecure=insecure, progress=PullProgress(progress, quiet=as_json))
    if as_json:
        print_json(pulled.as_json())
        return
    click.echo(f"kernel  {pulled.kernel}\ninitrd  {pulled.initrd}")
    for name, version in pulled.packages.items():
        click.echo(f"        {name} {version}")
    click.echo(f"wirt run {pulled.name}  starts it")
