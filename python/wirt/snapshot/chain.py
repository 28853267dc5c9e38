"""Snapshots and what they build on.

Untrusted: where a manifest says its parent is. What is found there counts only if it has the id and the manifest's
digest that the child states, so that no chain leads back to itself: a manifest cannot hold a digest of what holds its
own.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from wirt.errors import SnapshotError
from wirt.snapshot import manifest
from wirt.snapshot.manifest import Manifest, Parent

__all__ = ["Link", "chain_of", "load", "parent_of"]

_LONGEST = 1000


class Link(NamedTuple):
    """One snapshot: its directory and what its manifest says."""

    path: Path
    manifest: Manifest


def load(path: str | os.PathLike[str]) -> Link:
    """The snapshot in a directory; its manifest is checked, other files are not looked at.

    Raises:
        SnapshotError: there is none, or its manifest is broken.
    """
    directory = Path(os.path.abspath(path))  # noqa: PTH100 - resolve() would follow a link that is replaced later
    file = directory / manifest.NAME
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise SnapshotError(f"{directory}: is no snapshot: its manifest cannot be opened: {error.strerror}") from error
    try:
        content = os.read(descriptor, manifest.LONGEST + 1)
    except OSError as error:
        raise SnapshotError(f"{file}: {error.strerror}") from error
    finally:
        os.close(descriptor)
    return Link(directory, manifest.read(content, str(directory)))


def parent_of(link: Link) -> Link | None:
    """What it builds on, if it is incremental.

    Raises:
        SnapshotError: that is gone, or is another one now.
    """
    stated = link.manifest["parent"]
    if stated is None:
        return None
    place = Path(os.path.normpath(link.path / stated["path"]))
    try:
        parent = load(place)
    except SnapshotError as error:
        raise SnapshotError(f"{link.path} builds on another snapshot, which is not to be had: {error}") from None
    if not is_same(parent, stated):
        raise SnapshotError(f"{link.path} builds on snapshot {stated['id']}; {place} is another one now")
    if parent.manifest["machine"]["options"]["memory"] != link.manifest["machine"]["options"]["memory"]:
        raise SnapshotError(f"{link.path} builds on {place}, whose machine has other memory")
    return parent


def chain_of(link: Link) -> list[Link]:
    """The snapshot, its parent, that one's parent, up to the full one that all build on.

    Raises:
        SnapshotError: one of them is not to be had.
    """
    links = [link]
    while (parent := parent_of(links[-1])) is not None:
        if any(parent.manifest["id"] == other.manifest["id"] for other in links):
            raise SnapshotError(f"{link.path}: the snapshots that it builds on go round in a circle")
        if len(links) == _LONGEST:
            raise SnapshotError(f"{link.path}: more than {_LONGEST} snapshots build on each other; flatten them")
        links.append(parent)
    return links


def is_same(link: Link, stated: Parent) -> bool:
    """Whether it is what a child states."""
    return (link.manifest["id"], link.manifest["digest"]) == (stated["id"], stated["digest"])
