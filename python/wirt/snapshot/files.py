"""The files of a snapshot: written so that a crash leaves none half done, and read so that they can lie about nothing.

A snapshot is written into a directory beside its place, every file of it and the directory itself are brought to
stable storage, and then it takes its place in one rename; where a snapshot is there already the two change places, and
the old one goes. Whatever happens meanwhile, at the place is the old one or the new one, whole.

Untrusted: names are ours, but what stands behind one is not: only regular files of the expected size are opened,
symbolic links are not followed.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import stat
import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from wirt import _core
from wirt.errors import SnapshotError, StorageError
from wirt.snapshot import manifest

__all__ = ["Draft", "open_file", "read_file", "sparse_digest", "storing", "write_all"]

_PIECE = 1 << 20
_PAGE = 4096
_SUFFIX = ".partial"
_RENAME_EXCHANGE = 2
_AT_FDCWD = -100


@contextlib.contextmanager
def storing(what: str | os.PathLike[str]) -> Iterator[None]:
    """Makes a StorageError that names `what` of what the operating system says."""
    try:
        yield
    except (StorageError, SnapshotError):
        raise
    except OSError as error:
        raise StorageError(f"{os.fspath(what)}: {error.strerror or error}") from error


class Draft:
    """A snapshot that is being written. Leaving the ``with`` without :meth:`publish` removes all of it."""

    def __init__(self, place: Path) -> None:
        self.place = place
        with storing(place):
            if os.path.lexists(place) and not _is_snapshot(place):
                raise SnapshotError(f"{place}: something other than a snapshot is there; give another place")
            _remove_abandoned(place)
            while not self._make():
                pass

    def _make(self) -> bool:
        """Makes the directory, and locks it: that tells a draft from what a killed process has left."""
        self.path = Path(tempfile.mkdtemp(prefix=f".{self.place.name}.", suffix=_SUFFIX, dir=self.place.parent))
        try:
            self._directory = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except BaseException:
            self.path.rmdir()
            raise
        fcntl.flock(self._directory, fcntl.LOCK_EX)
        if os.fstat(self._directory).st_nlink > 0:
            return True
        # Somebody else looked before it was locked, and has removed it.
        os.close(self._directory)
        return False

    def __enter__(self) -> Draft:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        # The draft, or the snapshot that it has replaced.
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._directory)

    def create(self, name: str) -> int:
        """A new file's descriptor, to read and write."""
        return os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=self._directory)

    def write(self, name: str, content: bytes) -> None:
        """A whole file, on stable storage."""
        file = self.create(name)
        try:
            write_all(file, content, 0)
            os.fsync(file)
        finally:
            os.close(file)

    def publish(self) -> None:
        """The draft takes its place."""
        with storing(self.place):
            os.fsync(self._directory)
            if os.path.lexists(self.place):
                _exchange(self.path, self.place)
            else:
                self.path.rename(self.place)
            parent = os.open(self.place.parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(parent)
            finally:
                os.close(parent)


def write_all(file: int, content: bytes | memoryview, offset: int) -> None:
    """Writes all of it at an offset."""
    left = memoryview(content)
    while left:
        count = os.pwrite(file, left, offset)
        left, offset = left[count:], offset + count


def open_file(directory: Path, name: str, size: int) -> int:
    """A descriptor to read a snapshot's file with.

    Raises:
        SnapshotError: it is missing, no regular file, or not of that size.
    """
    path = directory / name
    try:
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise SnapshotError(f"{path}: cannot be opened: {error.strerror}") from error
    status = os.fstat(file)
    if not stat.S_ISREG(status.st_mode) or status.st_size != size:
        os.close(file)
        raise SnapshotError(f"{path}: is no file of {size} bytes (it has {status.st_size}): it was damaged")
    return file


def read_file(directory: Path, name: str, stored: manifest.StoredFile) -> bytes:
    """A small file's content, which has the digest that the manifest states.

    Raises:
        SnapshotError: it has not.
    """
    file = open_file(directory, name, stored["size"])
    try:
        with storing(directory / name):
            content = b"".join(iter(lambda: os.read(file, _PIECE), b""))
    finally:
        os.close(file)
    if manifest.digest(content) != stored["digest"]:
        raise SnapshotError(f"{directory / name}: does not have the digest that the manifest states: it was damaged")
    return content


def sparse_digest(file: int, size: int) -> tuple[str, int]:
    """The digest of a file that may have holes, whether it has them or not; and how many pages are not zero.

    It is over each run of 4 KiB pages that are not all zero, in order: the run's offset and length in bytes, eight
    bytes little-endian each, and its content.
    """
    pages = _core.PageSet.of_file(file, size)
    total = hashlib.blake2b(digest_size=32)
    for first, count in pages.runs():
        offset, end = first * _PAGE, min((first + count) * _PAGE, size)
        total.update(struct.pack("<QQ", offset, end - offset))
        while offset < end:
            content = os.pread(file, min(_PIECE, end - offset), offset)
            if not content:
                raise SnapshotError("a file of the snapshot was cut off while it was read")
            total.update(content)
            offset += len(content)
    return total.hexdigest(), len(pages)


def _is_snapshot(place: Path) -> bool:
    return not place.is_symlink() and place.is_dir() and ((place / manifest.NAME).is_file() or not any(place.iterdir()))


def _remove_abandoned(place: Path) -> None:
    """Removes what processes that were killed have left of drafts for the same place."""
    with contextlib.suppress(OSError):
        for entry in list(os.scandir(place.parent)):
            if not (entry.name.startswith(f".{place.name}.") and entry.name.endswith(_SUFFIX)):
                continue
            with contextlib.suppress(OSError):
                directory = os.open(entry.path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
                try:
                    fcntl.flock(directory, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(entry.path, ignore_errors=True)
                finally:
                    os.close(directory)


def _exchange(draft: Path, place: Path) -> None:
    """The two change places at once, or, where the file system cannot, one after the other."""
    import ctypes
    import errno

    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except AttributeError:
        rename = None
    if rename is not None:
        arguments = (_AT_FDCWD, os.fsencode(draft), _AT_FDCWD, os.fsencode(place), _RENAME_EXCHANGE)
        if rename(*arguments) == 0:
            return
        code = ctypes.get_errno()
        if code not in (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
            raise OSError(code, os.strerror(code))
    # For a moment nothing is at the place; the old one is whole, beside it.
    aside = place.with_name(f".{place.name}.replaced")
    place.rename(aside)
    try:
        draft.rename(place)
    except OSError:
        aside.rename(place)
        raise
    shutil.rmtree(aside, ignore_errors=True)
