"""``memory.bin`` as frames of pages: of compressed snapshots, and of incremental ones.

A frame is a header of three little-endian 32-bit numbers (pages with content, pages of zeroes, bytes of content as
stored), the numbers of the pages with content and then of those of zeroes (64 bits each), and the content of the
former in that order: 4096 bytes each, compressed as one zstd frame where the manifest says so. Frames follow each other
to the end of the file. No page is named twice.

Untrusted: all of it. Every count is checked against what is there before it is used, and no more than a frame is held
in memory.
"""

from __future__ import annotations

import hashlib
import os
import struct
from collections.abc import Iterator
from pathlib import Path

from wirt import _core
from wirt.errors import SnapshotError
from wirt.snapshot import files, manifest

__all__ = ["FrameWriter", "read_frames"]

PAGE = 4096
FRAME_PAGES = 256
_ZERO_PAGES = 1 << 14
_HEADER = struct.Struct("<III")
# Of zstd: more costs time that a waiting user notices, and gains little on memory.
_LEVEL = 3


class FrameWriter:
    """Writes frames one after the other, and works out the digest meanwhile."""

    def __init__(self, file: int, compression: str | None) -> None:
        self._file = file
        self._hash = hashlib.blake2b(digest_size=32)
        self._compress = None
        if compression is not None:
            import zstandard

            self._compress = zstandard.ZstdCompressor(level=_LEVEL).compress
        self.size = self.pages = self.zero_pages = 0

    def add(self, numbers: bytes, content: bytes) -> None:
        """Pages with content; numbers and content as a capture gives them."""
        whole = memoryview(content)
        for first in range(0, len(numbers) // 8, FRAME_PAGES):
            named = numbers[first * 8 : (first + FRAME_PAGES) * 8]
            self._frame(named, b"", whole[first * PAGE : (first + FRAME_PAGES) * PAGE])
        self.pages += len(numbers) // 8

    def add_zeroes(self, numbers: bytes) -> None:
        """Pages of zeroes."""
        for at in range(0, len(numbers), _ZERO_PAGES * 8):
            self._frame(b"", numbers[at : at + _ZERO_PAGES * 8], memoryview(b""))
        self.zero_pages += len(numbers) // 8

    @property
    def digest(self) -> str:
        """Of the file as it is now."""
        return self._hash.hexdigest()

    def _frame(self, numbers: bytes, zeroes: bytes, content: memoryview) -> None:
        stored: bytes | memoryview = self._compress(content) if self._compress is not None and content else content
        frame = b"".join((_HEADER.pack(len(numbers) // 8, len(zeroes) // 8, len(stored)), numbers, zeroes, stored))
        files.write_all(self._file, frame, self.size)
        self._hash.update(frame)
        self.size += len(frame)


def read_frames(directory: Path, memory: manifest.MemoryFile, ram: int) -> Iterator[tuple[bytes, bytes, bytes]]:
    """(numbers of pages with content, of pages of zeroes, content) of each frame.

    The digest can be compared only when all was read: nothing that is done with a frame may last beyond an error.

    Raises:
        SnapshotError: it is broken.
    """
    path = directory / manifest.MEMORY
    file = files.open_file(directory, manifest.MEMORY, memory["size"])
    try:
        total = hashlib.blake2b(digest_size=32)
        seen = _core.PageSet(ram // PAGE)
        left, pages, zero_pages = memory["size"], 0, 0

        def take(size: int) -> bytes:
            nonlocal left
            content = os.read(file, size) if size <= left else b""
            while 0 < len(content) < size:
                more = os.read(file, size - len(content))
                if not more:
                    break
                content += more
            if len(content) != size:
                raise SnapshotError(f"{path}: is cut off, or broken")
            left -= size
            total.update(content)
            return content

        while left:
            count, zero_count, stored = _HEADER.unpack(take(_HEADER.size))
            # zstd makes no page longer than this.
            if count > FRAME_PAGES or zero_count > _ZERO_PAGES or stored > count * (PAGE + 64) + 1024:
                raise SnapshotError(f"{path}: is broken: a frame of {count} and {zero_count} pages, {stored} bytes")
            numbers, zeroes = take(count * 8), take(zero_count * 8)
            content = _content(take(stored), count * PAGE, memory["compression"], path)
            before = len(seen)
            seen.insert_numbers(numbers)
            seen.insert_numbers(zeroes)
            if len(seen) != before + count + zero_count:
                raise SnapshotError(f"{path}: is broken: a page is in it twice")
            pages, zero_pages = pages + count, zero_pages + zero_count
            yield numbers, zeroes, content
    finally:
        os.close(file)
    if total.hexdigest() != memory["digest"]:
        raise SnapshotError(f"{path}: does not have the digest that the manifest states: it was damaged")
    if (pages, zero_pages) != (memory["pages"], memory["zero_pages"]):
        raise SnapshotError(f"{path}: has not as many pages as the manifest says")


def _content(stored: bytes, size: int, compression: str | None, path: Path) -> bytes:
    content = stored
    if compression is not None and size:
        import zstandard

        try:
            # The decoder believes the size that a frame states, so that is checked first.
            if zstandard.frame_content_size(stored) != size:
                raise SnapshotError(f"{path}: is broken: a frame has another size than its pages")
            content = zstandard.ZstdDecompressor().decompress(stored, max_output_size=size)
        except zstandard.ZstdError as error:
            raise SnapshotError(f"{path}: cannot be decompressed: {error}") from error
    if len(content) != size:
        raise SnapshotError(f"{path}: is broken: a frame has another size than its pages")
    return content
