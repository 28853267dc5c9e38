r"""Wirt: RISC-V machines inside a Python process.

Example:
    >>> import wirt
    >>> with wirt.Machine(kernel="vmlinuz", initrd="initrd.gz", cmdline="console=hvc0", memory="512M", cpus=2) as vm:
    ...     vm.start()
    ...     vm.console.expect("/ # ", timeout=60)
    ...     vm.console.send("uname -a\\n")
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from wirt._core import MachineState, Privilege, StopReason
from wirt.console import Console, Match
from wirt.device import Device
from wirt.disk import Disk
from wirt.errors import (
    AddressError,
    ConfigError,
    ConsoleClosed,
    ConsoleTimeout,
    DmaError,
    ImageError,
    MigrationError,
    MigrationInDoubt,
    NetworkError,
    PullError,
    SnapshotError,
    StateError,
    StorageError,
    WirtError,
)
from wirt.isa import disassemble
from wirt.machine import Machine
from wirt.net import EndPoint, Port, Switch

if TYPE_CHECKING:
    from wirt.clones import Pool
    from wirt.snapshot import Snapshot
    from wirt.stats import Stats

__all__ = [
    "AddressError",
    "ConfigError",
    "Console",
    "ConsoleClosed",
    "ConsoleTimeout",
    "Device",
    "Disk",
    "DmaError",
    "EndPoint",
    "ImageError",
    "Machine",
    "MachineState",
    "Match",
    "MigrationError",
    "MigrationInDoubt",
    "NetworkError",
    "Pool",
    "Port",
    "Privilege",
    "PullError",
    "Snapshot",
    "SnapshotError",
    "StateError",
    "Stats",
    "StopReason",
    "StorageError",
    "Switch",
    "WirtError",
    "disassemble",
]

__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    if name == "Snapshot":
        from wirt.snapshot import Snapshot

        return Snapshot
    # Statistics are dataclasses, whose machinery takes longer to import than all the rest.
    if name == "Stats":
        from wirt.stats import Stats

        return Stats
    if name == "Pool":
        from wirt.clones import Pool

        return Pool
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
