"""Writes the initramfs format: cpio "newc" (Linux, Documentation/driver-api/early-userspace/buffer-format.rst).

The archive depends on its entries alone (no time stamps, no owners, ascending inode numbers), so that the same input
gives the same bytes.
"""

from __future__ import annotations

import stat

__all__ = ["CpioWriter"]


class CpioWriter:
    """Collects entries; parents are added by themselves. Paths are relative, with ``/`` between parts."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._known: set[str] = set()
        self._inode = 0

    def directory(self, path: str, mode: int = 0o755) -> None:
        """Adds a directory unless it is there."""
        if path in self._known:
            return
        self._parents(path)
        self._entry(path, stat.S_IFDIR | mode, b"")

    def file(self, path: str, content: bytes, mode: int = 0o644) -> None:
        """Adds a regular file."""
        self._parents(path)
        self._entry(path, stat.S_IFREG | mode, content)

    def symlink(self, path: str, target: str) -> None:
        """Adds a symbolic link."""
        self._parents(path)
        self._entry(path, stat.S_IFLNK | 0o777, target.encode())

    def character_device(self, path: str, major: int, minor: int, mode: int = 0o600) -> None:
        """Adds a character device node."""
        self._parents(path)
        self._entry(path, stat.S_IFCHR | mode, b"", (major, minor))

    def finish(self) -> bytes:
        """The archive; the writer takes no more entries."""
        self._entry("TRAILER!!!", 0, b"")
        return b"".join(self._parts)

    def _parents(self, path: str) -> None:
        parent, slash, _ = path.rpartition("/")
        if slash:
            self.directory(parent)

    def _entry(self, path: str, mode: int, content: bytes, device: tuple[int, int] = (0, 0)) -> None:
        self._known.add(path)
        self._inode += 1
        name = path.encode() + b"\0"
        links = 2 if stat.S_ISDIR(mode) else 1
        # ino mode uid gid nlink mtime filesize devmajor devminor rdevmajor rdevminor namesize check
        fields = (self._inode, mode, 0, 0, links, 0, len(content), 0, 0, *device, len(name), 0)
        header = b"070701" + b"".join(b"%08x" % field for field in fields)
        self._parts += [_padded(header + name), _padded(content)]


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
