"""Disks that can be written: what becomes of their content.

It goes along, everything once and then what was written meanwhile; or the file is one that both hosts see, and which
one has and then the other.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from wirt import _core
from wirt.description import DiskDescription
from wirt.errors import ConfigError, StorageError
from wirt.migration.protocol import DISK_HEAD
from wirt.migration.transport import BATCH

__all__ = ["DiskMirror", "HandOver"]

_GRANULARITY = 64 << 10
_LARGEST_ZEROES = 1 << 40
_SMALL_ENOUGH = 4 << 20
_MOST_ROUNDS = 8
# How long the locks of a process that has just ended may outlive its connections.
_RELEASE_S = 5.0

Run = tuple[int, int]


class DiskMirror:
    """The source's side of it.

    Attributes:
        sent_bytes: content sent, without zeroes.
    """

    def __init__(self, disks: Sequence[_core.TrackedDisk], copy: bool, descriptions: Sequence[DiskDescription]) -> None:
        self._disks = [
            (number, disk) for number, disk in enumerate(disks) if copy and not descriptions[number]["read_only"]
        ]
        self._pending: dict[int, list[Run]] = {number: [] for number, _ in self._disks}
        self.sent_bytes = 0

    def start(self) -> None:
        """From here on it is noted what the guest writes."""
        for _, disk in self._disks:
            disk.start_tracking(_GRANULARITY)

    def stop(self) -> None:
        """Ends that, and leaves the files to whoever else has them."""
        for _, disk in self._disks:
            disk.stop_tracking()
        self._disks.clear()

    @property
    def pending_bytes(self) -> int:
        """What is known to wait."""
        return sum(length for runs in self._pending.values() for _, length in runs)

    def take_dirty(self) -> None:
        """What was written since the last call waits from here on."""
        for number, disk in self._disks:
            self._pending[number] += disk.take_dirty()

    def copy_all(self, send: Callable[[bytes], None]) -> None:
        """Everything, and what was written meanwhile until little is left."""
        for number, disk in self._disks:
            data = disk.data_runs()
            end = 0
            for offset, length in [*data, (disk.size, 0)]:
                if offset > end:
                    # The destination's disk may hold anything there.
                    send(DISK_HEAD.pack(number, end, offset - end))
                end = offset + length
            self._pending[number] += data
        for _ in range(_MOST_ROUNDS):
            self.send_pending(send, None, RuntimeError)
            self.take_dirty()
            if self.pending_bytes <= _SMALL_ENOUGH:
                break

    def send_pending(self, send: Callable[[bytes], None], deadline: float | None, late: type[Exception]) -> None:
        """Sends what waits; raises `late` once the deadline has passed, and the rest still waits."""
        for number, disk in self._disks:
            runs = self._pending[number]
            while runs:
                offset, length = runs.pop()
                piece = min(length, BATCH)
                if length > piece:
                    runs.append((offset + piece, length - piece))
                content = disk.read(offset, piece)
                head = DISK_HEAD.pack(number, offset, piece)
                if content.count(0) == piece:
                    send(head)
                else:
                    send(head + content)
                    self.sent_bytes += piece
                if deadline is not None and time.monotonic() > deadline:
                    raise late


class HandOver:
    """The source's side of disks that can be written and whose content does not go along: files that both hosts see.

    Raises:
        ConfigError: one is no such file.
    """

    def __init__(self, disks: Sequence[_core.TrackedDisk], copy: bool, descriptions: Sequence[DiskDescription]) -> None:
        self._disks = [
            disk
            for disk, description in zip(disks, descriptions, strict=True)
            if not copy and not description["read_only"]
        ]
        for number, disk in enumerate(disks):
            if disk in self._disks and not disk.can_hand_over:
                raise ConfigError(
                    f"disk {number} can be written, and the destination would not see what was: give storage=True to "
                    "send its content along"
                )
        self._given = False

    def flush(self) -> None:
        """So that there is little left to do when the guest stands still."""
        for disk in self._disks:
            disk.flush()

    def give(self) -> None:
        """All of them, or none; the guest stands still.

        Raises:
            StorageError: what was written cannot be made stable.
        """
        given: list[_core.TrackedDisk] = []
        try:
            for disk in self._disks:
                disk.hand_over()
                given.append(disk)
        except StorageError:
            for disk in given:
                disk.take()
            raise
        self._given = True

    def take_back(self) -> None:
        """They are ours again.

        Raises:
            StorageError: somebody has one of them.
        """
        if not self._given:
            return
        end = time.monotonic() + _RELEASE_S
        for disk in self._disks:
            while True:
                try:
                    disk.take()
                    break
                except StorageError:
                    if time.monotonic() > end:
                        raise
                time.sleep(0.05)
        self._given = False

    def forget(self) -> None:
        """It is decided who has them."""
        self._disks.clear()
