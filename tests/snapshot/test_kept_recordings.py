"""A recorded machine's snapshot has its past: what is restored from it goes back as the machine itself does."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

import wirt
from wirt import _core
from wirt.errors import SnapshotError, WirtError
from wirt.guest_image import guest_image
from wirt.snapshot import manifest

IO = "bench=io bench.mb=1 bench.ops=64 bench.console=4096"


def recorded(cmdline: str = "echo", **options: Any) -> wirt.Machine:
    vm = wirt.Machine(guest_image(), cmdline=cmdline, memory="32M", deterministic=True, seed=3, **options)
    vm.record(checkpoint_every=300_000)
    return vm


def walk(vm: wirt.Machine, seed: int, stops: int, longest: int = 300_000) -> dict[int, str]:
    chance = random.Random(seed)
    seen = {}
    for _ in range(stops):
        vm.run_for(chance.randrange(1, longest))
        seen[vm.instructions] = vm.state_hash()
    return seen


def travel(vm: wirt.Machine, seen: dict[int, str], seed: int = 1) -> None:
    chance = random.Random(seed)
    for instant in [*chance.choices(list(seen), k=8), max(seen)]:
        vm.run_to(instant)
        assert (vm.instructions, vm.state_hash()) == (instant, seen[instant])


def test_a_restored_machine_goes_back_and_is_recorded_further(tmp_path: Path) -> None:
    disks = [wirt.Disk.memory("2M", "virtio-mmio"), wirt.Disk.memory("2M", "ahci")]
    with recorded(IO, disks=disks, input_devices=True) as vm:
        seen = walk(vm, 1, 12)
        vm.serial.send(b"something\n")
        vm.keyboard.press("a")
        seen |= walk(vm, 2, 4)
        vm.snapshot(tmp_path / "s", disks="include")
        travel(vm, seen)
        vm.run_to()
        after = walk(vm, 3, 3)
        inputs = vm.recording.inputs if vm.recording else 0
    with wirt.Machine.restore(tmp_path / "s") as copy:
        assert copy.recording is not None
        assert (copy.recording.begin, copy.recording.end) == (0, max(seen))
        travel(copy, seen)
        copy.run_to()
        assert walk(copy, 3, 3) == after
        travel(copy, seen | after, seed=2)
        copy.run_to()
        assert copy.recording.inputs == inputs
        # From a copy's snapshot again, incremental and then flattened.
        copy.snapshot(tmp_path / "next", incremental=True, disks="include")
    wirt.Snapshot.open(tmp_path / "next").flatten(tmp_path / "flat")
    for name in ("next", "flat"):
        wirt.Snapshot.open(tmp_path / name).verify()
        with wirt.Machine.restore(tmp_path / name) as copy:
            travel(copy, seen | after, seed=3)


def test_in_the_past_a_snapshot_has_no_recording(tmp_path: Path) -> None:
    with recorded() as vm:
        seen = walk(vm, 1, 4)
        vm.run_to(min(seen))
        vm.snapshot(tmp_path / "past")
        travel(vm, seen)
    with wirt.Machine.restore(tmp_path / "past") as copy:
        assert copy.recording is None
        assert copy.state_hash() == seen[min(seen)]


def test_another_release_restores_without(tmp_path: Path) -> None:
    with recorded() as vm:
        walk(vm, 1, 2)
        vm.snapshot(tmp_path / "s")
    file = tmp_path / "s" / manifest.NAME
    content = json.loads(file.read_bytes())
    content["wirt"] = "0.0.9"
    file.write_bytes(manifest.render(manifest.finished(content)))
    with wirt.Machine.restore(tmp_path / "s") as copy:
        assert copy.recording is None


def test_a_damaged_file_is_noticed(tmp_path: Path) -> None:
    with recorded() as vm:
        walk(vm, 1, 2)
        vm.snapshot(tmp_path / "s")
    file = tmp_path / "s" / manifest.RECORDING
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    with pytest.raises(SnapshotError, match="recording"):
        wirt.Machine.restore(tmp_path / "s")
    with pytest.raises(SnapshotError, match="recording"):
        wirt.Snapshot.open(tmp_path / "s").verify()


def test_nothing_in_it_is_believed(tmp_path: Path) -> None:
    """Whatever its bytes say: refused with a reason, or taken and replayed until that comes to something else."""
    port = wirt.Switch().port(mac="02:00:00:00:00:01")
    # A guest that is always busy: one that skips time while it waits would have much to do if it came to spin instead.
    with recorded("smp smp.count=2000", nets=[port], disks=[wirt.Disk.memory("64K")]) as vm:
        walk(vm, 1, 4, 200_000)
        vm.serial.send(b"x")
        port.link = False
        vm.run_for(1000)
        good = _core.save_recording(vm._core)
        vm.end_recording()
        vm.snapshot(tmp_path / "s", disks="include")
    # Where numbers are: the beginning of the recording, of each state, and its end.
    chance = random.Random(5)
    refused = 0
    for number in range(60):
        bad = bytearray(good)
        kind = number % 4
        if kind == 0:
            bad = bad[: chance.randrange(len(bad))]
        elif kind == 1:
            at = chance.randrange(0, 40) * 8
            bad[at : at + 8] = chance.choice([0, 1, 2**63, 2**64 - 1, chance.getrandbits(64)]).to_bytes(8, "little")
        elif kind == 2:
            at = chance.randrange(max(0, len(bad) - 400), len(bad))
            bad[at] ^= 1 << chance.randrange(8)
        else:
            bad[chance.randrange(len(bad))] ^= 1 << chance.randrange(8)
        with wirt.Machine.restore(tmp_path / "s") as copy:
            try:
                _core.load_recording(copy._core, bad)
            except SnapshotError:
                refused += 1
                continue
            try:
                copy.run_to(copy.recording.begin if copy.recording else 0)
                copy.run_to()
            except WirtError:
                pass
    assert refused > 20
    with wirt.Machine.restore(tmp_path / "s") as copy:
        _core.load_recording(copy._core, good)
        copy.run_to(0)
        copy.run_to()
