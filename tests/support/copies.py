"""Copies of a machine, made of what its state and its memory say and of nothing else."""

from __future__ import annotations

from collections.abc import Sequence

import wirt
from wirt import _core
from wirt.net import Port

__all__ = ["copy_of", "first_difference"]


def copy_of(vm: wirt.Machine, nets: Sequence[Port] = ()) -> wirt.Machine:
    """A machine that goes on where ``vm`` is, with disks of its own in memory.

    Its NICs are on ports of its own: ``nets``, one each.
    """
    disks = []
    for disk in vm.disks:
        other = wirt.Disk.memory(disk.size, disk.bus, serial=disk.serial, queues=disk._queues)
        other.write(0, disk.read(0, disk.size))
        disks.append(other)
    origin = _core.Origin(_core.freeze(vm._core, 1), _core.save_state(vm._core), vm.dtb)
    return wirt.Machine._from_origin(vm._options, origin, disks, nets)


def first_difference(a: wirt.Machine, b: wirt.Machine) -> str:
    """Where the states of two machines part; for messages of tests that expect none."""
    one, other = _core.save_state(a._core).records(), _core.save_state(b._core).records()
    section = ""
    for mine, theirs in zip(one, other, strict=False):
        if mine[0] == "section":
            section = mine[1]
        if mine != theirs:
            return f"{section}.{mine[1]}: {mine[2]!r} and {theirs[2]!r}"
    return "lengths" if len(one) != len(other) else "memory"
