"""``wirt inspect``: what a machine consists of."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Unpack

import click

from wirt.cli.machine_options import MachineOptions, build_machine, machine_options
from wirt.cli.output import json_option, print_json
from wirt.stats import DeviceInfo

__all__ = ["command", "details"]


@click.command("inspect")
@machine_options
@json_option
@click.option("--run", "seconds", type=float, metavar="SECONDS", help="Let it run so long first.")
@click.option("dtb_file", "--dump-dtb", type=click.Path(dir_okay=False, writable=True), help="Write its device tree.")
def command(as_json: bool, seconds: float | None, dtb_file: str | None, **options: Unpack[MachineOptions]) -> None:
    """Show a machine's devices, harts and state, before it runs or after a while."""
    if options["guest"] is None and options["kernel"] is None and options["firmware"] is None:
        options["guest"] = "demo"
    with build_machine(options) as vm:
        if seconds:
            vm.start()
            vm.wait(seconds)
            vm.pause()
        if dtb_file is not None:
            with click.open_file(dtb_file, "wb") as file:
                file.write(vm.dtb)
        stats = vm.stats()
        devices = vm.devices
        document = {
            "state": vm.state,
            "stop_reason": vm.stop_reason,
            "time_s": vm.time,
            "devices": [device.as_json() for device in devices],
            "stats": stats.as_json(),
            "harts": [
                {"id": hart.id, "pc": hart.pc, "privilege": hart.privilege.name, "x": [hart.x[i] for i in range(32)]}
                for hart in vm.harts
            ],
            "fields": vm.inspect(),
        }
        code = {hart.id: hart.disassemble(6) for hart in vm.harts}
    if as_json:
        print_json(document)
        return

    from rich.console import Console
    from rich.table import Table

    # What is cut off at column 80 is of no use.
    console = Console(width=max(Console().width, 140))
    table = Table(title=f"Devices ({document['state']}, {document['time_s']:.3f} s)")
    for name in ("name", "kind", "address", "size", "interrupt", "exits", "operations", "bytes moved"):
        table.add_column(
            name, justify="left" if name in ("name", "kind", "address", "interrupt") else "right", no_wrap=True
        )
    for device in devices:
        base = "-" if device.base is None else f"0x{device.base:x}"
        table.add_row(
            device.name, device.kind, device.address or base, f"0x{device.size:x}", device.interrupt or "-",
            f"{device.exits:,}", f"{device.operations:,}", f"{device.bytes_moved:,}",
        )  # fmt: skip
    console.print(table)
    for device in devices:
        for line in details(device):
            console.print(f"{device.name}: {line}", markup=False, highlight=False, soft_wrap=True)
    for hart, counts in zip(vm.harts, stats.harts, strict=True):
        console.print(f"hart {hart.id}: {counts.instructions:,} instructions")
        for instruction in code[hart.id]:
            console.print(f"  {instruction.address:x}: {instruction.text}", markup=False, highlight=False)


def details(device: DeviceInfo) -> Iterator[str]:
    """What a table has no room for, a line each: identity, BARs, queues, features."""
    if device.identity:
        yield f"is {device.identity}"
    for bar in device.bars:
        where = "decodes nothing" if bar.base is None else f"at 0x{bar.base:x}"
        yield f"BAR {bar.index}: {bar.kind}, {where}, 0x{bar.size:x} bytes"
    used = [f"{queue.name} of {queue.size}" for queue in device.queues if queue.enabled]
    if device.queues:
        yield f"queues in use: {', '.join(used) or 'none'}; there are {len(device.queues)}"
    if device.features:
        yield f"features: {' '.join(device.features)}"
