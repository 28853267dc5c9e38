"""Reads Debian binary packages: deb(5), an ar archive that holds a compressed tar of the files.

Packages come from a verified archive, yet nothing here writes to disk by a name that a package chose: members are
handed out as bytes.
"""

from __future__ import annotations

import io
import lzma
import tarfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from wirt.errors import PullError

__all__ = ["members"]

_AR_MAGIC = b"!<arch>\n"
_AR_HEADER = 60


def members(deb: Path, wanted: Callable[[str], bool]) -> Iterator[tuple[str, bytes]]:
    """Yields (path, content) of the regular files for which ``wanted(path)``; paths have no leading ``./`` or ``/``.

    Raises:
        PullError: the file is not a Debian package, or is cut short.
    """
    try:
        with deb.open("rb") as file:
            name, data = _data_member(file, deb)
            with tarfile.open(fileobj=_decompressor(name, data, deb), mode="r|") as tar:
                for member in tar:
                    path = member.name.removeprefix("./").lstrip("/")
                    if not member.isreg() or not wanted(path):
                        continue
                    content = tar.extractfile(member)
                    assert content is not None  # isreg() was checked
                    yield path, content.read()
    except (tarfile.TarError, lzma.LZMAError, zlib.error, EOFError, OSError) as error:
        raise PullError(f"{deb.name}: cannot be unpacked ({error}); remove it and pull again") from error


def _data_member(file: BinaryIO, deb: Path) -> tuple[str, BinaryIO]:
    if file.read(len(_AR_MAGIC)) != _AR_MAGIC:
        raise PullError(f"{deb.name}: is not a Debian package (no ar archive)")
    while len(header := file.read(_AR_HEADER)) == _AR_HEADER:
        name = header[:16].decode("ascii", "replace").rstrip(" /")
        try:
            size = int(header[48:58])
        except ValueError:
            break
        if name.startswith("data.tar"):
            return name, _Slice(file, size)
        file.seek(size + (size & 1), io.SEEK_CUR)
    raise PullError(f"{deb.name}: has no data member; remove it and pull again")


class _Slice(io.RawIOBase, BinaryIO):
    """The next ``size`` bytes of a file as a file."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file = file
        self._left = size

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        count = self._left if size < 0 else min(size, self._left)
        data = self._file.read(count)
        self._left -= len(data)
        return data


def _decompressor(name: str, data: BinaryIO, deb: Path) -> BinaryIO:
    match name.removeprefix("data.tar"):
        case ".xz" | ".lzma":
            return lzma.open(data)  # type: ignore[return-value]  # an LZMAFile, opened for reading
        case ".gz":
            import gzip

            return gzip.open(data)  # type: ignore[return-value]  # a GzipFile, opened for reading
        case ".zst":
            import zstandard

            return zstandard.ZstdDecompressor().stream_reader(data)
        case "":
            return data
        case other:
            raise PullError(f"{deb.name}: is compressed in a way that is not known here ({other})")
