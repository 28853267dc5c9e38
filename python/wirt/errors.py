"""Every error that Wirt raises on purpose.

Only a *host* mistake is an exception: a bad argument, a file that is missing or malformed, a call at the wrong
moment. Whatever the guest does has an outcome inside the guest instead (a trap, an error bit, a counter).

The extension raises these same classes: its translator looks them up here once, when it is imported.
"""

from __future__ import annotations

__all__ = [
    "AddressError",
    "ConfigError",
    "ConsoleClosed",
    "ConsoleTimeout",
    "DmaError",
    "ImageError",
    "MigrationError",
    "MigrationInDoubt",
    "NetworkError",
    "PullError",
    "SnapshotError",
    "StateError",
    "StorageError",
    "WirtError",
]


class WirtError(Exception):
    """The base of every error of this package. Its message says what to do."""


class ConfigError(WirtError, ValueError):
    """No machine can be built from what was asked: sizes, counts, unknown names, options that conflict."""


class ImageError(WirtError):
    """A kernel, firmware, initrd or device tree that is missing, broken or foreign."""


class StorageError(WirtError, OSError):
    """What stands behind a disk could not be opened, or is not what it was said to be."""


class NetworkError(WirtError):
    """A network end point was misused: closed, attached twice, an oversized frame."""


class StateError(WirtError, RuntimeError):
    """The call does not fit the machine's present state: started twice, used after close, not paused."""


class AddressError(WirtError, LookupError):
    """Nothing that the call could use is at this physical or virtual address."""


class SnapshotError(WirtError):
    """A snapshot, or a migration's stream, that is broken, foreign, newer than this release, or of another machine."""


class MigrationError(WirtError):
    """A machine could not be moved. Where the message does not say otherwise it goes on at the source."""


class MigrationInDoubt(MigrationError):
    """The destination may have the machine, and cannot be asked: ``vm.migration.resolve()`` ends that."""


class DmaError(WirtError):
    """A bus master's access failed: the IOMMU refused it, or there is no memory at the address."""


class ConsoleTimeout(WirtError, TimeoutError):
    """The guest did not print what was expected in time.

    Attributes:
        tail: the last output of the console, decoded, at most 2000 characters.
    """

    def __init__(self, message: str, tail: str = "") -> None:
        super().__init__(message)
        self.tail = tail


class ConsoleClosed(WirtError, EOFError):
    """The machine stopped before the guest printed what was expected.

    Attributes:
        tail: the last output of the console, decoded, at most 2000 characters.
    """

    def __init__(self, message: str, tail: str = "") -> None:
        super().__init__(message)
        self.tail = tail


class PullError(WirtError):
    """A guest image could not be fetched, verified or assembled."""
