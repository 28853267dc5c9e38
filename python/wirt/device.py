"""Devices written in Python."""

from __future__ import annotations

__all__ = ["Device"]


class Device:
    """A memory-mapped device; derive from it and hand an object to :meth:`wirt.Machine.map_device`.

    ``read`` and ``write`` run on the thread of the hart that made the access, one at a time per device. What they
    raise pauses the machine and is raised again by ``wait()``, ``pause()``, ``step()`` and the end of a ``with``.
    They cannot themselves pause, resume, step, close or wait for their machine: its hart would wait for itself.

    Example:
        >>> class Dice(wirt.Device):
        ...     def read(self, offset: int, size: int) -> int:
        ...         return random.randint(1, 6)

    Attributes:
        name: what statistics and the inspector call it.
    """

    name: str = ""

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
