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
        incoming: for :meth:`Machine.receive`: a machine on another host has the file open, and hands it over when it
            comes. It is locked from then on; until then nobody writes it here.

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
        incoming: bool = False,
    ) -> None:
        name = os.fspath(path)
        if incoming and (read_only or ephemeral or volatile_cache):
            raise ConfigError("disk: incoming is for one that can be written, and that holds nothing back in memory")
        awaits = [incoming]  # not self, which would then outlive its last user

        def opener() -> _core.BlockBackend:
            file = _core.open_disk(name, read_only, ephemeral, awaits[0])
            return _core.VolatileCache(file) if volatile_cache else file

        self._configure(opener, bus, serial, queues, ephemeral=ephemeral, volatile_cache=volatile_cache)
        self._keep = False
        self._renewable = ephemeral
        self._awaits = awaits

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
        disk._renewable = False
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
    ) -> Disk:
        """A disk that stands on what `opener` gives, which is the same content each time."""
        disk = cls.__new__(cls)
        disk._configure(
            lambda: _core.VolatileCache(opener()) if volatile_cache else opener(),
            bus,
            serial,
            queues,
            ephemeral=ephemeral,
            volatile_cache=volatile_cache,
        )
        disk._keep = False
        disk._renewable = True
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
        # Opened at once, so that a mistake is heard here and not when a machine is built.
        self._backend: _core.TrackedDisk | None = None
        self._cache: _core.VolatileCache | None = None
        self._opened()
        self._queues = queues
        self._ephemeral = ephemeral
        self._volatile_cache = volatile_cache
        self._user: object | None = None
        self._awaits = [False]  # somebody else has the file
        self._announced = False
        self.bus = bus
        self.serial = serial

    @classmethod
    def _on_view(cls, disk: Disk, view: _core.DiskView) -> Disk:
        """A clone's disk: the content of another one at a moment, and what is written since in memory."""
        read_only = disk.read_only
        return cls._of(
            lambda: view if read_only else _core.overlay(view),
            disk.bus,
            serial=disk.serial,
            queues=disk._queues,
            ephemeral=not read_only,
            volatile_cache=False,
        )

    def _view(self) -> _core.DiskView:
        """The disk as it is now, whatever is written later."""
        return self._opened().view()

    def _renew(self) -> _core.BlockBackend:
        """Back to what it was when it was opened, for a machine that goes back to where it began."""
        self._backend = None
        return self._opened()

    def _attach(self, user: object, virtio: _core.VirtioTransport) -> _core.DiskConfig:
        """The core's configuration of it for a machine, which has it for itself until it detaches it."""
        backend = self._opened()
        if self._awaits[0] and not self._announced:
            raise StorageError(f"{backend.describe()}: is incoming, which is for Machine.receive only")
        if self._user is not None and not backend.read_only:
            raise StorageError(f"{backend.describe()}: is in use by another machine; close that one first")
        self._user = user
        bus = f"virtio-{virtio.name}" if self.bus == "virtio" else self.bus
        return _core.DiskConfig(backend, _core.DiskBus[bus.replace("-", "_")], self.serial, self._queues)

    def _detach(self, user: object) -> None:
        """The machine is closed: the file can be, too."""
        if self._user is user:
            self._user = None
            if not self._keep:
                self._backend = self._cache = None

    @property
    def _incoming(self) -> bool:
        return self._awaits[0]

    def _announce(self) -> None:
        """The machine that has the file is to come here.

        Raises:
            StorageError: no machine has it.
        """
        self._opened().expect_hand_over()
        self._announced = True

    def _take(self) -> None:
        """It is ours from here on.

        Raises:
            StorageError: somebody else still has it.
        """
        self._opened().take()
        self._awaits[0] = False

    def _let_go(self) -> None:
        """As if it had not been taken."""
        self._opened().let_go()
        self._awaits[0], self._announced = True, False

    def _opened(self) -> _core.TrackedDisk:
        if self._backend is None:
            base = self._opener()
            self._cache = base if isinstance(base, _core.VolatileCache) else None
            self._backend = _core.TrackedDisk(base)
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
        if self._cache is None:
            raise ConfigError(f"{backend.describe()}: keeps what it is given; open it with volatile_cache=True")
        lost = self._cache.lose_power(seed)
        if self._user is None:
            self._backend = self._cache = None
        return lost

    def close(self) -> None:
        """Closes the file, unless a machine has it; it is opened again when it is needed."""
        if self._user is None and not self._keep:
            self._backend = self._cache = None

    def __repr__(self) -> str:
        return f"<wirt.Disk {self._opened().describe()} on {self.bus}>"
