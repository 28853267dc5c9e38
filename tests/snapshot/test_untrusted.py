"""Snapshots that were damaged, edited or made up: each is refused with the reason, and nothing is built."""

from __future__ import annotations

import json
import random
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

import wirt
from support.firmware import SPIN
from wirt import _core
from wirt.errors import SnapshotError
from wirt.snapshot import manifest

RAM = 0x8000_0000


@pytest.fixture(scope="module", name="chain")
def chain_fixture(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with `raw`, `zstd`, and `child`, which builds on `raw`."""
    folder = tmp_path_factory.mktemp("chain")
    disk = wirt.Disk.memory("64K")
    disk.write(0, bytes(range(256)))
    with wirt.Machine(firmware=SPIN, memory="16M", deterministic=True, disks=[disk]) as vm:
        dma = vm.dma(0x20000)
        for page in range(512, 520):
            dma.write(RAM + page * 4096, random.Random(page).randbytes(4096))
        vm.run_for(1000)
        vm.snapshot(folder / "zstd", compress="zstd", disks="include")
        vm.snapshot(folder / "raw", disks="include")
        dma.write(RAM + 513 * 4096, bytes(4096))
        dma.write(RAM + 514 * 4096, b"changed" * 585 + b".")
        vm.snapshot(folder / "child", incremental=True, disks="include")
    for name in ("raw", "zstd", "child"):
        wirt.Machine.restore(folder / name, verify=True).close()
    return folder


@pytest.fixture(name="folder")
def folder_fixture(chain: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    shutil.copytree(chain, tmp_path / "chain")
    return tmp_path / "chain"


def refused(path: Path, match: str | None = None) -> None:
    with pytest.raises(SnapshotError, match=match) as caught:
        wirt.Machine.restore(path, verify=True)
    assert str(caught.value)


def edit(path: Path, change: Callable[[dict], object]) -> None:
    """Changes a manifest, and puts its digest right again."""
    file = path / "manifest.json"
    data = json.loads(file.read_text())
    change(data)
    file.write_bytes(manifest.render(manifest.finished(data)))


def replace_state(path: Path, state: bytes) -> None:
    """Another state, to which the manifest is made to fit."""
    (path / "state.bin").write_bytes(state)
    saved = _core.SavedState(state)
    try:
        sections = _core.state_sections(saved)
    except SnapshotError:
        sections = []

    def change(data: dict) -> None:
        data["state"] = {
            "size": len(state),
            "digest": manifest.digest(state),
            "sections": [
                {"name": name, "version": version, "size": size, "digest": manifest.digest(state[at : at + size])}
                for name, version, at, size in sections
            ],
        }

    edit(path, change)


FILES = [
    (name, file)
    for name in ("raw", "zstd", "child")
    for file in ("manifest.json", "state.bin", "dtb.bin", "memory.bin", "disk0.img")
]


@pytest.mark.parametrize(("name", "file"), FILES)
def test_bit_flips(folder: Path, name: str, file: str) -> None:
    path = folder / name / file
    content = path.read_bytes()
    source = random.Random(f"{name} {file}")
    # A sparse file's holes count as well.
    for _ in range(12):
        at = source.randrange(len(content))
        damaged = bytearray(content)
        damaged[at] ^= 1 << source.randrange(8)
        path.write_bytes(damaged)
        refused(folder / name)
    path.write_bytes(content)
    wirt.Machine.restore(folder / name, verify=True).close()


@pytest.mark.parametrize(("name", "file"), FILES)
def test_truncation_and_more(folder: Path, name: str, file: str) -> None:
    path = folder / name / file
    content = path.read_bytes()
    for length in sorted({0, 1, len(content) // 2, len(content) - 1}):
        path.write_bytes(content[:length])
        refused(folder / name)
    path.write_bytes(content + b"\0")
    refused(folder / name)
    path.unlink()
    refused(folder / name)
    path.mkdir()
    refused(folder / name)
    path.rmdir()
    elsewhere = folder / "elsewhere"
    elsewhere.write_bytes(content)
    path.symlink_to(elsewhere)
    refused(folder / name)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda data: data.update(format=2, wirt="9.0"), "format 2, written by wirt '9.0'.*use a newer one"),
        (lambda data: data.update(format=0), "does not say its format"),
        (lambda data: data.update(format=True), "does not say its format"),
        (lambda data: data.update(extra=1), "keys"),
        (lambda data: data.pop("dtb"), "keys"),
        (lambda data: data.update(id="../../etc"), "id"),
        (lambda data: data.update(created="yesterday"), "created"),
        (lambda data: data.update(instructions=-1), "instructions"),
        (lambda data: data.update(time_ns=1.5), "time_ns"),
        (lambda data: data["machine"]["options"].update(memory="16M"), "memory"),
        (lambda data: data["machine"]["options"].update(memory=32 << 20), "memory is not that of its machine|memory"),
        (lambda data: data["machine"]["options"].update(virtio="isa"), "no machine can be built.*isa"),
        (lambda data: data["machine"]["options"].update(cpus=2), "another configuration"),
        (lambda data: data["machine"]["options"].update(interrupts="aia"), "does not fit|was expected"),
        (lambda data: data["machine"]["options"].update(pcie_ports=1), "does not fit|was expected"),
        (lambda data: data["machine"]["options"].update(cpus=2**64), "cpus"),
        (lambda data: data["state"].update(size=1 << 40), "size"),
        (lambda data: data["state"].update(digest="0" * 64), "digest"),
        (lambda data: data["state"]["sections"].pop(), "other sections"),
        (lambda data: data["state"]["sections"].reverse(), "other sections"),
        (lambda data: data["memory"].update(encoding="lzma"), "does not know"),
        (lambda data: data["memory"].update(pages=-1), "pages"),
        (lambda data: data["memory"].update(pages=1), "digest|pages"),
        (lambda data: data["memory"].update(size=4096), "memory"),
        (lambda data: data["disks"][0].update(file="../raw/disk0.img"), "disk 0 is in"),
        (lambda data: data["disks"][0].update(file="/dev/zero"), "disk 0 is in"),
        (lambda data: data["disks"][0].update(size=1 << 20), "two sizes"),
        (lambda data: data["disks"].clear(), "as many disks"),
        (lambda data: data["machine"]["disks"].clear(), "as many disks"),
        (lambda data: data.update(parent={"path": ".", "id": data["id"], "digest": data["digest"]}), "memory"),
        (lambda data: data.update(parent="../raw"), "parent|memory"),
    ],
)
def test_manifests_that_say_something_else(folder: Path, change, reason: str) -> None:
    edit(folder / "raw", change)
    refused(folder / "raw", f"(?s){reason}")


def test_manifests_that_are_none(folder: Path) -> None:
    file = folder / "raw" / "manifest.json"
    good = file.read_bytes()
    for content in (b"", b"[]", b"null", b"{}", b"{" * 100_000, b'{"format": NaN}', b"\xff\xfe", b" " * (2 << 20),
                    good.replace(b'"format": 1', b'"format": 1, "format": 1'), good + b"\n",
                    good.replace(b'"time_ns": ', b'"time_ns":  ')):  # fmt: skip
        file.write_bytes(content)
        refused(folder / "raw")
    refused(folder / "nothing", "is no snapshot")


def test_parents(folder: Path) -> None:
    child = folder / "child"
    shutil.move(folder / "raw", folder / "away")
    refused(child, "not to be had")
    shutil.copytree(folder / "zstd", folder / "raw")
    refused(child, "is another one now")
    shutil.rmtree(folder / "raw")
    # What has the id, but is not what the child was taken after.
    shutil.copytree(folder / "away", folder / "raw")
    edit(folder / "raw", lambda data: data.update(instructions=5))
    refused(child, "is another one now")
    shutil.rmtree(folder / "raw")
    shutil.move(folder / "away", folder / "raw")
    wirt.Machine.restore(child).close()
    # A parent with a damaged memory, which is read only when it is asked for.
    memory = folder / "raw" / "memory.bin"
    with memory.open("r+b") as file:
        file.seek(520 * 4096)
        file.write(b"?")
    refused(child, "digest")
    wirt.Machine.restore(child).close()


def test_a_child_of_its_own(folder: Path) -> None:
    child = folder / "child"
    own = json.loads((child / "manifest.json").read_text())
    edit(child, lambda data: data["parent"].update(path=".", id=own["id"], digest=own["digest"]))
    refused(child, "is another one now")


def test_a_circle(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No manifest can name the digest of one that names its own; where digests are not compared, ids still are."""
    from wirt.snapshot import chain

    shutil.copytree(folder / "child", folder / "other")
    own = json.loads((folder / "child" / "manifest.json").read_text())
    edit(folder / "other", lambda data: data.update(id="1" * 32, parent={**data["parent"], "path": "../child",
                                                                        "id": own["id"]}))  # fmt: skip
    edit(folder / "child", lambda data: data["parent"].update(path="../other", id="1" * 32))
    refused(folder / "child", "is another one now")
    monkeypatch.setattr(chain, "is_same", lambda link, stated: link.manifest["id"] == stated["id"])
    refused(folder / "child", "circle")


def frame(numbers: list[int], zeroes: list[int], content: bytes, stored: int | None = None) -> bytes:
    head = struct.pack("<III", len(numbers), len(zeroes), len(content) if stored is None else stored)
    return head + struct.pack(f"<{len(numbers) + len(zeroes)}Q", *numbers, *zeroes) + content


PAGE = b"p" * 4096


@pytest.mark.parametrize(
    "frames",
    [
        frame([1], [], PAGE[:-1]),
        frame([1], [], PAGE, stored=4095),
        frame([1], [], PAGE, stored=2**32 - 1),
        frame([1], [], b""),
        frame([1, 1], [], PAGE * 2),
        frame([1], [1], PAGE),
        frame([1], [], PAGE) * 2,
        frame([4096], [], PAGE),
        frame([], [2**64 - 1], b""),
        frame(list(range(300)), [], PAGE * 300),
        struct.pack("<III", 2**32 - 1, 0, 0),
        struct.pack("<III", 0, 2**32 - 1, 0),
        frame([], [], b"more"),
        b"\0" * 11,
    ],
)
@pytest.mark.parametrize("name", ["child", "zstd"])
def test_frames(folder: Path, name: str, frames: bytes) -> None:
    """Frames that are wrong, in a file whose digest is right."""
    (folder / name / "memory.bin").write_bytes(frames)
    edit(folder / name, lambda data: data["memory"].update(size=len(frames), digest=manifest.digest(frames), pages=1,
                                                          zero_pages=0))  # fmt: skip
    refused(folder / name, "memory.bin|outside")


def test_a_frame_that_decompresses_to_more(folder: Path) -> None:
    import zstandard

    for content in (bytes(1 << 30), PAGE * 2):
        bomb = zstandard.ZstdCompressor().compress(content)
        frames = frame([1], [], bomb)
        if len(bomb) > 5000:
            frames = frame([1], [], bomb[:5000])
        (folder / "zstd" / "memory.bin").write_bytes(frames)
        edit(folder / "zstd", lambda data, frames=frames: data["memory"].update(
            size=len(frames), digest=manifest.digest(frames), pages=1, zero_pages=0))  # fmt: skip
        refused(folder / "zstd", "another size")


def test_states(folder: Path) -> None:
    """States that the manifest fits, but no machine does."""
    raw = folder / "raw"
    good = (raw / "state.bin").read_bytes()
    sections = [good[at : at + size] for _, _, at, size in _core.state_sections(_core.SavedState(good))]
    assert b"".join(sections) + b"\0" == good
    source = random.Random(4)
    refusals = 0
    for _ in range(40):
        order = list(range(len(sections)))
        a, b = source.sample(order, 2)
        if sections[a] == sections[b]:
            continue
        order[a], order[b] = order[b], order[a]
        replace_state(raw, b"".join(sections[index] for index in order) + b"\0")
        refused(raw)
        refusals += 1
    assert refusals > 20
    for broken in (
        b"".join(sections[:-1]) + b"\0",
        b"".join(sections[1:]) + b"\0",
        b"".join(sections),
        b"".join(sections) + sections[-1] + b"\0",
        good + b"\0",
        b"\0",
        b"",
        b"\x07" + good,
        # A name, a number and a blob that claim to be longer than everything.
        good[:-1] + b"\x02\xff",
        good[:-1] + b"\x03\x01x\xff\xff\xff\xff",
        good[:-1] + b"\x02\x01x\x09" + bytes(9),
    ):
        replace_state(raw, broken)
        refused(raw)
    # A section of a newer release.
    head = sections[0]
    version = 2 + head[1]
    newer = head[:version] + struct.pack("<I", 999) + head[version + 4 :]
    replace_state(raw, newer + b"".join(sections[1:]) + b"\0")
    refused(raw, "has version 999.*use a newer one")
    replace_state(raw, good)
    wirt.Machine.restore(raw).close()
