"""``wirt snapshot``: what snapshots there are, what is in them, and how they differ."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from wirt.cli.output import json_option, print_json
from wirt.errors import SnapshotError
from wirt.sizes import format_size

if TYPE_CHECKING:
    from rich.console import Console

    from wirt.snapshot import Snapshot
    from wirt.snapshot.diff import Difference

__all__ = ["command"]

_PATH = click.Path(path_type=Path)
# More than anyone reads; --json has them all.
_MOST_LINES = 200


@click.group("snapshot")
def command() -> None:
    """Look at snapshots, compare, flatten and remove them.

    `wirt run GUEST --snapshot PATH` takes one when you leave the console, `wirt run --restore PATH` goes on from it.
    """


@command.command("list")
@click.argument("directory", type=_PATH, default=".")
@json_option
def list_snapshots(directory: Path, as_json: bool) -> None:
    """List the snapshots in a directory."""
    from wirt.snapshot import found_in

    found = found_in(directory)
    if as_json:
        print_json([{"error": str(one)} if isinstance(one, SnapshotError) else _summary(one) for one in found])
        return

    from rich.table import Table

    table = Table()
    for name in ("name", "taken", "memory", "on disk", "instructions", "builds on"):
        table.add_column(name, justify="left" if name in ("name", "taken", "builds on") else "right", no_wrap=True)
    broken = []
    for one in found:
        if isinstance(one, SnapshotError):
            broken.append(one)
            continue
        summary = _summary(one)
        table.add_row(
            one.path.name,
            summary["created"][:19].replace("T", " "),
            format_size(summary["memory"]),
            format_size(summary["stored_bytes"]),
            f"{summary['instructions']:,}",
            summary["parent"] or "-",
        )
    _console().print(table)
    for error in broken:
        click.echo(f"wirt: {error}", err=True)


@command.command("show")
@click.argument("path", type=_PATH)
@click.option("--verify", is_flag=True, help="Read all of it, also what it builds on, and compare all digests.")
@json_option
def show(path: Path, verify: bool, as_json: bool) -> None:
    """Show what is in a snapshot."""
    from wirt.snapshot import Snapshot

    snapshot = Snapshot.open(path)
    if verify:
        snapshot.verify()
    if as_json:
        print_json({**snapshot.info, "stored_bytes": snapshot.stored_bytes})
        return

    from rich.table import Table

    info, summary = snapshot.info, _summary(snapshot)
    console = _console()
    memory = info["memory"]
    lines = {
        "path": str(snapshot.path),
        "id": info["id"],
        "taken": f"{info['created']} by wirt {info['wirt']}, format {info['format']}",
        "builds on": summary["parent"] or "nothing",
        "on disk": format_size(summary["stored_bytes"]),
        "guest": f"{info['instructions']:,} instructions, {info['time_ns'] / 1e9:.6f} s of guest time",
        "memory": f"{format_size(summary['memory'])}; {memory['pages']:,} pages stored ({memory['encoding']}"
        f"{', ' + memory['compression'] if memory['compression'] else ''})"
        + (f", {memory['zero_pages']:,} became zero" if memory["zero_pages"] else ""),
        "machine": ", ".join(f"{key}={value}" for key, value in info["machine"]["options"].items() if key != "memory"),
    }
    for number, disk in enumerate(info["disks"]):
        lines[f"disk {number}"] = f"{format_size(disk['size'])}, " + (
            "included" if "file" in disk else f"referenced: {disk['path']}"
        )
    for number, net in enumerate(info["machine"]["nets"]):
        lines[f"NIC {number}"] = f"{net['model']}, {net['mac']}"
    for plugged in info["machine"]["plugged"]:
        lines[plugged["name"]] = f"plugged into slot {plugged['slot']}"
    if verify:
        lines["verified"] = "all digests are as stated"
    for key, text in lines.items():
        console.print(f"{key:>10}: {text}", markup=False, highlight=False, soft_wrap=True)
    table = Table(title="Sections of the state")
    for name in ("section", "version", "bytes"):
        table.add_column(name, justify="left" if name == "section" else "right")
    for section in info["state"]["sections"]:
        table.add_row(section["name"], str(section["version"]), f"{section['size']:,}")
    console.print(table)


@command.command("diff")
@click.argument("before", type=_PATH)
@click.argument("after", type=_PATH)
@json_option
@click.pass_context
def diff(ctx: click.Context, before: Path, after: Path, as_json: bool) -> None:
    """Show which registers, device fields and ranges of memory differ. Exits with 1 where anything does."""
    from wirt.snapshot import Snapshot

    difference = Snapshot.open(before).diff(after)
    if as_json:
        print_json(difference.as_json())
    else:
        _print_difference(_console(), difference)
    ctx.exit(1 if difference else 0)


@command.command("flatten")
@click.argument("path", type=_PATH)
@click.argument("to", type=_PATH)
@click.option("--zstd", is_flag=True, help="Compress the memory.")
def flatten(path: Path, to: Path, zstd: bool) -> None:
    """Write a full snapshot of an incremental one, which builds on no other."""
    from wirt.snapshot import Snapshot

    snapshot = Snapshot.open(path).flatten(to, compress="zstd" if zstd else False)
    click.echo(f"{snapshot.path}: {format_size(snapshot.stored_bytes)}")


@command.command("rm")
@click.argument("paths", type=_PATH, nargs=-1, required=True)
@click.option("--force", is_flag=True, help="Also where others build on it, and where the manifest is broken.")
def remove(paths: tuple[Path, ...], force: bool) -> None:
    """Remove snapshots; refuses where another one beside it builds on it."""
    from wirt.snapshot import remove as remove_snapshot

    for path in paths:
        remove_snapshot(path, force=force, leaving=paths)


def _summary(snapshot: Snapshot) -> dict[str, Any]:
    info = snapshot.info
    return {
        "path": str(snapshot.path),
        "id": info["id"],
        "created": info["created"],
        "memory": info["machine"]["options"]["memory"],
        "stored_bytes": snapshot.stored_bytes,
        "instructions": info["instructions"],
        "parent": info["parent"]["path"] if info["parent"] else None,
    }


def _print_difference(console: Console, difference: Difference) -> None:
    from rich.table import Table

    for name, (before, after) in difference.options.items():
        console.print(f"option {name}: {before!r} became {after!r}", markup=False, highlight=False)
    if difference.fields:
        table = Table(title=f"{len(difference.fields):,} fields of the state")
        for name in ("section", "field", "before", "after"):
            table.add_column(name, overflow="fold")
        for change in difference.fields[:_MOST_LINES]:
            table.add_row(change.section, change.field, *_texts(change.before, change.after))
        console.print(table)
        if len(difference.fields) > _MOST_LINES:
            console.print(f"and {len(difference.fields) - _MOST_LINES:,} more; --json shows all")
    if difference.memory:
        total = sum(run.length for run in difference.memory)
        table = Table(title=f"{format_size(total)} of memory in {len(difference.memory):,} ranges")
        for name in ("from", "to", "length"):
            table.add_column(name, justify="right")
        for run in difference.memory[:_MOST_LINES]:
            table.add_row(f"0x{run.address:x}", f"0x{run.address + run.length - 1:x}", format_size(run.length))
        console.print(table)
        if len(difference.memory) > _MOST_LINES:
            console.print(f"and {len(difference.memory) - _MOST_LINES:,} more; --json shows all")
    if not difference:
        console.print("nothing differs")


def _texts(before: int | bytes | None, after: int | bytes | None) -> tuple[str, str]:
    if isinstance(before, bytes) and isinstance(after, bytes):
        # Where they begin to differ, and what is there.
        at = next((i for i, (a, b) in enumerate(zip(before, after, strict=False)) if a != b), 0)
        return tuple(f"{len(data):,} bytes; at {at}: {data[at : at + 8].hex(' ')}" for data in (before, after))  # type: ignore[return-value]
    return _text(before), _text(after)


def _text(value: int | bytes | None) -> str:
    if value is None:
        return "(is not there)"
    return f"{len(value):,} bytes" if isinstance(value, bytes) else f"0x{value:x}"


def _console() -> Console:
    from rich.console import Console

    # What is cut off at column 80 is of no use.
    return Console(width=max(Console().width, 120))
