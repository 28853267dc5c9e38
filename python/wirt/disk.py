"""Disks for a machine."""

from __future__ import annotations

import os
from typing import Literal

from wirt import _core
from wirt.errors import ConfigError
from wirt.sizes import parse_size

__all__ = ["Bus", "Disk"]

Bus = Literal["virtio", "ahci"]


class Disk:
    """A raw disk image, a block-device file, or memory, on a controller of the machine.

    Args:
        path: a file whose size is a multiple of 512 bytes, or a block device.
        bus: ``"virtio"`` (virtio-blk) or ``"ahci"`` (a SATA disk).
        read_only: the guest cannot write.
        ephemeral: what the guest writes is kept in memory and dropped with the disk; the file stays as it is.
        serial: shown to the guest, at most 20 ASCII characters.
        queues: request queues; more than one on virtio only.

    Raises:
        StorageError: the file cannot be opened or is no disk.
        ConfigError: an option makes no sense.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        bus: Bus = "virtio",
        *,
        read_only: bool = False,
        ephemeral: bool = False,
        serial: str = "",
        queues: int = 1,
    ) -> None:
        self._configure(_core.open_disk(os.fspath(path), read_only, ephemeral), bus, serial, queues)

    @classmethod
    def memory(cls, size: int | str, bus: Bus = "virtio", *, serial: str = "", queues: int = 1) -> Disk:
        """A zero-filled disk in host memory, gone with the object.

        Args:
            size: bytes, or a text such as ``"64M"``; a multiple of 512.
            bus: as for a file.
            serial: as for a file.
            queues: as for a file.
        """
        disk = cls.__new__(cls)
        disk._configure(_core.memory_disk(parse_size(size, "disk size")), bus, serial, queues)
        return disk

    def _configure(self, backend: _core.BlockBackend, bus: Bus, serial: str, queues: int) -> None:
        if bus not in ("virtio", "ahci"):
            raise ConfigError(f'disk bus {bus!r}: is neither "virtio" nor "ahci"')
        self._backend = backend
        self._config = _core.DiskConfig(backend, _core.DiskBus[bus], serial, queues)
        self.bus = bus
        self.serial = serial

    @property
    def size(self) -> int:
        """Bytes."""
        return self._backend.size

    @property
    def read_only(self) -> bool:
        """Whether writes are refused."""
        return self._backend.read_only

    def read(self, offset: int, length: int) -> bytes:
        """Bytes of the disk's content as the guest has left it, for tests and tools."""
        return self._backend.read(offset, length)

    def write(self, offset: int, data: bytes) -> None:
        """Changes the disk's content; a guest that has cached the place does not see it."""
        self._backend.write(offset, data)

    def flush(self) -> None:
        """Returns when everything written is on stable storage."""
        self._backend.flush()

    def __repr__(self) -> str:
        return f"<wirt.Disk {self._backend.describe()} on {self.bus}>"
