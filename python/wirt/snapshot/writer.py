"""Writing a snapshot of a machine, which runs on meanwhile.

The guest stands still while the state of its devices is saved and the capture of its memory begins. Everything else
happens while it runs: whoever is about to write a page, or a part of an included disk, that was not stored yet keeps a
copy of it first.
"""

from __future__ import annotations

import os
import threading
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from wirt import _core, description
from wirt.errors import SnapshotError, StateError, StorageError
from wirt.snapshot import chain, files, manifest
from wirt.snapshot.chain import Link
from wirt.snapshot.memory import MemoryWriter

if TYPE_CHECKING:
    from wirt.machine import Machine

__all__ = ["DiskChoice", "Line", "Writer", "line_of", "store_disk"]

DiskChoice = Literal["reference", "include"]

_BATCH_PAGES = 256
_DISK_STEP = 16 << 20


class Line:
    """What a machine's next incremental snapshot builds on."""

    def __init__(self) -> None:
        self.busy = threading.Lock()
        self.last: Link | None = None
        # Pages that were taken out of the dirty log for a snapshot that then failed.
        self.owed: _core.PageSet | None = None


def line_of(machine: Machine) -> Line:
    """The machine's own."""
    line = machine.__dict__.setdefault("_snapshot_line", Line())
    assert isinstance(line, Line)
    return line


class Writer:
    """One snapshot: made, the guest runs on already; :meth:`finish` writes it.

    Attributes:
        paused: for how many seconds the guest stood still.
    """

    def __init__(
        self,
        machine: Machine,
        path: str | os.PathLike[str],
        *,
        incremental: bool,
        compress: Literal[False, "zstd"],
        disks: DiskChoice | Sequence[DiskChoice],
    ) -> None:
        if compress not in (False, "zstd"):
            raise SnapshotError(f"compress {compress!r}: give False or 'zstd'")
        given = [disks] if isinstance(disks, str) else list(disks)
        if not set(given) <= set(get_args(DiskChoice)):
            raise SnapshotError(f"disks {disks!r}: give 'reference' or 'include', or one of them for each disk")
        choices = given * len(machine._disks) if isinstance(disks, str) else given
        if len(choices) != len(machine._disks):
            raise SnapshotError(f"disks: the machine has {len(machine._disks)}; {len(choices)} choices are given")
        self._machine = machine
        self._place = Path(os.path.abspath(path))  # noqa: PTH100 - a link at the place is refused, not followed
        self._compression = compress or None
        self._line = line_of(machine)
        if not self._line.busy.acquire(blocking=False):
            raise StateError("a snapshot of this machine is being written already: wait for its end")
        try:
            self._parent = self._checked_parent() if incremental else None
            self._begin([choice == "include" for choice in choices])
        except BaseException:
            self._line.busy.release()
            raise

    def _checked_parent(self) -> Link:
        last = self._line.last
        if last is None:
            raise StateError("there is no snapshot of this machine to build on: take a full one first")
        now = chain.load(last.path)
        if now.manifest["digest"] != last.manifest["digest"]:
            raise SnapshotError(f"{last.path}: is another snapshot than the one that was taken: take a full one")
        if any(link.path == self._place for link in chain.chain_of(now)):
            raise SnapshotError(f"{self._place}: the new snapshot builds on this one and cannot replace it")
        return last

    def _begin(self, include: list[bool]) -> None:
        machine, core = self._machine, self._machine._core
        running = machine.state == "running"
        begun = time.perf_counter()
        machine.pause()
        try:
            self._state = _core.save_state(core)
            self._recording = _core.save_recording(core)
            self._described = description.describe(machine)
            self._instructions, self._time_ns = machine.instructions, core.time_ns
            self._backends = [disk._opened() for disk in machine._disks]
            self._disks = [
                _stored_disk(disk, number, included)
                for number, (disk, included) in enumerate(zip(self._backends, include, strict=True))
            ]
            self._wanted = self._take_dirty() if self._parent is not None else None
            self._capture = _core.begin_capture(core, self._wanted)
            if self._parent is None:
                self._take_dirty()
        finally:
            if running:
                machine.resume()
            self.paused = time.perf_counter() - begun

    def _take_dirty(self) -> _core.PageSet:
        """The pages written since the last snapshot; what is written from now on is another one's."""
        core, line = self._machine._core, self._line
        if line.last is None:
            _core.start_log(core, _core.DirtyLog.snapshot)
            return _core.PageSet(0)
        _core.settle_memory(core)
        pages = _core.take_dirty(core, _core.DirtyLog.snapshot)
        if line.owed is not None:
            pages |= line.owed
        # Until this snapshot is whole.
        line.owed = pages
        return pages

    def finish(self) -> Link:
        """Writes it, to the last byte on stable storage.

        Raises:
            StorageError: the disk is full, or fails; nothing is left behind, and an old snapshot is as it was.
        """
        try:
            with files.Draft(self._place) as draft, files.storing(self._place):
                memory = self._write_memory(draft)
                disks = [self._write_disk(draft, disk) for disk in self._disks]
                link = self._write_manifest(draft, memory, disks)
                draft.publish()
            self._line.last, self._line.owed = link, None
            return link
        finally:
            self._capture.close()
            self._line.busy.release()

    def _write_memory(self, draft: files.Draft) -> manifest.MemoryFile:
        ram = self._described["options"]["memory"]
        frames = self._parent is not None or self._compression is not None
        writer = MemoryWriter(draft, ram, frames=frames, compression=self._compression)
        try:
            zeroes = None if self._wanted is None else self._wanted.copy()
            while True:
                visited, numbers, content = self._capture.read(_BATCH_PAGES)
                if visited == 0:
                    break
                writer.add(numbers, content)
                if zeroes is not None:
                    zeroes.remove_numbers(numbers)
            self._capture.close()
            if zeroes is not None:
                writer.add_zeroes(zeroes.numbers())
            return writer.finish()
        finally:
            writer.close()

    def _write_disk(
        self, draft: files.Draft, disk: manifest.ReferencedDisk | tuple[str, _core.BlockBackend]
    ) -> manifest.ReferencedDisk | manifest.IncludedDisk:
        return store_disk(draft, *disk) if isinstance(disk, tuple) else disk

    def _write_manifest(
        self,
        draft: files.Draft,
        memory: manifest.MemoryFile,
        disks: list[manifest.ReferencedDisk | manifest.IncludedDisk],
    ) -> Link:
        # What a snapshot refers to is to be there after a power failure as well.
        for disk, stored in zip(self._backends, disks, strict=True):
            if "file" not in stored and not disk.read_only:
                disk.flush()
        state, dtb = bytes(self._state), self._machine.dtb
        draft.write(manifest.STATE, state)
        draft.write(manifest.DTB, dtb)
        parent: manifest.Parent | None = None
        if self._parent is not None:
            parent = {
                "path": os.path.relpath(self._parent.path, self._place),
                "id": self._parent.manifest["id"],
                "digest": self._parent.manifest["digest"],
            }
        content = new_manifest(self._described, self._state, dtb, memory, disks, parent)
        if self._recording:
            content["recording"] = store_recording(draft, self._recording)
        content["instructions"], content["time_ns"] = self._instructions, self._time_ns
        return write_manifest(draft, content)


def new_manifest(
    machine: description.MachineDescription,
    state: _core.SavedState,
    dtb: bytes,
    memory: manifest.MemoryFile,
    disks: list[manifest.ReferencedDisk | manifest.IncludedDisk],
    parent: manifest.Parent | None,
) -> manifest.Manifest:
    """A manifest, with a new id and the present time."""
    from datetime import UTC, datetime

    from wirt import __version__

    raw = bytes(state)
    view = memoryview(raw)
    return {
        "format": manifest.FORMAT,
        "wirt": __version__,
        "id": uuid.uuid4().hex,
        "created": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "machine": machine,
        "instructions": 0,
        "time_ns": 0,
        "state": {
            "size": len(raw),
            "digest": manifest.digest(raw),
            "sections": [
                {
                    "name": name,
                    "version": version,
                    "size": size,
                    "digest": manifest.digest(view[offset : offset + size]),
                }
                for name, version, offset, size in _core.state_sections(state)
            ],
        },
        "dtb": {"size": len(dtb), "digest": manifest.digest(dtb)},
        "memory": memory,
        "disks": disks,
        "parent": parent,
        "digest": "",
    }


def store_recording(draft: files.Draft, recording: bytes) -> manifest.StoredFile:
    """Writes what a recorded machine's past is made of."""
    draft.write(manifest.RECORDING, recording)
    return {"size": len(recording), "digest": manifest.digest(recording)}


def write_manifest(draft: files.Draft, content: manifest.Manifest) -> Link:
    """Writes the manifest, the last of a draft's files."""
    manifest.finished(content)
    draft.write(manifest.NAME, manifest.render(content))
    return Link(draft.place, content)


def store_disk(draft: files.Draft, name: str, disk: _core.BlockBackend) -> manifest.IncludedDisk:
    """Copies a disk's content, with holes where it is zero."""
    file = draft.create(name)
    try:
        os.ftruncate(file, disk.size)
        for offset, length in disk.data_runs():
            for at in range(offset, offset + length, _DISK_STEP):
                disk.copy_range(file, at, min(_DISK_STEP, offset + length - at))
        os.fsync(file)
        digest, _ = files.sparse_digest(file, disk.size)
        return {"file": name, "size": disk.size, "digest": digest}
    finally:
        os.close(file)


def _stored_disk(
    backend: _core.TrackedDisk, number: int, include: bool
) -> manifest.ReferencedDisk | tuple[str, _core.BlockBackend]:
    if include:
        return manifest.disk_file(number), backend.view()
    identity = backend.identity()
    if identity is None:
        raise StorageError(
            f"{backend.describe()}: its content is in host memory, or may change unseen: a snapshot can only include "
            "it (disks='include')"
        )
    return {
        "path": identity.path,
        "size": identity.size,
        "inode": identity.inode,
        "mtime_ns": identity.mtime_ns,
    }
