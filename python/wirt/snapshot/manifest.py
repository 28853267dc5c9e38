"""A snapshot's manifest: what is in the directory, checked strictly.

``manifest.json`` is the one file that is written last and read first. It says which format it has, which machine it is
of, and how long every other file is and what its digest is. It carries a digest of itself, so that a flipped bit
anywhere in it is noticed.

Untrusted: all of it. It is accepted only if it is, byte for byte, what this module would write for the values that it
states; unknown keys, names of files other than the known ones, and numbers out of range are refused.
"""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any, TypedDict, cast, final

from wirt.description import MachineDescription, all_disks, parse
from wirt.errors import SnapshotError

__all__ = [
    "FORMAT",
    "IncludedDisk",
    "Manifest",
    "MemoryFile",
    "Parent",
    "ReferencedDisk",
    "StateFile",
    "StoredFile",
    "digest",
    "finished",
    "read",
    "render",
]

# Raised when a reader of an earlier release would misread what is written.
FORMAT = 1
NAME = "manifest.json"
STATE, DTB, MEMORY, RECORDING = "state.bin", "dtb.bin", "memory.bin", "recording.bin"
LONGEST = 1 << 20  # bytes of a manifest
LARGEST_STATE = 1 << 30
LARGEST_RECORDING = 1 << 40
_DIGEST = re.compile(r"[0-9a-f]{64}")
_ID = re.compile(r"[0-9a-f]{32}")
_CREATED = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")


class StoredFile(TypedDict):
    """A file of the directory: its size in bytes and its BLAKE2b-256 digest."""

    size: int
    digest: str


class Section(TypedDict):
    """A section of the state: a part of ``state.bin``."""

    name: str
    version: int
    size: int
    digest: str


class StateFile(StoredFile):
    """``state.bin`` and what is in it, in order."""

    sections: list[Section]


class MemoryFile(StoredFile):
    """``memory.bin``.

    ``encoding`` is ``raw`` (all of guest RAM, with holes where pages are zero; the digest is that of
    :func:`wirt.snapshot.files.sparse_digest`) or ``pages`` (frames of pages; the digest is that of the file).
    ``pages`` is how many hold something, ``zero_pages`` how many are named as zero: those of an incremental snapshot
    that were written.
    """

    encoding: str
    compression: str | None
    pages: int
    zero_pages: int


@final
class ReferencedDisk(TypedDict):
    """A disk image outside, by what its file system knew of it."""

    path: str
    size: int
    inode: int
    mtime_ns: int


@final
class IncludedDisk(StoredFile):
    """A disk's content in the directory, with holes where it is zero; digest as of raw memory."""

    file: str


class Parent(TypedDict):
    """What an incremental snapshot builds on: where it is, relative to the directory or absolute, and what it is."""

    path: str
    id: str
    digest: str


class _Always(TypedDict):
    format: int
    wirt: str
    id: str
    created: str
    machine: MachineDescription
    instructions: int
    time_ns: int
    state: StateFile
    dtb: StoredFile
    memory: MemoryFile
    disks: list[ReferencedDisk | IncludedDisk]
    parent: Parent | None
    digest: str


class Manifest(_Always, total=False):
    """All of a manifest.

    ``disks`` has one for each of :func:`wirt.description.all_disks`; ``recording`` is there if the machine was
    recorded.
    """

    recording: StoredFile


def digest(data: bytes | memoryview) -> str:
    """The digest that a manifest states of a file with this content."""
    return hashlib.blake2b(data, digest_size=32).hexdigest()


def render(manifest: Manifest) -> bytes:
    """The file's content."""
    return (json.dumps(manifest, indent=1, sort_keys=True) + "\n").encode()


def finished(manifest: Manifest) -> Manifest:
    """The manifest with its own digest."""
    rest = {key: value for key, value in manifest.items() if key != "digest"}
    manifest["digest"] = digest(json.dumps(rest, sort_keys=True, separators=(",", ":")).encode())
    return manifest


def read(content: bytes, where: str) -> Manifest:
    """The manifest in a file's content.

    Raises:
        SnapshotError: it is broken, or of a newer release; `where` is named.
    """
    try:
        return _read(content)
    except SnapshotError as error:
        raise SnapshotError(f"{where}: {error}") from None


def _read(content: bytes) -> Manifest:
    if len(content) > LONGEST:
        raise SnapshotError(f"a manifest has at most {LONGEST} bytes")
    try:
        data = json.loads(content, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise SnapshotError("the manifest is no JSON: it was damaged, or is no snapshot's") from None
    version = data.get("format") if isinstance(data, dict) else None
    if type(version) is not int or version < 1:
        raise SnapshotError("the manifest does not say its format: it is no snapshot's")
    if version > FORMAT:
        raise SnapshotError(
            f"the snapshot has format {version}, written by wirt {data.get('wirt')!r}; this release knows formats up "
            f"to {FORMAT}: use a newer one"
        )
    optional = frozenset(data.keys() & Manifest.__optional_keys__)
    _keys(data, Manifest.__required_keys__ | optional, "manifest")
    stated = data["digest"]
    if finished(cast(Manifest, dict(data)))["digest"] != stated or render(data) != content:
        raise SnapshotError("the manifest does not have the digest that it states: it was damaged or edited")
    _text(data, "wirt", re.compile(r"[\w.+-]{1,64}"))
    _text(data, "id", _ID)
    _text(data, "created", _CREATED)
    machine = data["machine"] = parse(data["machine"])
    _number(data, "instructions", 1 << 64)
    _number(data, "time_ns", 1 << 64)
    _state(data["state"])
    _file(data["dtb"], StoredFile.__required_keys__, "dtb", 1 << 24)
    if "recording" in data:
        _file(data["recording"], StoredFile.__required_keys__, "recording", LARGEST_RECORDING)
    _memory(data["memory"], machine["options"]["memory"], incremental=data["parent"] is not None)
    wanted = all_disks(machine)
    if not isinstance(data["disks"], list) or len(data["disks"]) != len(wanted):
        raise SnapshotError("the manifest does not have as many disks as its machine")
    for number, disk in enumerate(data["disks"]):
        _disk(disk, number, wanted[number]["size"])
    if data["parent"] is not None:
        _keys(data["parent"], Parent.__required_keys__, "parent")
        _path(data["parent"])
        _text(data["parent"], "id", _ID)
        _text(data["parent"], "digest", _DIGEST)
    return cast(Manifest, data)


def _no_constant(text: str) -> None:
    raise ValueError(text)


def _keys(data: object, keys: frozenset[str], what: str) -> None:
    if not isinstance(data, dict) or data.keys() != keys:
        raise SnapshotError(f"the manifest's {what} has not the keys that this release knows")


def _text(data: dict[str, Any], key: str, form: re.Pattern[str]) -> None:
    if not isinstance(data[key], str) or not form.fullmatch(data[key]):
        raise SnapshotError(f"the manifest says {key}: {data[key]!r}")


def _path(data: dict[str, Any]) -> None:
    if not isinstance(data["path"], str) or not data["path"] or "\0" in data["path"]:
        raise SnapshotError(f"the manifest says path: {data['path']!r}")


def _number(data: dict[str, Any], key: str, limit: int) -> None:
    # bool is an int to isinstance.
    if type(data[key]) is not int or not 0 <= data[key] < limit:
        raise SnapshotError(f"the manifest says {key}: {data[key]!r}")


def _file(data: object, keys: frozenset[str], what: str, largest: int) -> dict[str, Any]:
    _keys(data, keys, what)
    file = cast("dict[str, Any]", data)
    _number(file, "size", largest + 1)
    _text(file, "digest", _DIGEST)
    return file


def _state(data: object) -> None:
    state = _file(data, StateFile.__required_keys__, "state", LARGEST_STATE)
    if not isinstance(state["sections"], list):
        raise SnapshotError("the manifest's state has no sections")
    for section in state["sections"]:
        _file(section, Section.__required_keys__, "section", LARGEST_STATE)
        _number(section, "version", 1 << 32)
        if not isinstance(section["name"], str):
            raise SnapshotError("the manifest names a section by something that is no text")


def _memory(data: object, ram: int, *, incremental: bool) -> None:
    memory = _file(data, MemoryFile.__required_keys__, "memory", 1 << 40)
    for key in ("pages", "zero_pages"):
        _number(memory, key, ram // 4096 + 1)
    kind = memory["encoding"], memory["compression"]
    if kind not in (("raw", None), ("pages", None), ("pages", "zstd")):
        raise SnapshotError(f"the manifest says that memory is stored as {kind!r}, which this release does not know")
    if memory["encoding"] == "raw" and (memory["size"] != ram or memory["zero_pages"] or incremental):
        raise SnapshotError("the manifest's memory is not that of its machine")


def _disk(data: object, number: int, size: int) -> None:
    if isinstance(data, dict) and "file" in data:
        _file(data, IncludedDisk.__required_keys__, f"disk {number}", 1 << 62)
        if data["file"] != disk_file(number):
            raise SnapshotError(f"the manifest says that disk {number} is in {data['file']!r}")
    else:
        _keys(data, ReferencedDisk.__required_keys__, f"disk {number}")
        disk = cast("dict[str, Any]", data)
        _path(disk)
        for key in ("size", "inode", "mtime_ns"):
            _number(disk, key, 1 << 64)
    if cast("dict[str, Any]", data)["size"] != size:
        raise SnapshotError(f"the manifest gives disk {number} two sizes")


def disk_file(number: int) -> str:
    """The name of the file with an included disk's content."""
    return f"disk{number}.img"
