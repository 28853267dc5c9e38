"""Kernel and firmware files as distributions ship them, unwrapped to what the machine's loaders take.

Debian's ``vmlinuz`` may be a bare Linux Image, a gzip file, or an EFI zboot image: a small EFI program that carries
the compressed kernel (Linux, ``drivers/firmware/efi/libstub/zboot-header.S``). The loaders of the core understand
ELF files and bare Images only, so that no decompressor runs there.
"""

from __future__ import annotations

import lzma
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

from wirt.errors import ImageError

__all__ = ["DEFAULT_LIMIT", "read_file", "read_image", "unwrap"]

DEFAULT_LIMIT = 1 << 30
"""Bytes that an image may have, packed or unpacked, unless the caller says otherwise."""

# A kernel inside a zboot image inside a gzip file is plausible; more layers are a trap.
_MAX_LAYERS = 3
# zstd at its highest level needs a window of 128 MiB; xz at its highest a dictionary of 64 MiB.
_DECODER_MEMORY = 256 << 20
# A block of a few bytes may unpack to 128 KiB, so zstd is fed little at a time to find a bomb early.
_ZSTD_PIECE = 1024

_ZBOOT_HEADER = struct.Struct("<4s4sII8x32s")


def read_image(path: str | os.PathLike[str], limit: int = DEFAULT_LIMIT) -> bytes:
    """Reads a kernel or firmware file and takes off its compression.

    Args:
        path: an ELF file, a Linux Image or a raw binary, bare or inside gzip, zstd, xz, lzma or an EFI zboot image.
        limit: the most bytes the file may have, packed or unpacked.

    Returns:
        The unwrapped bytes. Whether they are a kernel for this machine is the loader's question.

    Raises:
        ImageError: the file cannot be read, is empty, truncated or corrupt, or exceeds ``limit``.
    """
    return unwrap(read_file(path, limit), os.fspath(path), limit)


def read_file(path: str | os.PathLike[str], limit: int = DEFAULT_LIMIT) -> bytes:
    """Reads an initrd or a device tree, which are left as they are: a kernel unpacks its own initrd.

    Raises:
        ImageError: the file cannot be read or is larger than ``limit`` bytes.
    """
    name = os.fspath(path)
    try:
        with Path(path).open("rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise ImageError(f"{name}: cannot be read: {error.strerror or error}") from error
    if len(data) > limit:
        raise ImageError(f"{name}: is larger than {limit} bytes, too large for a machine's memory")
    return data


def unwrap(data: bytes, name: str, limit: int = DEFAULT_LIMIT) -> bytes:
    """Takes off what compression ``data`` has; see `read_image`. ``name`` is what errors call it.

    What follows a compressed stream (the unpacked size, a signature) is dropped, as boot loaders do.
    """
    if not data:
        raise ImageError(f"{name}: is empty")
    for _ in range(_MAX_LAYERS + 1):
        if data[4:8] == b"zimg":
            data = _unwrap_zboot(data, name, limit)
            continue
        for magic, decoder in _DECODERS.items():
            if data.startswith(magic):
                data = decoder(data, name, limit)
                break
        else:
            return data
    raise ImageError(f"{name}: is packed more than {_MAX_LAYERS} times over; unpack it first")


def _unwrap_zboot(data: bytes, name: str, limit: int) -> bytes:
    if len(data) < _ZBOOT_HEADER.size:
        raise ImageError(f"{name}: EFI zboot image is truncated inside its header")
    _, _, offset, size, raw_compression = _ZBOOT_HEADER.unpack_from(data)
    if offset < _ZBOOT_HEADER.size or offset + size > len(data):
        raise ImageError(
            f"{name}: EFI zboot image is truncated or corrupt: its payload is bytes {offset} to {offset + size}, "
            f"the file has {len(data)}"
        )
    compression = raw_compression.split(b"\0")[0].decode("ascii", "replace")
    # Kernels call zstd at level 22 "zstd22" and xz with their own filters "xzkern".
    for prefix, decoder in _ZBOOT_DECODERS.items():
        if compression.startswith(prefix):
            return decoder(data[offset : offset + size], name, limit)
    raise ImageError(
        f"{name}: EFI zboot image is compressed with {compression!r}, which is not supported; "
        f"known are {', '.join(_ZBOOT_DECODERS)}"
    )


def _too_large(name: str, limit: int) -> ImageError:
    return ImageError(f"{name}: unpacks to more than {limit} bytes, too large for a kernel")


def _corrupt(name: str, method: str, reason: object) -> ImageError:
    return ImageError(f"{name}: is a corrupt {method} file: {reason}")


def _truncated(name: str, method: str) -> ImageError:
    return ImageError(f"{name}: is a truncated {method} file")


def _gunzip(data: bytes, name: str, limit: int) -> bytes:
    decoder = zlib.decompressobj(wbits=31)
    try:
        unpacked = decoder.decompress(data, limit + 1)
    except zlib.error as error:
        raise _corrupt(name, "gzip", error) from error
    if len(unpacked) > limit:
        raise _too_large(name, limit)
    if not decoder.eof:
        raise _truncated(name, "gzip")
    return unpacked


def _unxz(data: bytes, name: str, limit: int) -> bytes:
    try:
        decoder = lzma.LZMADecompressor(memlimit=_DECODER_MEMORY)
        unpacked = decoder.decompress(data, limit + 1)
    except lzma.LZMAError as error:
        raise _corrupt(name, "xz", error) from error
    if len(unpacked) > limit:
        raise _too_large(name, limit)
    if not decoder.eof:
        raise _truncated(name, "xz")
    return unpacked


def _unzstd(data: bytes, name: str, limit: int) -> bytes:
    import zstandard  # only here: the import costs every other start of the program milliseconds

    decoder = zstandard.ZstdDecompressor(max_window_size=_DECODER_MEMORY).decompressobj()
    unpacked = bytearray()
    try:
        for start in range(0, len(data), _ZSTD_PIECE):
            unpacked += decoder.decompress(data[start : start + _ZSTD_PIECE])
            if len(unpacked) > limit:
                raise _too_large(name, limit)
            if decoder.eof:
                return bytes(unpacked)
    except zstandard.ZstdError as error:
        raise _corrupt(name, "zstd", error) from error
    raise _truncated(name, "zstd")


_Decoder = Callable[[bytes, str, int], bytes]

_DECODERS: dict[bytes, _Decoder] = {
    b"\x1f\x8b": _gunzip,
    b"\x28\xb5\x2f\xfd": _unzstd,
    b"\xfd7zXZ\0": _unxz,
    b"\x5d\0\0": _unxz,
}

_ZBOOT_DECODERS: dict[str, _Decoder] = {"gzip": _gunzip, "zstd": _unzstd, "xz": _unxz, "lzma": _unxz}
