"""``wirt demo``: the embedded guest introduces the machine, then the I/O comparison."""

from __future__ import annotations

import click

from wirt.cli.output import progress_bar

__all__ = ["command"]


@click.command("demo")
@click.option("--full", is_flag=True, help="Measure for minutes instead of seconds.")
def command(full: bool) -> None:
    """Meet the machine: a small guest introduces it, then measures its devices."""
    from wirt.bench.io import Settings, run
    from wirt.cli.tables import print_io
    from wirt.disk import Disk
    from wirt.errors import StateError
    from wirt.guest_image import guest_image
    from wirt.machine import Machine
    from wirt.net import Switch

    disks = [Disk.memory("16M"), Disk.memory("16M", bus="ahci")]
    with Machine(guest_image(), cmdline="demo", memory="128M", cpus=4, disks=disks, nets=[Switch().port()]) as vm:
        vm.start()
        finished = vm.wait(60)
        click.echo(vm.serial.output.replace("\r", "").strip())
        if not finished or vm.exit_code != 0:
            raise StateError(f"the guest did not end well: {vm.stop_reason}")
        stats = vm.stats()
        click.echo(f"\n{stats.instructions:,} instructions, {stats.total_exits:,} exits\n")
    with progress_bar(quiet=False) as bar:
        task = bar.add_task("measuring", total=1.0)
        measurement = run(
            Settings() if full else Settings.quick(),
            progress=lambda text, done: bar.update(task, description=text, completed=done),
        )
    print_io(measurement)
