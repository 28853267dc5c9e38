"""Killed while it writes, out of disk space, or refused by the file system: the old snapshot, or the new one, whole."""

from __future__ import annotations

import os
import random
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import wirt
from support.firmware import SPIN
from wirt.errors import SnapshotError, StorageError

RAM = 0x8000_0000

# Writes snapshots over each other for ever; page 1024 and x10 say which one it is.
WRITER = """
import sys
import wirt
place = sys.argv[1]
vm = wirt.Machine.restore(place)
dma = vm.dma(0x20000)
number = vm.harts[0].x[10]
print("ready", flush=True)
while True:
    number += 1
    vm.harts[0].x[10] = number
    for page in range(1024, 1024 + 64):
        dma.write(0x80000000 + page * 4096, number.to_bytes(8, "little") * 512)
    vm.snapshot(place, compress="zstd" if number % 3 == 0 else False)
"""


def numbered(path: Path) -> int:
    """The number of the snapshot, all parts of which must have it."""
    with wirt.Machine.restore(path, verify=True) as vm:
        number = vm.harts[0].x[10]
        assert vm.dma(0x20000).read(RAM + 1024 * 4096, 64 * 4096) == number.to_bytes(8, "little") * (512 * 64)
    return number


def first(place: Path) -> None:
    with wirt.Machine(firmware=SPIN, memory="16M") as vm:
        vm.harts[0].x[10] = 1
        vm.dma(0x20000).write(RAM + 1024 * 4096, (1).to_bytes(8, "little") * (512 * 64))
        vm.snapshot(place)


def test_killed_at_any_instant(tmp_path: Path) -> None:
    place = tmp_path / "s"
    first(place)
    source = random.Random(11)
    number = 1
    advanced = 0
    for _ in range(int(os.environ.get("WIRT_KILL_ROUNDS", "8"))):
        child = subprocess.Popen([sys.executable, "-c", WRITER, place], stdout=subprocess.PIPE)
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        time.sleep(source.uniform(0, 0.5))
        child.send_signal(signal.SIGKILL)
        child.wait()
        child.stdout.close()
        now = numbered(place)
        assert now >= number
        advanced += now > number
        number = now
        # Nothing else in the directory can be taken for a snapshot.
        assert [entry.name for entry in tmp_path.iterdir() if not entry.name.startswith(".")] == ["s"]
    assert advanced > 0
    # The next one to write there clears up.
    with wirt.Machine.restore(place) as vm:
        vm.snapshot(place)
    assert [entry.name for entry in tmp_path.iterdir()] == ["s"]


def test_killed_before_the_first_is_whole(tmp_path: Path) -> None:
    first(tmp_path / "template")
    place = tmp_path / "s"
    program = WRITER.replace("sys.argv[1]", "sys.argv[1]; start = sys.argv[2]").replace("restore(place)",
                                                                                       "restore(start)")  # fmt: skip
    source = random.Random(12)
    for _ in range(4):
        child = subprocess.Popen([sys.executable, "-c", program, place, tmp_path / "template"], stdout=subprocess.PIPE)
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        time.sleep(source.uniform(0, 0.1))
        child.kill()
        child.wait()
        child.stdout.close()
        if place.exists():
            assert numbered(place) >= 2
            wirt.snapshot.remove(place)


def test_every_step_may_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each call of the operating system that a snapshot needs fails in its turn: the old one stays, nothing is left."""
    place = tmp_path / "s"
    first(place)
    before = wirt.Snapshot.open(place).id
    names = ("pwrite", "fsync", "ftruncate", "open", "pread")
    real = {name: getattr(os, name) for name in names}
    failures = 0
    with wirt.Machine(firmware=SPIN, memory="16M") as vm:
        for name in names:
            step = 0
            while True:
                calls = 0

                def failing(*arguments, step=step, name=name, **more):
                    nonlocal calls
                    calls += 1
                    if calls == step + 1:
                        raise OSError(28, "No space left on device")
                    return real[name](*arguments, **more)

                monkeypatch.setattr(os, name, failing)
                try:
                    vm.snapshot(tmp_path / "s")
                    survived = True
                except (StorageError, SnapshotError):
                    survived = False
                finally:
                    monkeypatch.setattr(os, name, real[name])
                if survived and calls <= step:
                    break
                if not survived:
                    failures += 1
                    left = {entry.name for entry in tmp_path.iterdir()}
                    assert left == {"s"}, (name, step, left)
                    wirt.Machine.restore(place, verify=True).close()
                step += 1
                assert step < 60
    assert failures > 10
    assert wirt.Snapshot.open(place).id != before


def test_a_full_disk(tmp_path: Path) -> None:
    """RLIMIT_FSIZE stands for it: writing fails in the middle of a file."""
    place = tmp_path / "s"
    first(place)
    before = wirt.Snapshot.open(place).id
    with wirt.Machine.restore(place) as vm:
        vm.dma(0x20000).write(RAM + (9 << 20), random.Random(5).randbytes(1 << 20))
        hash_before = vm.state_hash()
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, limits[1]))
        try:
            for compress in (False, "zstd"):
                with pytest.raises(StorageError, match=str(place)):
                    vm.snapshot(place, compress=compress)
            with pytest.raises(StorageError):
                vm.snapshot(place.with_name("child"), incremental=True)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert [entry.name for entry in tmp_path.iterdir()] == ["s"]
        assert wirt.Snapshot.open(place).id == before
        # The machine goes on, and the next one has everything.
        vm.snapshot(place.with_name("child"), incremental=True)
        assert vm.state_hash() == hash_before
    with wirt.Machine.restore(place.with_name("child"), new_generation=False) as vm:
        assert vm.state_hash() == hash_before


def test_a_file_system_that_cannot_exchange(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import ctypes

    place = tmp_path / "s"
    first(place)
    monkeypatch.setattr(ctypes, "CDLL", lambda *_, **__: object())
    with wirt.Machine.restore(place) as vm:
        new = vm.snapshot(place)
    assert wirt.Snapshot.open(place).id == new.id
    assert [entry.name for entry in tmp_path.iterdir()] == ["s"]


def test_drafts_of_others_are_left_alone(tmp_path: Path) -> None:
    from wirt.snapshot.files import Draft

    with wirt.Machine(firmware=SPIN, memory="16M") as vm, Draft(tmp_path / "s") as draft:
        vm.snapshot(tmp_path / "s")
        assert draft.path.is_dir()
    assert [entry.name for entry in tmp_path.iterdir()] == ["s"]
