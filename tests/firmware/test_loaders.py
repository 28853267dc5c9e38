"""Kernels in each format land where they must; broken and foreign files are refused with the reason."""

from __future__ import annotations

import contextlib
import gzip
import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from image_builders import (
    EM_AARCH64,
    EM_X86_64,
    ET_CORE,
    ET_DYN,
    ET_REL,
    MIB,
    PT_INTERP,
    RAM_BASE,
    Segment,
    elf64,
    linux_image,
    parse_dtb,
    zboot,
)

import wirt

CODE = b"\x6f\x00\x00\x00" + bytes(range(256)) * 5  # jumps to itself
MEMORY = 32 * MIB


def build(kernel: bytes | None = None, **images: bytes) -> wirt.Machine:
    """A machine that is never started."""
    return wirt.Machine(kernel=kernel, **images, memory="32M")


def load(kernel: bytes) -> tuple[int, bytes]:
    """Where the hart starts, and what is in memory then."""
    with build(kernel) as vm:
        return vm.harts[0].pc, bytes(vm.memory[RAM_BASE : RAM_BASE + MEMORY])


def test_elf_goes_to_its_physical_addresses():
    segments = [
        Segment(RAM_BASE + 0x1000, CODE, memsz=0x3000, vaddr=0xFFFF_FFFF_8000_0000),
        Segment(RAM_BASE + 0x5000, b"data", vaddr=0xFFFF_FFFF_8000_4000),
    ]
    pc, ram = load(elf64(segments, 0xFFFF_FFFF_8000_0004))
    assert pc == RAM_BASE + 0x1004
    assert ram[0x1000 : 0x1000 + len(CODE)] == CODE
    assert ram[0x1000 + len(CODE) : 0x4000] == bytes(0x3000 - len(CODE))
    assert ram[0x5000:0x5004] == b"data"


def test_position_independent_elf_is_moved():
    segments = [Segment(0x1000, CODE), Segment(0x8000, b"data")]
    pc, ram = load(elf64(segments, 0x1000, e_type=ET_DYN))
    start = pc - RAM_BASE
    assert start % 0x1000 == 0
    assert ram[start : start + len(CODE)] == CODE
    assert ram[start + 0x7000 : start + 0x7004] == b"data"


def test_linux_image_honours_text_offset():
    image = linux_image(CODE, text_offset=3 * MIB)
    pc, ram = load(image)
    assert pc == RAM_BASE + 3 * MIB
    assert ram[3 * MIB : 3 * MIB + len(image)] == image


def test_image_size_keeps_the_initrd_out_of_the_bss():
    image = linux_image(CODE, image_size=20 * MIB)
    with build(image, initrd=bytes(4 * MIB)) as vm:
        chosen = parse_dtb(vm.dtb)["chosen"]
        start, end = (struct.unpack(">Q", chosen.properties[f"linux,initrd-{edge}"])[0] for edge in ("start", "end"))
        assert start >= RAM_BASE + 22 * MIB
        assert end - start == 4 * MIB
        assert end <= RAM_BASE + MEMORY
    with pytest.raises(wirt.ImageError, match="initrd of 11534336 bytes does not fit"):
        build(image, initrd=bytes(11 * MIB))


def test_compressed_kernels_are_unwrapped():
    image = linux_image(CODE)
    for packed in (gzip.compress(image), zboot(gzip.compress(image), b"gzip")):
        assert load(packed)[0] == RAM_BASE + 2 * MIB


def test_firmware_may_be_raw():
    with build(firmware=CODE) as vm:
        assert vm.memory[RAM_BASE : RAM_BASE + len(CODE)] == CODE


def test_firmware_and_kernel_must_not_overlap():
    with pytest.raises(wirt.ImageError, match="overlaps"):
        build(elf64([Segment(RAM_BASE + 0x100, CODE)], RAM_BASE + 0x100), firmware=CODE)


def pe_image(raw_size: int) -> bytes:
    """A Linux Image with an EFI stub whose one section claims `raw_size` bytes from offset 0x1000 on."""
    head = bytearray(linux_image(bytes(0x1000)))
    head[0:2] = b"MZ"
    struct.pack_into("<I", head, 60, 64)
    struct.pack_into("<4sHH12xHH", head, 64, b"PE\0\0", 0x5064, 1, 16, 0)
    struct.pack_into("<8sIIII", head, 64 + 24 + 16, b".text", 0, 0, raw_size, 0x1000)
    return bytes(head)


def test_linux_image_with_efi_stub():
    whole = pe_image(0x40)
    assert load(whole)[0] == RAM_BASE + 2 * MIB


GOOD = Segment(RAM_BASE, CODE)


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (b"", "is empty"),
        (b"not a kernel", "neither a RISC-V ELF file nor a RISC-V Linux Image"),
        (b"\x7fELF", "truncated inside its header"),
        (elf64([GOOD], RAM_BASE)[:100], "truncated inside its program headers"),
        (elf64([GOOD], RAM_BASE)[:-1], "lies outside the file, which is truncated"),
        (elf64([GOOD], RAM_BASE, machine=EM_X86_64), "for x86-64 .*this machine is RISC-V"),
        (elf64([GOOD], RAM_BASE, machine=EM_AARCH64), "for arm64"),
        (elf64([GOOD], RAM_BASE, machine=0xFFFF), "for another machine"),
        (elf64([GOOD], RAM_BASE, elf_class=1), "32-bit"),
        (elf64([GOOD], RAM_BASE, data_encoding=2), "big-endian"),
        (elf64([GOOD], RAM_BASE, e_type=ET_REL), "link it first"),
        (elf64([GOOD], RAM_BASE, e_type=ET_CORE), "core dump"),
        (elf64([GOOD], RAM_BASE, e_type=0xFE00), "unknown type"),
        (elf64([], RAM_BASE), "without program headers"),
        (elf64([Segment(RAM_BASE, CODE, memsz=4)], RAM_BASE), "more bytes in the file than in memory"),
        (elf64([Segment(RAM_BASE, b"", memsz=0)], RAM_BASE), "without a segment to load"),
        (elf64([GOOD, Segment(0, b"/lib/ld.so", p_type=PT_INTERP)], RAM_BASE), "dynamically linked"),
        (elf64([GOOD, Segment(RAM_BASE + 8, b"x")], RAM_BASE), "overlap"),
        (elf64([Segment(0x1000, CODE)], 0x1000), "outside guest memory"),
        (elf64([Segment(RAM_BASE + MEMORY - 8, CODE)], RAM_BASE), "outside guest memory"),
        (elf64([Segment(RAM_BASE, CODE, memsz=1 << 63)], RAM_BASE), "outside guest memory"),
        (elf64([Segment(RAM_BASE, CODE, memsz=(1 << 64) - 1)], RAM_BASE), "wraps around"),
        (elf64([GOOD], RAM_BASE + 0x10_0000), "entry point 0x80100000 lies in no segment"),
        (elf64([GOOD], RAM_BASE + 1), "misaligned"),
        (linux_image(b"")[:60], "Linux Image is truncated inside its header"),
        (linux_image(CODE, flags=1), "big-endian Linux Image"),
        (linux_image(CODE, image_size=MEMORY), "give the machine more memory"),
        (linux_image(CODE, image_size=(1 << 64) - 1), "give the machine more memory"),
        (linux_image(CODE, text_offset=(1 << 64) - 1), "give the machine more memory"),
        (pe_image(0x41), "Linux Image is truncated: it has 4160 bytes of 4161"),
        (bytes(56) + b"ARM\x64" + bytes(8), "kernel for arm64"),
        (bytes(0x202) + b"HdrS" + bytes(64), "bzImage for x86"),
        (b"MZ" + bytes(100), "EFI application"),
        (b"\x27\x05\x19\x56" + bytes(100), "uImage"),
        (b"\xd0\x0d\xfe\xed" + bytes(100), "device tree"),
        (b"!<arch>\n" + bytes(100), "archive"),
        (b"070701" + bytes(104), "initrd, not a kernel"),
        (b"BZh9" + bytes(100), "bzip2"),
        (b"\x02\x21\x4c\x18" + bytes(100), "lz4"),
    ],
)
def test_refused_with_the_reason(image: bytes, reason: str):
    with pytest.raises(wirt.ImageError, match=reason):
        build(image)


def test_the_error_names_the_file(tmp_path: Path):
    file = tmp_path / "strange.img"
    file.write_bytes(b"?")
    with pytest.raises(wirt.ImageError, match=r"strange\.img"):
        wirt.Machine(kernel=file, memory="32M")


@pytest.mark.parametrize(
    "image",
    [
        elf64([GOOD, Segment(RAM_BASE + 0x2000, CODE, memsz=0x2000)], RAM_BASE),
        elf64([Segment(0, CODE), Segment(0x2000, CODE)], 0, e_type=ET_DYN),
        linux_image(CODE, image_size=MIB),
        pe_image(0x40),
    ],
    ids=["executable", "position-independent", "image", "image with EFI stub"],
)
@settings(max_examples=100, deadline=None)
@given(
    changes=st.lists(st.tuples(st.integers(0, 255), st.integers(0, 255)), min_size=1, max_size=6),
    length=st.none() | st.integers(0, 300),
)
def test_changed_headers_are_refused_or_harmless(image: bytes, changes, length):
    changed = bytearray(image)
    for position, value in changes:
        changed[position] = value
    with contextlib.suppress(wirt.ImageError), build(bytes(changed[:length])):
        pass
