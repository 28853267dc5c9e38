"""Compressed kernels are unwrapped, broken ones refused with the reason."""

from __future__ import annotations

import contextlib
import gzip
import lzma
from pathlib import Path

import pytest
import zstandard
from hypothesis import example, given
from hypothesis import strategies as st
from image_builders import linux_image, zboot

import wirt
from wirt.images import read_image, unwrap

KERNEL = linux_image(bytes(range(256)) * 64)

COMPRESSORS = {
    b"gzip": gzip.compress,
    b"zstd": zstandard.ZstdCompressor().compress,
    b"zstd22": zstandard.ZstdCompressor(level=22).compress,
    b"xz": lzma.compress,
    b"xzkern": lambda data: lzma.compress(data, check=lzma.CHECK_CRC32),
    b"lzma": lambda data: lzma.compress(data, format=lzma.FORMAT_ALONE),
}


@pytest.fixture(params=COMPRESSORS, ids=lambda name: name.decode())
def method(request):
    return request.param


def test_bare_image_is_left_alone(tmp_path: Path):
    file = tmp_path / "Image"
    file.write_bytes(KERNEL)
    assert read_image(file) == KERNEL
    assert read_image(str(file)) == KERNEL


def test_compressed_file(method):
    assert unwrap(COMPRESSORS[method](KERNEL), "vmlinuz") == KERNEL


def test_zboot(method):
    # The kernel's build appends the unpacked size to formats that do not carry it.
    packed = zboot(COMPRESSORS[method](KERNEL), method) + len(KERNEL).to_bytes(4, "little")
    assert unwrap(packed, "vmlinuz") == KERNEL


def test_zboot_inside_gzip():
    assert unwrap(gzip.compress(zboot(gzip.compress(KERNEL), b"gzip")), "vmlinuz.gz") == KERNEL


def test_truncated(method):
    packed = COMPRESSORS[method](KERNEL)
    for length in (12, len(packed) // 2, len(packed) - 1):
        with pytest.raises(wirt.ImageError, match="vmlinuz: is a truncated"):
            unwrap(packed[:length], "vmlinuz")
        with pytest.raises(wirt.ImageError, match="truncated"):
            unwrap(zboot(packed[:length], method), "vmlinuz")


def test_limit_on_what_is_unpacked(method):
    bomb = COMPRESSORS[method](bytes(8 << 20))
    with pytest.raises(wirt.ImageError, match="unpacks to more than 1048576 bytes"):
        unwrap(bomb, "bomb", limit=1 << 20)
    assert len(unwrap(bomb, "bomb", limit=8 << 20)) == 8 << 20


def test_limit_on_the_file(tmp_path: Path):
    file = tmp_path / "large"
    file.write_bytes(bytes(1001))
    with pytest.raises(wirt.ImageError, match="larger than 1000 bytes"):
        read_image(file, limit=1000)


def test_nesting_is_bounded():
    packed = KERNEL
    for _ in range(3):
        packed = gzip.compress(packed)
    assert unwrap(packed, "thrice") == KERNEL
    with pytest.raises(wirt.ImageError, match="more than 3 times"):
        unwrap(gzip.compress(packed), "deep")


@pytest.mark.parametrize(
    ("packed", "reason"),
    [
        (b"", "is empty"),
        (b"MZ\0\0zimg", "truncated inside its header"),
        (zboot(b"x" * 10, b"gzip", size=11), "truncated or corrupt: its payload is bytes 64 to 75, the file has 74"),
        (zboot(b"x" * 10, b"gzip", offset=0xFFFF_FFFF, size=0xFFFF_FFFF), "truncated or corrupt"),
        (zboot(b"x" * 10, b"gzip", offset=0), "truncated or corrupt"),
        (zboot(b"x" * 10, b"gzip"), "corrupt gzip"),
        (zboot(b"x" * 10, b"zstd"), "corrupt zstd"),
        (zboot(b"x" * 10, b"xz"), "corrupt xz"),
        (zboot(b"x" * 10, b"lz4"), "'lz4', which is not supported"),
        (zboot(b"x" * 10, b"\xff"), "is not supported"),
    ],
)
def test_broken(packed: bytes, reason: str):
    with pytest.raises(wirt.ImageError, match=reason):
        unwrap(packed, "vmlinuz")


def test_unreadable(tmp_path: Path):
    with pytest.raises(wirt.ImageError, match="No such file"):
        read_image(tmp_path / "absent")
    with pytest.raises(wirt.ImageError, match="Is a directory"):
        read_image(tmp_path)


@given(
    method=st.sampled_from(list(COMPRESSORS)),
    position=st.integers(0, 1 << 16),
    value=st.integers(1, 255),
)
@example(method=b"xz", position=64 + 6, value=0xFF)
def test_a_changed_byte_is_refused_or_harmless(method: bytes, position: int, value: int):
    packed = bytearray(zboot(COMPRESSORS[method](KERNEL), method))
    packed[position % len(packed)] ^= value
    with contextlib.suppress(wirt.ImageError):
        unwrap(bytes(packed), "vmlinuz", limit=1 << 20)
