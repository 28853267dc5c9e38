"""How far a migration is, and what it was in the end."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

__all__ = ["MigrationProgress", "MigrationReport"]


@dataclass(frozen=True)
class MigrationProgress:
    """A moment of a migration.

    Attributes:
        phase: ``storage``, ``memory``, ``switching``, ``post-copy`` or ``done``.
        round: passes over the memory so far; 0 is the first.
        remaining_pages: of memory that are still to be sent in this round.
        remaining_disk_bytes: likewise of disks.
        sent_bytes: on the wire, so far.
        bandwidth: bytes a second that the connection takes.
        dirty_rate: bytes a second that the guest writes, by pages; 0 before it is known.
        expected_downtime: seconds, if it were switched over now.
        throttle: the part of the time in which the guest is kept from running, 0 to 1.
    """

    phase: str
    round: int = 0
    remaining_pages: int = 0
    remaining_disk_bytes: int = 0
    sent_bytes: int = 0
    bandwidth: float = 0.0
    dirty_rate: float = 0.0
    expected_downtime: float = 0.0
    throttle: float = 0.0


@dataclass
class MigrationReport:
    """What a migration was.

    Attributes:
        migration_id: names it on both sides.
        mode: ``precopy``, ``postcopy`` or ``hybrid``.
        total_time: seconds from the call to its end.
        downtime: seconds from the pause of the source until it heard that the destination runs, which is a little
            more than the guest stood still.
        switched_after: seconds from the call until the source heard that.
        rounds: passes over the memory.
        switch_attempts: how often the guest was paused to be switched over; more than one when the rest turned out to
            take longer than allowed.
        sent_bytes: all that went over the wire.
        pages_whole: pages sent as they are.
        pages_changed: pages sent as a difference.
        pages_zero: pages sent as a number.
        pages_same: pages not sent since they were as before.
        disk_bytes: of disks' content, without zeroes.
        throttle: the most that the guest was kept from running, 0 to 1.
        throttled_time: seconds during which it was slowed.
    """

    migration_id: str
    mode: str
    total_time: float = 0.0
    downtime: float = 0.0
    switched_after: float = 0.0
    rounds: int = 0
    switch_attempts: int = 0
    sent_bytes: int = 0
    pages_whole: int = 0
    pages_changed: int = 0
    pages_zero: int = 0
    pages_same: int = 0
    disk_bytes: int = 0
    throttle: float = 0.0
    throttled_time: float = 0.0
    round_pages: list[int] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)
