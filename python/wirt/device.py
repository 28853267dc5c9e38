"""Devices written in Python."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from wirt.machine import Machine

__all__ = ["Device", "MappedDevice"]


class Device:
    """A memory-mapped device; derive from it and hand an object to :meth:`wirt.Machine.map_device`.

    ``read`` and ``write`` run on the thread of the hart that made the access, one at a time per device. What they
    raise pauses the machine and is raised again by ``wait()``, ``pause()``, ``step()`` and the end of a ``with``.
    They cannot themselves pause, resume, step, close or wait for their machine: its hart would wait for itself.

    A class that has both :meth:`save` and :meth:`load` can be copied: its machine can be snapshotted, forked, reset and
    migrated, and whoever makes the copy gives a new object that takes the device's place (``devices=``). In a machine
    with any other device these raise :class:`wirt.StateError`.

    Example:
        >>> class Counter(wirt.Device):
        ...     count = 0
        ...
        ...     def read(self, offset: int, size: int) -> int:
        ...         self.count += 1
        ...         return self.count
        ...
        ...     def save(self) -> bytes:
        ...         return self.count.to_bytes(8, "little")
        ...
        ...     def load(self, state: bytes) -> None:
        ...         self.count = int.from_bytes(state, "little")

    Attributes:
        name: what statistics and the inspector call it, and by which a copy is told from another device; the name of
            the class by default.
    """

    name: str = ""

    def attached(self, machine: Machine) -> None:
        """It was put into a machine, which has not run yet; its state is loaded later, if it has one.

        This is where to get interrupt lines (:meth:`wirt.Machine.interrupt_line`) and memory
        (:meth:`wirt.Machine.dma`): in a copy nobody else can do so before the machine runs.
        """

    def read(self, offset: int, size: int) -> int:
        """A load by the guest.

        Args:
            offset: bytes from the start of the device, a multiple of ``size``.
            size: 1, 2, 4 or 8 bytes.

        Returns:
            The value; its low ``size`` bytes reach the guest.
        """
        return 0

    def write(self, offset: int, size: int, value: int) -> None:
        """A store by the guest; ``value`` is unsigned and has ``size`` bytes."""

    def reset(self) -> None:
        """The machine was reset."""

    def save(self) -> bytes:
        """All by which the device goes on as it would have, in at most 64 MiB; the class has to define it.

        Called while the machine does not run, also for :meth:`wirt.Machine.state_hash`: the same state gives the same
        bytes. What its interrupt lines are set to is saved without it.
        """
        raise NotImplementedError

    def load(self, state: bytes) -> None:
        """Takes on what another object's :meth:`save` gave; the class has to define it.

        Called before the machine runs, and by :meth:`wirt.Machine.reset`. The bytes may come from a file or from
        another host: what it raises (other than ``KeyboardInterrupt``) refuses the state.
        """
        raise NotImplementedError

    @property
    def _label(self) -> str:
        return self.name or type(self).__name__

    @property
    def _saves(self) -> bool:
        return type(self).save is not Device.save and type(self).load is not Device.load


class MappedDevice(NamedTuple):
    """A device and its place."""

    base: int
    size: int
    device: Device
