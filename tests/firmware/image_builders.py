"""Small images in the formats that the loaders read, and a reader of flattened device trees, for tests."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

ET_REL, ET_EXEC, ET_DYN, ET_CORE = 1, 2, 3, 4
EM_X86_64, EM_AARCH64, EM_RISCV = 62, 183, 243
PT_LOAD, PT_INTERP = 1, 3

RAM_BASE = 0x8000_0000
MIB = 1 << 20


@dataclass
class Segment:
    """A program header and the bytes it loads."""

    paddr: int
    data: bytes
    memsz: int | None = None
    vaddr: int | None = None
    p_type: int = PT_LOAD


def elf64(
    segments: list[Segment],
    entry: int,
    *,
    e_type: int = ET_EXEC,
    machine: int = EM_RISCV,
    elf_class: int = 2,
    data_encoding: int = 1,
) -> bytes:
    """An ELF-64 file with its segments one after the other behind the program headers."""
    headers, body = b"", b""
    offset = 64 + 56 * len(segments)
    for segment in segments:
        vaddr = segment.paddr if segment.vaddr is None else segment.vaddr
        memsz = len(segment.data) if segment.memsz is None else segment.memsz
        headers += struct.pack(
            "<IIQQQQQQ",
            segment.p_type,
            7,
            offset + len(body),
            vaddr,
            segment.paddr,
            len(segment.data),
            memsz,
            0x1000,
        )
        body += segment.data
    ident = b"\x7fELF" + bytes([elf_class, data_encoding, 1]) + bytes(9)
    header = ident + struct.pack("<HHIQQQIHHHHHH", e_type, machine, 1, entry, 64, 0, 0, 64, 56, len(segments), 0, 0, 0)
    return header + headers + body


def linux_image(body: bytes, *, text_offset: int = 2 * MIB, image_size: int = 0, flags: int = 0) -> bytes:
    """A RISC-V Linux Image (Documentation/arch/riscv/boot-image-header.rst)."""
    header = struct.pack("<IIQQQIIQ8s4sI", 0x6F, 0, text_offset, image_size, flags, 2, 0, 0, b"RISCV", b"RSC\x05", 0)
    return header + body


def zboot(payload: bytes, compression: bytes, *, offset: int = 64, size: int | None = None) -> bytes:
    """An EFI zboot image around an already compressed payload."""
    header = struct.pack(
        "<4s4sII8x32s8x", b"MZ\0\0", b"zimg", offset, len(payload) if size is None else size, compression
    )
    return header + payload


@dataclass
class Node:
    """A node of a parsed device tree."""

    name: str
    properties: dict[str, bytes] = field(default_factory=dict)
    children: list[Node] = field(default_factory=list)

    def __getitem__(self, path: str) -> Node:
        """The node at a path below this one."""
        node = self
        for part in path.strip("/").split("/"):
            node = next(child for child in node.children if child.name == part)
        return node

    def walk(self) -> list[Node]:
        """This node and all below it."""
        return [self, *(node for child in self.children for node in child.walk())]

    def cells(self, name: str) -> list[int]:
        """A property of 32-bit cells."""
        value = self.properties[name]
        return list(struct.unpack(f">{len(value) // 4}I", value))

    def text(self, name: str) -> str:
        """A property of one string."""
        return self.properties[name].rstrip(b"\0").decode()

    def texts(self, name: str) -> list[str]:
        """A property of several strings."""
        return self.properties[name].decode().rstrip("\0").split("\0")


def parse_dtb(dtb: bytes) -> Node:
    """Reads a well-formed DTB (Devicetree Specification 0.4, chapter 5)."""
    magic, total, structure, strings, _, version, _, _, _, _ = struct.unpack_from(">10I", dtb)
    assert magic == 0xD00DFEED
    assert total <= len(dtb)
    assert version == 17
    stack: list[Node] = [Node("")]
    at = structure
    while True:
        (token,) = struct.unpack_from(">I", dtb, at)
        at += 4
        if token == 1:
            end = dtb.index(b"\0", at)
            node = Node(dtb[at:end].decode())
            stack[-1].children.append(node)
            stack.append(node)
            at = (end + 4) & ~3
        elif token == 2:
            stack.pop()
        elif token == 3:
            length, name = struct.unpack_from(">II", dtb, at)
            name_end = dtb.index(b"\0", strings + name)
            stack[-1].properties[dtb[strings + name : name_end].decode()] = dtb[at + 8 : at + 8 + length]
            at = (at + 8 + length + 3) & ~3
        elif token == 9:
            (root,) = stack[0].children
            return root
        else:
            assert token == 4
