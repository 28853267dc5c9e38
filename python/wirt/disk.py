"""Disks for a machine."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Literal, get_args

from wirt import _core
from wirt.errors import ConfigError, StorageError
from wirt.sizes import parse_size

__all__ = ["Bus", "Disk"]

Bus = Literal["virtio", "virtio-mmio", "virtio-pci", "ahci"]
_BUSES: tuple[Bus, ...] = get_args(Bus)


class Disk:
    """A raw disk image, a block-device file, or memory, on a controller of the machine.

    A file is open, and locked against other users, from here until the machine that has the disk is closed. One
    machine at a time may have it, unless it is read-only.

    Args:
        path: a file whose size is a multiple of 512 bytes, or a block device.
        bus: ``"ahci"`` (a SATA disk), ``"virtio-mmio"`` or ``"virtio-pci"`` (virtio-blk), or ``"virtio"``: virtio-blk
            on the bus that the machine's ``virtio`` names.
        read_only: the guest cannot write.
        ephemeral: what the guest writes is kept in memory and dropped when its machine is closed; the file stays as
            it is.
        volatile_cache: what the guest writes is kept in memory until it flushes, so that :meth:`lose_power` can test
            what a file system makes of that. Closing the machine is a clean end: it flushes.
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
        volatile_cache: bool = False,
        serial: str = "",
        queues: int = 1,
    ) -> None:
        name = os.fspath(path)

        def opener() -> _core.BlockBackend:
            file = _core.open_disk(name, read_only, ephemeral)
            return _core.VolatileCache(file) if volatile_cache else file

        self._configure(opener, bus, serial, queues, ephemeral=ephemeral, volatile_cache=volatile_cache)
        self._keep = False

    @classmethod
    def memory(cls, size: int | str, bus: Bus = "virtio", *, serial: str = "", queues: int = 1) -> Disk:
        """A zero-filled disk in host memory; its content lasts as long as the object.

        Args:
            size: bytes, or a text such as ``"64M"``; a multiple of 512.
            bus: as for a file.
            serial: as for a file.
            queues: as for a file.
        """
        disk = cls.__new__(cls)
        count = parse_size(size, "disk size")
        disk._configure(lambda: _core.memory_disk(count), bus, serial, queues)
        disk._keep = True
        return disk

    @classmethod
    def _of(
        cls,
        opener: Callable[[], _core.BlockBackend],
        bus: Bus,
        *,
        serial: str,
        queues: int,
        ephemeral: bool,
        volatile_cache: bool,
        keep: bool,
    ) -> Disk:
        """A disk that stands on what `opener` gives, or with `keep` on what it gave first."""
        disk = cls.__new__(cls)
        disk._configure(
            lambda: _core.VolatileCache(opener()) if volatile_cache else opener(),
            bus,
            serial,
            queues,
            ephemeral=ephemeral,
            volatile_cache=volatile_cache,
        )
        disk._keep = keep
        return disk

    def _configure(
        self,
        opener: Callable[[], _core.BlockBackend],
        bus: Bus,
        serial: str,
        queues: int,
        *,
        ephemeral: bool = False,
        volatile_cache: bool = False,
    ) -> None:
        if bus not in _BUSES:
            raise ConfigError(f"disk bus {bus!r}: is none of {', '.join(_BUSES)}")
        self._opener = opener
        self._base: _core.BlockBackend | None = None
        self._backend: _core.TrackedDisk | None = None
        # Opened at once, so that a mistake is heard here and not when a machine is built.
        self._opened()
        self._queues = queues
        self._ephemeral = ephemeral
        self._volatile_cache = volatile_cache
        self._user: object | None = None
        self.bus = bus
        self.serial = serial

    def _attach(self, user: object, virtio: _core.VirtioTransport) -> _core.DiskConfig:
        """The core's configuration of it for a machine, which has it for itself until it detaches it."""
        backend = self._opened()
        if self._user is not None and not backend.read_only:
            raise StorageError(f"{backend.describe()}: is in use by another machine; close that one first")
        self._user = user
        bus = f"virtio-{virtio.name}" if self.bus == "virtio" else self.bus
        return _core.DiskConfig(backend, _core.DiskBus[bus.replace("-", "_")], self.serial, self._queues)

    def _detach(self, user: object) -> None:
        """The machine is closed: the file can be, too."""
        if self._user is user:
            self._user = None
            self.close()

    def _opened(self) -> _core.TrackedDisk:
        if self._backend is None:
            self._base = self._opener()
            # All changes come through it, so that a snapshot can look at the disk as it was.
            self._backend = _core.TrackedDisk(self._base)
        return self._backend

    @property
    def size(self) -> int:
        """Bytes."""
        return self._opened().size

    @property
    def read_only(self) -> bool:
        """Whether writes are refused."""
        return self._opened().read_only

    def read(self, offset: int, length: int) -> bytes:
        """Bytes of the disk's content as the guest has left it, for tests and tools."""
        return self._opened().read(offset, length)

    def write(self, offset: int, data: bytes) -> None:
        """Changes the disk's content; a guest that has cached the place does not see it."""
        self._opened().write(offset, data)

    def flush(self) -> None:
        """Returns when everything written is on stable storage."""
        self._opened().flush()

    def lose_power(self, seed: int) -> int:
        """Stops a disk with ``volatile_cache`` dead, also under a running machine, which from then on hears of errors.

        Of what the guest has not flushed all, none, or a random half of the sectors is lost, as a disk may in any
        order write what it caches (virtio 1.2, 5.2.6.2). The file is fit for use when the machine is closed.

        Args:
            seed: chooses what is lost.

        Returns:
            How many sectors of 512 bytes were lost.

        Raises:
            ConfigError: it has no such cache.
        """
        backend = self._opened()
        if not isinstance(self._base, _core.VolatileCache):
            raise ConfigError(f"{backend.describe()}: keeps what it is given; open it with volatile_cache=True")
        lost = self._base.lose_power(seed)
        if self._user is None:
            self._drop()
        return lost

    def close(self) -> None:
        """Closes the file, unless a machine has it; it is opened again when it is needed."""
        if self._user is None and not self._keep:
            self._drop()

    def _drop(self) -> None:
        self._backend = self._base = None

    def __repr__(self) -> str:
        return f"<wirt.Disk {self._opened().describe()} on {self.bus}>"
