"""Builds the initramfs with which Debian's kernel reaches a shell, or mounts a root file system."""

from __future__ import annotations

import gzip
from collections.abc import Iterable
from importlib import resources

from wirt.debian.cpio import CpioWriter
from wirt.debian.modules import Module, alias_file, dependency_file

__all__ = ["DRIVERS", "build"]

# Loaded by /init where the hardware is there, or by the kernel on demand (ext4, af_packet).
DRIVERS = (
    "virtio_mmio",
    "virtio_blk",
    "virtio_net",
    "virtio_rng",
    "virtio_balloon",
    "ahci",
    "sd_mod",
    "nvme",
    "e1000e",
    "bochs",
    "virtio_gpu",
    "virtio_input",
    "evdev",
    "ext4",
    "vfat",
    "af_packet",
)

# busybox's udhcpc leaves setting the address to a script.
_UDHCPC = """#!/bin/sh
case "$1" in
    deconfig) ip addr flush dev "$interface"; ip link set "$interface" up ;;
    bound | renew)
        ip addr flush dev "$interface"
        ip addr add "$ip/${mask:-24}" dev "$interface"
        for gateway in $router; do ip route add default via "$gateway"; break; done
        for server in $dns; do echo "nameserver $server"; done >/etc/resolv.conf
        ;;
esac
"""


def build(release: str, busybox: bytes, modules: Iterable[Module]) -> bytes:
    """A gzip-compressed cpio archive; the same input gives the same bytes.

    Args:
        release: the kernel's release, as ``uname -r`` prints it.
        busybox: the statically linked program.
        modules: all modules to take in, with what they need.
    """
    modules = list(modules)
    archive = CpioWriter()
    for path in ("bin", "dev", "etc", "proc", "root", "run", "sys", "tmp"):
        archive.directory(path)
    archive.symlink("sbin", "bin")
    # The kernel opens it for process 1 before devtmpfs is mounted.
    archive.character_device("dev/console", 5, 1)
    archive.file("bin/busybox", busybox, 0o755)
    archive.file("init", resources.files("wirt.debian").joinpath("init.sh").read_bytes(), 0o755)
    archive.file("etc/passwd", b"root:x:0:0:root:/root:/bin/sh\n")
    archive.file("etc/group", b"root:x:0:\n")
    archive.file("usr/share/udhcpc/default.script", _UDHCPC.encode(), 0o755)
    base = f"lib/modules/{release}"
    for module in modules:
        archive.file(f"{base}/{module.path}", module.content)
    archive.file(f"{base}/modules.dep", dependency_file(modules).encode())
    archive.file(f"{base}/modules.alias", alias_file(modules).encode())
    # No time stamp. Level 6: a higher one saves 1 % and takes twice as long.
    return gzip.compress(archive.finish(), compresslevel=6, mtime=0)
