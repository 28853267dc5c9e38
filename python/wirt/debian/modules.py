"""Linux kernel modules: what each needs, and the index files that ``modprobe`` reads.

Debian's packages carry no ``modules.dep``: it is made at installation by depmod(8). This does the part of it that a
small initramfs needs, from the ``.modinfo`` section that every module carries (an ELF64 section of NUL-terminated
``key=value`` strings).
"""

from __future__ import annotations

import lzma
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from wirt.errors import PullError

__all__ = ["Module", "ModuleTree", "alias_file", "closure", "dependency_file", "module_name", "unpack"]


@dataclass(frozen=True)
class Module:
    """One module, unpacked.

    Attributes:
        path: below ``/lib/modules/RELEASE/``, e.g. ``kernel/drivers/block/virtio_blk.ko``.
        content: the ELF file, with its signature behind it.
        needs: names of the modules that must be loaded before.
        aliases: patterns by which the kernel or a bus asks for it.
    """

    path: str
    content: bytes
    needs: tuple[str, ...]
    aliases: tuple[str, ...]

    @property
    def name(self) -> str:
        """Its name, underscores for dashes as the kernel has it."""
        return module_name(self.path)


def module_name(path: str) -> str:
    """``virtio_rng`` for ``kernel/drivers/char/hw_random/virtio-rng.ko.xz``."""
    return PurePosixPath(path).name.partition(".ko")[0].replace("-", "_")


def unpack(path: str, packed: bytes) -> Module:
    """Decompresses a module (``.ko``, ``.ko.xz``, ``.ko.gz``, ``.ko.zst``) and reads what it needs.

    Raises:
        PullError: it is not an ELF64 file, or cannot be decompressed.
    """
    try:
        if path.endswith(".xz"):
            content = lzma.decompress(packed)
        elif path.endswith(".gz"):
            import gzip

            content = gzip.decompress(packed)
        elif path.endswith(".zst"):
            import zstandard

            content = zstandard.ZstdDecompressor().decompressobj().decompress(packed)
        else:
            content = packed
        info = _modinfo(content)
    except (lzma.LZMAError, OSError, EOFError, struct.error, IndexError) as error:
        raise PullError(f"{path}: is not a kernel module that can be read ({error})") from error
    needs = [name for value in info.get("depends", []) for name in value.split(",") if name]
    for value in info.get("softdep", []):
        needs += _before(value)
    stem = path.partition(".ko")[0]
    return Module(
        path=f"{stem}.ko",
        content=content,
        needs=tuple(dict.fromkeys(name.replace("-", "_") for name in needs)),
        aliases=tuple(info.get("alias", [])),
    )


def _before(softdep: str) -> list[str]:
    """The names behind ``pre:`` in a soft dependency such as ``pre: crc32c post: zstd``."""
    names: list[str] = []
    kind = ""
    for word in softdep.split():
        if word.endswith(":"):
            kind = word
        elif kind == "pre:":
            names.append(word)
    return names


def _modinfo(elf: bytes) -> dict[str, list[str]]:
    if elf[:5] != b"\x7fELF\x02":
        raise PullError("a kernel module is not an ELF64 file")
    section_offset = struct.unpack_from("<Q", elf, 0x28)[0]
    entry_size, count, names_index = struct.unpack_from("<HHH", elf, 0x3A)

    def section(index: int) -> tuple[int, int, int]:
        at = section_offset + index * entry_size
        name = struct.unpack_from("<I", elf, at)[0]
        offset, size = struct.unpack_from("<QQ", elf, at + 0x18)
        return name, offset, size

    _, names_offset, _ = section(names_index)
    info: dict[str, list[str]] = {}
    for index in range(count):
        name, offset, size = section(index)
        start = names_offset + name
        if elf[start : elf.index(b"\0", start)] != b".modinfo":
            continue
        for entry in elf[offset : offset + size].split(b"\0"):
            key, equals, value = entry.decode("utf-8", "replace").partition("=")
            if equals:
                info.setdefault(key, []).append(value)
    return info


class ModuleTree(Mapping[str, Module]):
    """Modules by name, each unpacked when it is first asked for."""

    def __init__(self, packed: Iterable[tuple[str, bytes]]) -> None:
        self._packed = {module_name(path): (path, content) for path, content in packed}
        self._unpacked: dict[str, Module] = {}

    def __getitem__(self, name: str) -> Module:
        if name not in self._unpacked:
            self._unpacked[name] = unpack(*self._packed[name])
        return self._unpacked[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._packed)

    def __len__(self) -> int:
        return len(self._packed)


def closure(wanted: Iterable[str], modules: Mapping[str, Module]) -> list[Module]:
    """The wanted modules that exist, and all that they need, each after what it needs.

    A name that no module has is left out: it is then built into the kernel, or not part of this one.
    """
    order: dict[str, Module] = {}
    visiting: set[str] = set()

    def visit(name: str) -> None:
        module = modules.get(name)
        if module is None or name in order or name in visiting:
            return
        visiting.add(name)
        for need in module.needs:
            visit(need)
        order[name] = module

    for name in wanted:
        visit(name)
    return list(order.values())


def dependency_file(chosen: Iterable[Module]) -> str:
    """``modules.dep`` for these modules, modules.dep(5): all that a module needs, nearest first."""
    by_name = {module.name: module for module in chosen}
    lines = []
    for module in by_name.values():
        needs = closure(module.needs, by_name)
        lines.append(f"{module.path}: {' '.join(need.path for need in reversed(needs))}".rstrip())
    return "\n".join(lines) + "\n"


def alias_file(chosen: Iterable[Module]) -> str:
    """``modules.alias`` for these modules."""
    lines = [f"alias {alias} {module.name}" for module in chosen for alias in module.aliases]
    return "\n".join(lines) + "\n"
