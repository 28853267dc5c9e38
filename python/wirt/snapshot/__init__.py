"""Snapshots: a machine's whole state in a directory.

:meth:`wirt.Machine.snapshot` writes one and :meth:`wirt.Machine.restore` makes a machine of it; this package has what
can be done with the directory itself. ``docs/snapshots.md`` describes format and guarantees.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from wirt.errors import SnapshotError
from wirt.snapshot import chain, files, manifest
from wirt.snapshot.chain import Link

if TYPE_CHECKING:
    from wirt.machine import Machine
    from wirt.snapshot.diff import Difference

__all__ = ["Snapshot", "begin", "found_in", "remove"]


class Snapshot:
    """A snapshot in a directory.

    Attributes:
        path: the directory.
        paused: for how many seconds the guest stood still while it was taken; None for one that was opened.

    Example:
        >>> snapshot = vm.snapshot("booted")
        >>> wirt.Snapshot.open("booted").info["instructions"]
    """

    def __init__(self, link: Link, paused: float | None = None) -> None:
        self._link = link
        self.path = link.path
        self.paused = paused

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> Snapshot:
        """The snapshot in a directory. Its manifest is checked; other files are when they are used.

        Raises:
            SnapshotError: there is none, or its manifest is broken or of a newer release.
        """
        return cls(chain.load(path))

    @property
    def id(self) -> str:
        """Tells it from all other snapshots."""
        return self._link.manifest["id"]

    @property
    def parent(self) -> Snapshot | None:
        """What it builds on, if it is incremental.

        Raises:
            SnapshotError: that is gone, or is another one now.
        """
        parent = chain.parent_of(self._link)
        return None if parent is None else Snapshot(parent)

    @property
    def info(self) -> dict[str, Any]:
        """The manifest: JSON-able, as ``docs/snapshots.md`` describes it."""
        return dict(self._link.manifest)

    @property
    def stored_bytes(self) -> int:
        """What its files take on the host's disk."""
        with files.storing(self.path):
            return sum(entry.stat(follow_symlinks=False).st_blocks * 512 for entry in os.scandir(self.path))

    def verify(self) -> None:
        """Reads everything that it consists of, also what it builds on, and compares all digests.

        Disks that it refers to are not looked at.

        Raises:
            SnapshotError: something is missing or damaged.
        """
        from wirt.snapshot.memory import Content
        from wirt.snapshot.reader import read_state

        read_state(self._link)
        files.read_file(self.path, manifest.DTB, self._link.manifest["dtb"])
        if "recording" in self._link.manifest:
            files.read_file(self.path, manifest.RECORDING, self._link.manifest["recording"])
        with Content(chain.chain_of(self._link), verify=True):
            pass
        for disk in self._link.manifest["disks"]:
            if "file" not in disk:
                continue
            file = files.open_file(self.path, disk["file"], disk["size"])
            try:
                if files.sparse_digest(file, disk["size"])[0] != disk["digest"]:
                    raise SnapshotError(f"{self.path / disk['file']}: was damaged: it has another digest")
            finally:
                os.close(file)

    def flatten(self, to: str | os.PathLike[str], *, compress: Literal[False, "zstd"] = False) -> Snapshot:
        """Writes a full snapshot of the same state, which builds on no other.

        Args:
            to: the new one's directory; one that is there is replaced. It may be this one's, unless others build on it.
            compress: as for :meth:`wirt.Machine.snapshot`.

        Raises:
            SnapshotError: it is damaged, or what it builds on is gone.
            StorageError: the disk is full, or fails.
        """
        from wirt import _core
        from wirt.snapshot.memory import Content, MemoryWriter
        from wirt.snapshot.reader import read_state
        from wirt.snapshot.writer import new_manifest, store_disk, store_recording, write_manifest

        if compress not in (False, "zstd"):
            raise SnapshotError(f"compress {compress!r}: give False or 'zstd'")
        old = self._link.manifest
        state, dtb = read_state(self._link), files.read_file(self.path, manifest.DTB, old["dtb"])
        place = Path(os.path.abspath(to))  # noqa: PTH100 - a link at the place is refused, not followed
        with (
            Content(chain.chain_of(self._link), verify=True) as content,
            files.Draft(place) as draft,
            files.storing(place),
        ):
            writer = MemoryWriter(draft, content.size, frames=bool(compress), compression=compress or None)
            try:
                for numbers, pages in content.batches():
                    writer.add(numbers, pages)
                memory = writer.finish()
            finally:
                writer.close()
            disks: list[manifest.ReferencedDisk | manifest.IncludedDisk] = []
            for disk in old["disks"]:
                if "file" in disk:
                    # A whole and regular file, before it is opened by its name.
                    os.close(files.open_file(self.path, disk["file"], disk["size"]))
                    source = _core.open_disk(str(self.path / disk["file"]), True, False)
                    copied = store_disk(draft, disk["file"], source)
                    if copied["digest"] != disk["digest"]:
                        raise SnapshotError(f"{self.path / disk['file']}: was damaged: it has another digest")
                    disks.append(copied)
                else:
                    disks.append(disk)
            draft.write(manifest.STATE, bytes(state))
            draft.write(manifest.DTB, dtb)
            fresh = new_manifest(old["machine"], state, dtb, memory, disks, None)
            fresh["instructions"], fresh["time_ns"] = old["instructions"], old["time_ns"]
            if "recording" in old:
                recording = files.read_file(self.path, manifest.RECORDING, old["recording"])
                fresh["recording"] = store_recording(draft, recording)
            link = write_manifest(draft, fresh)
            draft.publish()
        return Snapshot(link)

    def diff(self, other: Snapshot | str | os.PathLike[str]) -> Difference:
        """What differs between this one and a later one: registers, device fields, ranges of memory.

        Raises:
            SnapshotError: one of them is damaged.
        """
        from wirt.snapshot.diff import compare

        return compare(self._link, (other if isinstance(other, Snapshot) else Snapshot.open(other))._link)

    def __repr__(self) -> str:
        return f"<wirt.Snapshot {self.path}, {self._link.manifest['created']}>"


def found_in(directory: str | os.PathLike[str]) -> list[Snapshot | SnapshotError]:
    """The snapshots in a directory, by their names; the error for what looks like one and is none."""
    found: list[Snapshot | SnapshotError] = []
    with files.storing(directory):
        entries = sorted(entry.path for entry in os.scandir(directory) if not entry.name.startswith("."))
    for path in entries:
        if not (Path(path) / manifest.NAME).is_file():
            continue
        try:
            found.append(Snapshot.open(path))
        except SnapshotError as error:
            found.append(error)
    return found


def remove(
    path: str | os.PathLike[str], *, force: bool = False, leaving: Sequence[str | os.PathLike[str]] = ()
) -> None:
    """Removes a snapshot. Machines that were restored from it run on.

    Args:
        path: its directory.
        force: also where another one in the same directory builds on it, or where its manifest is broken.
        leaving: others that are going to be removed, and do not count.

    Raises:
        SnapshotError: it is none, or is needed.
        StorageError: it cannot be removed.
    """
    import shutil

    place = Path(os.path.abspath(path))  # noqa: PTH100 - a link is refused, not followed
    if place.is_symlink() or not (place / manifest.NAME).is_file():
        raise SnapshotError(f"{place}: is no snapshot")
    if not force:
        snapshot = Snapshot.open(place)
        going = {os.path.abspath(other) for other in leaving}  # noqa: PTH100
        for other in found_in(place.parent):
            if isinstance(other, SnapshotError) or str(other.path) in going:
                continue
            parent = other.info["parent"]
            if parent is not None and parent["id"] == snapshot.id:
                raise SnapshotError(f"{other.path} builds on {place}: flatten that one first, or use force")
    with files.storing(place):
        # The manifest first: what is left of it if that is cut short does not look like a snapshot.
        (place / manifest.NAME).unlink()
        shutil.rmtree(place)


def begin(
    machine: Machine,
    path: str | os.PathLike[str],
    *,
    incremental: bool,
    compress: Literal[False, "zstd"],
    disks: Literal["reference", "include"] | Sequence[Literal["reference", "include"]],
    background: bool,
) -> Future[Snapshot]:
    """As :meth:`wirt.Machine.snapshot`; the future is done, or, in the background, will be."""
    from wirt.snapshot.writer import Writer

    writer = Writer(machine, path, incremental=incremental, compress=compress, disks=disks)
    future: Future[Snapshot] = Future()

    def finish() -> None:
        try:
            future.set_result(Snapshot(writer.finish(), writer.paused))
        except BaseException as error:
            future.set_exception(error)

    if background:
        import threading

        threading.Thread(target=finish, name="wirt-snapshot").start()
    else:
        finish()
    return future
