"""``wirt bench``: measures this build on this host."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal, cast

import click

from wirt.cli.output import progress_bar

__all__ = ["command"]


@click.group("bench")
def command() -> None:
    """Measure this build on this host."""


@command.command("io")
@click.option("json_file", "--json", type=click.Path(path_type=Path, allow_dash=True), metavar="FILE",
              help="Write all figures as JSON; - for standard output in place of the table.")  # fmt: skip
@click.option("plot_file", "--plot", type=click.Path(path_type=Path), metavar="FILE", help="Draw a .png or .svg.")
@click.option("--quick", is_flag=True, help="Seconds instead of minutes; wider spread.")
@click.option("--repeats", type=click.IntRange(1, 1000), help="Machines a device.")
@click.option("--storage", type=click.Choice(["memory", "file"]), default="memory", show_default=True,
              help="What stands behind the disks.")  # fmt: skip
@click.option("--directory", type=click.Path(exists=True, file_okay=False), help="Where files for it are put.")
@click.option("--only", type=click.Choice(["console", "disk", "network", "iommu"]), help="One kind of device.")
def bench_io(
    json_file: Path | None,
    plot_file: Path | None,
    quick: bool,
    repeats: int | None,
    storage: str,
    directory: str | None,
    only: str | None,
) -> None:
    """Compare fully virtualised devices with paravirtual ones.

    The guest inside this package does the same work over the 16550 and virtio-console, over AHCI and virtio-blk, over
    e1000e and virtio-net; and over both disks with an IOMMU before them.
    """
    from dataclasses import replace

    from wirt.bench.io import KINDS, Settings, run
    from wirt.bench.plot import check_plot_path, plot
    from wirt.cli.tables import print_io
    from wirt.errors import ConfigError

    # What could be said at once is not said after minutes of measuring.
    if plot_file is not None:
        check_plot_path(plot_file)
    if json_file is not None and not json_file.parent.is_dir():
        raise ConfigError(f"{json_file}: there is no directory {json_file.parent}")
    settings = Settings.quick() if quick else Settings()
    settings = replace(settings, storage=cast(Literal["memory", "file"], storage), directory=directory)
    if repeats is not None:
        settings = replace(settings, repeats=repeats)
    to_stdout = json_file is not None and str(json_file) == "-"
    with progress_bar(quiet=to_stdout) as bar:
        task = bar.add_task("measuring", total=1.0)
        measurement = run(
            settings,
            kinds=[only] if only else KINDS,
            progress=lambda text, done: bar.update(task, description=text, completed=done),
        )
    document = json.dumps(measurement.as_json(), indent=2) + "\n"
    if to_stdout:
        click.echo(document, nl=False)
    else:
        print_io(measurement)
        if json_file is not None:
            json_file.write_text(document, encoding="utf-8")
    if plot_file is not None:
        plot(measurement, plot_file)


@command.command("virt")
@click.option("json_file", "--json", type=click.Path(path_type=Path, allow_dash=True), metavar="FILE",
              help="Write all counts as JSON; - for standard output in place of the table.")  # fmt: skip
@click.option("--only", type=click.Choice(["bare", "trap-and-emulate", "h-extension"]), multiple=True,
              help="What the kernel runs on; may be given again.")  # fmt: skip
@click.option("--causes", is_flag=True, help="Show each cause of traps in the table.")
def bench_virt(json_file: Path | None, only: tuple[str, ...], causes: bool) -> None:
    """Count what virtualisation costs.

    One small kernel does the same work bare, under a hypervisor that traps and emulates its privileged instructions,
    and under one that uses the hypervisor extension. The counts are instructions, traps, TLB misses and page walks;
    they are the same on every host.
    """
    from wirt.bench.virt import PLATFORMS, run
    from wirt.cli.tables import print_virt
    from wirt.errors import ConfigError

    if json_file is not None and not json_file.parent.is_dir():
        raise ConfigError(f"{json_file}: there is no directory {json_file.parent}")
    platforms = [platform for platform in PLATFORMS if not only or platform.name in only]
    to_stdout = json_file is not None and str(json_file) == "-"
    with progress_bar(quiet=to_stdout) as bar:
        task = bar.add_task("measuring", total=1.0)
        measurement = run(platforms, progress=lambda text, done: bar.update(task, description=text, completed=done))
    document = json.dumps(measurement.as_json(), indent=2) + "\n"
    if to_stdout:
        click.echo(document, nl=False)
        return
    print_virt(measurement, causes=causes)
    if json_file is not None:
        json_file.write_text(document, encoding="utf-8")
