"""A machine from a snapshot.

Everything that can be checked is checked before anything is built; the state's values are for the devices to check,
which do so in a machine that is thrown away if they refuse.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from wirt import _core, description
from wirt.description import DiskDescription
from wirt.device import Device
from wirt.disk import Disk
from wirt.errors import ConfigError, SnapshotError, StorageError
from wirt.net import Port
from wirt.snapshot import chain, files, manifest
from wirt.snapshot.chain import Link
from wirt.snapshot.memory import Content
from wirt.snapshot.writer import line_of

if TYPE_CHECKING:
    from wirt.machine import Machine

__all__ = ["read_state", "restore"]

# A disk that is given in place of the one of the snapshot; None: that one.
Given = Disk | str | os.PathLike[str] | None


def restore(
    path: str | os.PathLike[str],
    *,
    disks: Sequence[Given] | None,
    nets: Sequence[Port] | None,
    devices: Sequence[Device],
    verify: bool,
    new_generation: bool | None,
    clock: Literal["continue", "jump"],
) -> Machine:
    """As :meth:`wirt.Machine.restore`."""
    from wirt import __version__

    if clock not in ("continue", "jump"):
        raise ConfigError(f"clock {clock!r}: give 'continue' or 'jump'")
    link = chain.load(path)
    links = chain.chain_of(link)
    machine_description = link.manifest["machine"]
    state, dtb = read_state(link), files.read_file(link.path, manifest.DTB, link.manifest["dtb"])
    with Content(links, verify=verify) as content:
        memory = content.point()
    backing = _disks(link, disks, verify=verify)
    try:
        machine = description.build(
            machine_description, memory=memory, state=state, dtb=dtb, disks=backing, nets=nets, devices=devices
        )
    except ConfigError as error:
        if nets is not None or devices:
            raise
        # What the caller gave is good; what the snapshot says is not.
        raise SnapshotError(f"{link.path}: no machine can be built from it: {error}") from error
    try:
        core = machine._core
        line_of(machine).last = link
        _core.start_log(core, _core.DirtyLog.snapshot)
        deterministic = machine_description["options"]["deterministic"]
        # Another release may go another way from its checkpoints.
        if "recording" in link.manifest and link.manifest["wirt"] == __version__:
            _core.load_recording(core, files.read_file(link.path, manifest.RECORDING, link.manifest["recording"]))
        if new_generation or (new_generation is None and not deterministic):
            core.new_generation()
        if clock == "jump":
            core.set_wall_clock(time.time_ns())
        machine._begun_elsewhere = True
    except BaseException:
        machine.close()
        raise
    return machine


def read_state(link: Link) -> _core.SavedState:
    """The state of everything but memory and disks.

    Raises:
        SnapshotError: it is damaged, or is not what the manifest says.
    """
    stored = link.manifest["state"]
    raw = files.read_file(link.path, manifest.STATE, stored)
    state = _core.SavedState(raw)
    view = memoryview(raw)
    found: list[manifest.Section] = [
        {"name": name, "version": version, "size": size, "digest": manifest.digest(view[offset : offset + size])}
        for name, version, offset, size in _core.state_sections(state)
    ]
    if found != stored["sections"]:
        raise SnapshotError(f"{link.path / manifest.STATE}: has other sections than the manifest says")
    return state


def _disks(link: Link, given: Sequence[Given] | None, *, verify: bool) -> list[Disk]:
    wanted = description.all_disks(link.manifest["machine"])
    choices = list(given) if given is not None else [None] * len(wanted)
    if len(choices) != len(wanted):
        raise SnapshotError(
            f"{link.path}: the machine has {len(wanted)} disk(s); {len(choices)} are given (None stands for the "
            "snapshot's own)"
        )
    disks = []
    for number, (choice, disk) in enumerate(zip(choices, wanted, strict=True)):
        stored = link.manifest["disks"][number]
        if isinstance(choice, Disk):
            disks.append(choice)
        elif choice is not None:
            disks.append(_file_disk(os.fspath(choice), disk))
        elif "file" in stored:
            disks.append(_included_disk(link, stored, disk, verify=verify))
        else:
            disks.append(_referenced_disk(link, stored, disk, number))
        description.check_disk(disks[-1], disk, number)
    return disks


def _file_disk(path: str, disk: DiskDescription) -> Disk:
    return Disk(
        path,
        disk["bus"],
        read_only=disk["read_only"],
        ephemeral=disk["ephemeral"],
        volatile_cache=disk["volatile_cache"],
        serial=disk["serial"],
        queues=disk["queues"],
    )


def _referenced_disk(link: Link, stored: manifest.ReferencedDisk, wanted: DiskDescription, number: int) -> Disk:
    where = f"{link.path}: disk {number} is {stored['path']}, which"
    try:
        disk = _file_disk(stored["path"], wanted)
    except StorageError as error:
        raise SnapshotError(f"{where} cannot be opened: {error}") from error
    now = disk._opened().identity()
    # Not the device: its number may be another one after the host was started again.
    if now is None or (now.size, now.inode, now.mtime_ns) != (stored["size"], stored["inode"], stored["mtime_ns"]):
        disk.close()
        raise SnapshotError(
            f"{where} has moved on since the snapshot was taken: the guest's memory does not belong to it any more; "
            "give disks= with a copy of that time, or take snapshots with disks='include'"
        )
    return disk


def _included_disk(link: Link, stored: manifest.IncludedDisk, disk: DiskDescription, *, verify: bool) -> Disk:
    file = files.open_file(link.path, stored["file"], stored["size"])
    try:
        if verify and files.sparse_digest(file, stored["size"])[0] != stored["digest"]:
            raise SnapshotError(f"{link.path / stored['file']}: does not have the digest that the manifest states: "
                                "it was damaged")  # fmt: skip
    finally:
        os.close(file)
    content = _core.open_disk(str(link.path / stored["file"]), True, False)
    # What the guest writes stays in memory: the snapshot remains what it is.
    return Disk._of(
        lambda: content if disk["read_only"] else _core.overlay(content),
        disk["bus"],
        serial=disk["serial"],
        queues=disk["queues"],
        ephemeral=disk["ephemeral"],
        volatile_cache=disk["volatile_cache"],
    )
