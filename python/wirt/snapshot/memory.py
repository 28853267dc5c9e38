"""The memory of snapshots: written in one of the encodings, and put together again from a chain."""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterator
from types import TracebackType

from wirt import _core
from wirt.errors import SnapshotError, StorageError
from wirt.snapshot import files, manifest
from wirt.snapshot.chain import Link
from wirt.snapshot.frames import PAGE, FrameWriter, read_frames

__all__ = ["Content", "MemoryWriter"]

_ZEROES = bytes(PAGE)


class MemoryWriter:
    """Writes ``memory.bin``: raw, or as frames."""

    def __init__(self, draft: files.Draft, ram: int, *, frames: bool, compression: str | None) -> None:
        self._ram = ram
        self._file = draft.create(manifest.MEMORY)
        self._compression = compression
        self._frames = FrameWriter(self._file, compression) if frames else None
        if self._frames is None:
            os.ftruncate(self._file, ram)

    def add(self, numbers: bytes, content: bytes) -> None:
        """Pages with content, in any order, each once: numbers of eight bytes, and 4096 bytes for each."""
        if self._frames is not None:
            self._frames.add(numbers, content)
        else:
            write_pages(self._file, numbers, content)

    def add_zeroes(self, numbers: bytes) -> None:
        """Pages of zeroes that an incremental snapshot has to name."""
        if self._frames is not None:
            self._frames.add_zeroes(numbers)

    def finish(self) -> manifest.MemoryFile:
        """Everything is on stable storage; what the manifest says of it."""
        os.fsync(self._file)
        frames = self._frames
        if frames is None:
            digest, pages = files.sparse_digest(self._file, self._ram)
            size, zero_pages = self._ram, 0
        else:
            digest, pages, size, zero_pages = frames.digest, frames.pages, frames.size, frames.zero_pages
        return {
            "size": size,
            "digest": digest,
            "encoding": "raw" if frames is None else "pages",
            "compression": self._compression,
            "pages": pages,
            "zero_pages": zero_pages,
        }

    def close(self) -> None:
        """Closes the file."""
        os.close(self._file)


class Content:
    """All memory of a chain's first snapshot: a file, and the pages that incremental ones have changed since.

    Args:
        links: from the snapshot to the full one that it builds on.
        verify: reads all of a file that would be mapped as well, and compares its digest.

    Raises:
        SnapshotError: a file is missing or damaged.
    """

    def __init__(self, links: list[Link], *, verify: bool) -> None:
        *children, base = links
        self.size = base.manifest["machine"]["options"]["memory"]
        self._changed: dict[int, memoryview | bytes] = {}
        memory = base.manifest["memory"]
        self._file = -1
        try:
            if memory["encoding"] == "raw":
                self._file = files.open_file(base.path, manifest.MEMORY, self.size)
                if verify and files.sparse_digest(self._file, self.size) != (memory["digest"], memory["pages"]):
                    raise SnapshotError(f"{base.path / manifest.MEMORY}: does not have the digest that the manifest "
                                        "states: it was damaged")  # fmt: skip
            else:
                self._file = os.memfd_create("wirt-snapshot", os.MFD_CLOEXEC)
                os.ftruncate(self._file, self.size)
                for numbers, _, content in read_frames(base.path, memory, self.size):
                    write_pages(self._file, numbers, content)
            for child in reversed(children):
                self._change(child)
        except OSError as error:
            self.close()
            if isinstance(error, StorageError):
                raise
            raise StorageError(f"{base.path}: the memory cannot be read: {error.strerror or error}") from error
        except BaseException:
            self.close()
            raise

    def _change(self, child: Link) -> None:
        for numbers, zeroes, content in read_frames(child.path, child.manifest["memory"], self.size):
            view = memoryview(content)
            for index, page in enumerate(_numbers(numbers)):
                self._changed[page] = view[index * PAGE : (index + 1) * PAGE]
            for page in _numbers(zeroes):
                self._changed[page] = _ZEROES

    def point(self) -> _core.RamPoint:
        """The memory to begin machines with; it keeps what it needs."""
        point = _core.RamPoint.of_file(self._file, self.size)
        if not self._changed:
            return point
        pages = sorted(self._changed)
        return point.with_pages(array("Q", pages).tobytes(), b"".join(self._changed[page] for page in pages))

    def pages(self) -> _core.PageSet:
        """The pages that hold anything but zeroes, and perhaps some that do not."""
        pages = _core.PageSet.of_file(self._file, self.size)
        pages.insert_numbers(array("Q", self._changed).tobytes())
        return pages

    def page(self, number: int) -> bytes | memoryview:
        """A page's content."""
        changed = self._changed.get(number)
        return os.pread(self._file, PAGE, number * PAGE) if changed is None else changed

    def batches(self, most: int = 256) -> Iterator[tuple[bytes, bytes]]:
        """(numbers, content) of all pages that are not zero, in order."""
        left = self.pages()
        while numbers := left.take(most):
            kept = [(page, content) for page in _numbers(numbers) if (content := self.page(page)) != _ZEROES]
            yield array("Q", (page for page, _ in kept)).tobytes(), b"".join(content for _, content in kept)

    def close(self) -> None:
        """Closes the file; points that were made stay good."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def __enter__(self) -> Content:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def _numbers(raw: bytes) -> array[int]:
    """The pages' numbers; the host is little-endian, as the files are."""
    return array("Q", raw)


def write_pages(file: int, numbers: bytes, content: bytes) -> None:
    """Writes pages to their places; those that follow each other in one go."""
    pages, view = _numbers(numbers), memoryview(content)
    first = 0
    while first < len(pages):
        end = first + 1
        while end < len(pages) and pages[end] == pages[end - 1] + 1:
            end += 1
        files.write_all(file, view[first * PAGE : end * PAGE], pages[first] * PAGE)
        first = end
