"""What the acceptance scripts share: machines with Debian's kernel, and figures on the terminal."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import wirt
from wirt.debian import Guest, apt, cached_guest
from wirt.paths import cache_dir

__all__ = ["KERNEL_WARNINGS", "PROMPT", "archive", "busybox_machine", "digest", "pulled", "report", "stopwatch"]

PROMPT = "/ # "

# Kernel messages of level warning or worse, but for one that Debian's own configuration gives rise to on any machine.
# grep's status 1 (none) is not a failure.
KERNEL_WARNINGS = "dmesg -r | grep '^<[0-4]>' | grep -v CONFIG_DRM_PANIC_SCREEN || true"

_MIB = 1 << 20


def pulled(name: str = "debian") -> Guest:
    """The guest that ``wirt pull`` left in the cache."""
    guest = cached_guest(name)
    if guest is None:
        raise SystemExit(f"there is no {name} in the cache: run  wirt pull {name}")
    return guest


def archive() -> apt.AptRoot:
    """The Debian archive that the pulled guest is from, its list of packages up to date."""
    mirror, keyring = apt.host_mirror(), apt.find_keyring()
    if mirror is None or keyring is None:
        raise SystemExit("the host's apt names no Debian mirror, or debian-archive-keyring is not installed")
    suite = pulled().suite
    root = apt.AptRoot(cache_dir() / "debian" / suite / "apt", mirror, suite, keyring)
    root.update()
    return root


def busybox_machine(
    *, cpus: int = 1, disks: Sequence[wirt.Disk] = (), nets: Sequence[wirt.Port] = (), console: str = "ttyS0"
) -> wirt.Machine:
    """A machine whose boot ends in the initramfs' shell."""
    guest = pulled()
    cmdline = f"earlycon=sbi console={console}"
    return wirt.Machine(
        guest.kernel, initrd=guest.initrd, cmdline=cmdline, memory="512M", cpus=cpus, disks=disks, nets=nets
    )


def digest(disk: wirt.Disk, length: int) -> str:
    """SHA-256 of a disk's first bytes."""
    sha = hashlib.sha256()
    for offset in range(0, length, _MIB):
        sha.update(disk.read(offset, min(_MIB, length - offset)))
    return sha.hexdigest()


@contextmanager
def stopwatch() -> Iterator[list[float]]:
    """Holds the seconds that its block took once the block has ended."""
    elapsed: list[float] = []
    start = time.monotonic()
    try:
        yield elapsed
    finally:
        elapsed.append(time.monotonic() - start)


def report(what: str, value: str) -> None:
    """One line of figures, at once also where the output is a file."""
    print(f"{what:<52} {value}", flush=True)
