"""Snapshots and machines from them: full, incremental, compressed, with disks, while the guest runs."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

import wirt
from support.firmware import COUNT, SPIN, words
from wirt import _core
from wirt.errors import ConfigError, SnapshotError, StateError, StorageError
from wirt.guest_image import guest_image

RAM = 0x8000_0000
RAM_SIZE = 16 << 20


def demo(**options) -> wirt.Machine:
    return wirt.Machine(guest_image(), **({"cmdline": "demo", "memory": "64M", "deterministic": True} | options))


def fill(vm: wirt.Machine, seed: int, pages: int = 40) -> None:
    """Writes to random pages through DMA, which dirty logs see; some become zero again."""
    source = random.Random(seed)
    dma = vm.dma(0x20000)
    for _ in range(pages):
        page = source.randrange(64, RAM_SIZE // 4096)
        dma.write(RAM + page * 4096, source.choice((bytes(4096), source.randbytes(4096), source.randbytes(16))))


@pytest.mark.parametrize("compress", [False, "zstd"])
@pytest.mark.parametrize("cpus", [1, 3])
def test_a_restored_machine_has_the_hash_and_goes_the_same_way(tmp_path: Path, compress, cpus: int) -> None:
    with demo(cpus=cpus, cmdline="smp smp.count=100000") as vm:
        source = random.Random(cpus)
        for _ in range(4):
            vm.run_for(source.randrange(1, 400_000))
            before = vm.state_hash()
            snapshot = vm.snapshot(tmp_path / "one", compress=compress)
            assert vm.state_hash() == before
            with wirt.Machine.restore(tmp_path / "one", verify=True) as other:
                assert other.state == "paused"
                assert other.state_hash() == before
                assert (other.instructions, other.time, other.dtb) == (vm.instructions, vm.time, vm.dtb)
                vm.run_for(200_000)
                other.run_for(200_000)
                assert other.state_hash() == vm.state_hash()
        snapshot.verify()
        assert snapshot.info["memory"]["compression"] == (compress or None)


def test_start_means_going_on(tmp_path: Path) -> None:
    with demo(cmdline="echo", deterministic=False) as vm:
        vm.start()
        vm.console.expect("echo ready", timeout=60)
        vm.snapshot(tmp_path / "ready")
        assert vm.state == "running"
        with wirt.Machine.restore(tmp_path / "ready") as first, wirt.Machine.restore(tmp_path / "ready") as second:
            for machine, word in ((first, "one"), (second, "two"), (vm, "three")):
                if machine is not vm:
                    machine.start()
                machine.console.send(f"{word}\n")
                machine.console.expect(f"echo: {word}", timeout=60)
            with pytest.raises(StateError):
                first.start()


def test_incremental_chains(tmp_path: Path) -> None:
    hashes = {}
    with wirt.Machine(firmware=SPIN, memory=RAM_SIZE, deterministic=True) as vm:
        with pytest.raises(StateError, match="take a full one first"):
            vm.snapshot(tmp_path / "none", incremental=True)
        for number in range(5):
            fill(vm, number)
            name = f"s{number}"
            snapshot = vm.snapshot(tmp_path / name, incremental=number > 0, compress="zstd" if number == 3 else False)
            hashes[name] = vm.state_hash()
            if number:
                assert snapshot.info["memory"]["pages"] + snapshot.info["memory"]["zero_pages"] <= 40
                assert snapshot.parent is not None
                assert snapshot.parent.path == tmp_path / f"s{number - 1}"
        with pytest.raises(SnapshotError, match="builds on this one"):
            vm.snapshot(tmp_path / "s2", incremental=True)
        nothing = vm.snapshot(tmp_path / "s5", incremental=True)
        assert (nothing.info["memory"]["pages"], nothing.info["memory"]["size"]) == (0, 0)
    for name, expected in hashes.items():
        with wirt.Machine.restore(tmp_path / name) as vm:
            assert vm.state_hash() == expected
    # What is restored goes on from there: a branch of its own.
    with wirt.Machine.restore(tmp_path / "s2") as vm:
        fill(vm, 77)
        branch = vm.snapshot(tmp_path / "branch", incremental=True)
        expected = vm.state_hash()
        assert branch.info["memory"]["pages"] + branch.info["memory"]["zero_pages"] <= 40
    with wirt.Machine.restore(tmp_path / "branch") as vm:
        assert vm.state_hash() == expected
    for compress in (False, "zstd"):
        flat = wirt.Snapshot.open(tmp_path / "s4").flatten(tmp_path / "flat", compress=compress)
        assert flat.parent is None
        assert not flat.diff(tmp_path / "s4")
        with wirt.Machine.restore(tmp_path / "flat") as vm:
            assert vm.state_hash() == hashes["s4"]
    # A chain whose base is compressed.
    with wirt.Machine.restore(tmp_path / "flat") as vm:
        fill(vm, 5)
        vm.snapshot(tmp_path / "on-compressed", incremental=True)
        expected = vm.state_hash()
    with wirt.Machine.restore(tmp_path / "on-compressed") as vm:
        assert vm.state_hash() == expected


def test_what_python_writes_through_a_buffer_is_in_the_next_one(tmp_path: Path) -> None:
    with wirt.Machine(firmware=SPIN, memory=RAM_SIZE, deterministic=True) as vm:
        view = memoryview(vm.memory)
        vm.snapshot(tmp_path / "base")
        view[5 << 20] = 1
        vm.snapshot(tmp_path / "next", incremental=True)
        expected = vm.state_hash()
        del view
    with wirt.Machine.restore(tmp_path / "next") as vm:
        assert vm.state_hash() == expected


def test_a_failed_snapshot_loses_no_pages(tmp_path: Path) -> None:
    with wirt.Machine(firmware=SPIN, memory=RAM_SIZE, deterministic=True) as vm:
        vm.snapshot(tmp_path / "base")
        for incremental in (True, False):
            fill(vm, int(incremental))
            with pytest.raises(StorageError):
                vm.snapshot(tmp_path / "no" / "such" / "directory", incremental=incremental)
        vm.snapshot(tmp_path / "next", incremental=True)
        expected = vm.state_hash()
    with wirt.Machine.restore(tmp_path / "next") as vm:
        assert vm.state_hash() == expected


# auipc a1,0x100; li a2,1; slli a2,a2,21; add a2,a1,a2; (outer) mv a3,a1; addi a0,a0,1;
# (inner) sd a0,0(a3); lui t0,1; add a3,a3,t0; bltu a3,a2,inner; j outer
SWEEP = words(
    0x00100597, 0x00100613, 0x01561613, 0x00C58633, 0x00058693, 0x00150513,
    0x00A6B023, 0x000012B7, 0x005686B3, 0xFEC6EAE3, 0xFE9FF06F,
)  # fmt: skip


def test_memory_is_that_of_one_moment_while_the_guest_writes_it(tmp_path: Path) -> None:
    """The guest writes a rising number to 512 pages in turn, so that at any moment they hold n, then n - 1."""
    with wirt.Machine(firmware=SWEEP, memory=RAM_SIZE) as vm:
        vm.start()
        while vm.instructions < 100_000:
            vm.wait(0.01)
        for number in range(6):
            snapshot = vm.snapshot(tmp_path / "moving", incremental=False)
            assert vm.state == "running"
            assert snapshot.paused is not None
            with wirt.Machine.restore(tmp_path / "moving") as still:
                values = [still.bus.read(0x8010_0000 + page * 4096, 8) for page in range(512)]
                newest = still.harts[0].x[10]
                done = values.index(newest - 1) if newest - 1 in values else 512
                assert values == [newest] * done + [newest - 1] * (512 - done), number


def test_in_the_background(tmp_path: Path) -> None:
    with wirt.Machine(firmware=COUNT, memory=RAM_SIZE) as vm:
        vm.start()
        future = vm.begin_snapshot(tmp_path / "first")
        first = future.result(timeout=60)
        vm.begin_snapshot(tmp_path / "second", incremental=True).result(timeout=60)
    with wirt.Machine.restore(tmp_path / "second") as second, wirt.Machine.restore(first.path) as machine:
        assert second.harts[0].x[10] >= machine.harts[0].x[10]


def test_one_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from wirt.snapshot.writer import Writer

    with wirt.Machine(firmware=SPIN, memory=RAM_SIZE) as vm:
        writer = Writer(vm, tmp_path / "one", incremental=False, compress=False, disks="reference")
        with pytest.raises(StateError, match="being written already"):
            vm.snapshot(tmp_path / "two")
        writer.finish()
        vm.snapshot(tmp_path / "two")


def test_machines_that_cannot_be_saved(tmp_path: Path) -> None:
    vm = wirt.Machine(firmware=SPIN, memory=RAM_SIZE)
    for wrong in ({"compress": "lz4"}, {"compress": True}, {"disks": "maybe"}):
        with pytest.raises(SnapshotError):
            vm.snapshot(tmp_path / "s", **wrong)
    vm.close()
    with pytest.raises(StateError):
        vm.snapshot(tmp_path / "s")
    assert list(tmp_path.iterdir()) == []


def test_a_new_generation_and_the_clock(tmp_path: Path) -> None:
    with wirt.Machine(firmware=SPIN, memory=RAM_SIZE) as vm:
        vm.snapshot(tmp_path / "s")
        before = vm.state_hash()
    with wirt.Machine.restore(tmp_path / "s", new_generation=False) as vm:
        assert vm.state_hash() == before
    with wirt.Machine.restore(tmp_path / "s") as vm:
        assert vm.state_hash() != before
    with pytest.raises(ConfigError):
        wirt.Machine.restore(tmp_path / "s", clock="stop")


# ---------------------------------------------------------------- disks and NICs


def image(path: Path, size: int = 1 << 20) -> Path:
    path.write_bytes(random.Random(1).randbytes(size // 2) + bytes(size // 2))
    return path


def test_referenced_disks_must_not_have_moved_on(tmp_path: Path) -> None:
    file = image(tmp_path / "disk.img")
    with wirt.Machine(firmware=SPIN, memory=RAM_SIZE, disks=[wirt.Disk(file, serial="s1")]) as vm:
        vm.snapshot(tmp_path / "s")
        with pytest.raises(SnapshotError, match=r"disk 0 .* cannot be opened: .*in use"):
            wirt.Machine.restore(tmp_path / "s")
    with wirt.Machine.restore(tmp_path / "s") as vm:
        assert vm.disks[0].read(0, 512) == file.read_bytes()[:512]
        assert vm.disks[0].serial == "s1"
    copy = tmp_path / "copy.img"
    copy.write_bytes(file.read_bytes())
    disk = wirt.Disk(file)
    disk.write(0, b"moved on")
    disk.close()
    with pytest.raises(SnapshotError, match=r"disk\.img, which has moved on"):
        wirt.Machine.restore(tmp_path / "s")
    with wirt.Machine.restore(tmp_path / "s", disks=[copy]) as vm:
        assert vm.disks[0].read(0, 8) == copy.read_bytes()[:8]
    with pytest.raises(SnapshotError, match=r"1 disk\(s\); 2 are given"):
        wirt.Machine.restore(tmp_path / "s", disks=[copy, copy])
    with pytest.raises(SnapshotError, match="its serial is"):
        wirt.Machine.restore(tmp_path / "s", disks=[wirt.Disk(copy)])
    with pytest.raises(SnapshotError, match="its size is"):
        wirt.Machine.restore(tmp_path / "s", disks=[image(tmp_path / "small.img", 1 << 19)])
    file.unlink()
    with pytest.raises(SnapshotError, match="cannot be opened"):
        wirt.Machine.restore(tmp_path / "s")


def test_included_disks(tmp_path: Path) -> None:
    file = image(tmp_path / "disk.img")
    memory = wirt.Disk.memory("2M", bus="ahci")
    memory.write(4096, b"in memory")
    options = [memory, wirt.Disk(file, ephemeral=True), wirt.Disk(file, read_only=True), wirt.Disk(file, ephemeral=True,
               volatile_cache=True)]  # fmt: skip
    with wirt.Machine(firmware=SPIN, memory=RAM_SIZE, disks=options) as vm:
        vm.disks[1].write(0, b"overlaid")
        vm.disks[3].write(512, b"cached")
        with pytest.raises(StorageError, match="disks='include'"):
            vm.snapshot(tmp_path / "s")
        contents = [disk.read(0, disk.size) for disk in vm.disks]
        snapshot = vm.snapshot(tmp_path / "s", disks="include")
        vm.disks[1].write(0, b"too late")
    snapshot.verify()
    assert (tmp_path / "s" / "disk0.img").stat().st_blocks * 512 < 1 << 19
    for _ in range(2):
        with wirt.Machine.restore(tmp_path / "s", verify=True) as vm:
            assert [disk.read(0, disk.size) for disk in vm.disks] == contents
            assert [disk.read_only for disk in vm.disks] == [False, False, True, False]
            vm.disks[0].write(4096, b"goes away")
            assert vm.disks[3].lose_power(1) == 0
    flat = snapshot.flatten(tmp_path / "flat")
    flat.verify()
    assert [disk["digest"] for disk in flat.info["disks"]] == [disk["digest"] for disk in snapshot.info["disks"]]


def test_an_included_disk_is_that_of_the_same_moment(tmp_path: Path) -> None:
    from wirt.snapshot.writer import Writer

    disk = wirt.Disk.memory("1M")
    disk.write(0, b"before")
    with wirt.Machine(firmware=SPIN, memory=RAM_SIZE, disks=[disk]) as vm:
        writer = Writer(vm, tmp_path / "s", incremental=False, compress=False, disks="include")
        disk.write(0, b"after!")
        writer.finish()
    with wirt.Machine.restore(tmp_path / "s") as vm:
        assert vm.disks[0].read(0, 6) == b"before"


def test_devices_that_were_plugged_in_and_nics(tmp_path: Path) -> None:
    lan = wirt.Switch()
    with wirt.Machine(
        firmware=SPIN, memory=RAM_SIZE, deterministic=True, pcie_ports=2, nets=[lan.port("02:00:00:00:00:07")]
    ) as vm:
        vm.attach(wirt.Disk.memory("1M"))
        vm.attach(lan.port(model="e1000e"), slot=12)
        vm.run_for(100)
        vm.snapshot(tmp_path / "s", disks="include")
        expected = vm.state_hash()
        names = {device.name for device in vm.devices}
    ports = [wirt.Switch().port() for _ in range(2)]
    for nets in (None, ports):
        with wirt.Machine.restore(tmp_path / "s", nets=nets) as vm:
            assert vm.state_hash() == expected
            assert {device.name for device in vm.devices} == names
    assert ports[0].mac == "02:00:00:00:00:07"
    with pytest.raises(SnapshotError, match=r"2 NIC\(s\); 1 are given"):
        wirt.Machine.restore(tmp_path / "s", nets=[lan.port()])


def test_the_whole_machine(tmp_path: Path) -> None:
    """Every device that a machine can have."""
    with wirt.Machine(
        guest_image(),
        cmdline="demo",
        memory="64M",
        cpus=2,
        interrupts="aia",
        guest_files=3,
        iommu="pci",
        display="virtio-gpu",
        input_devices=True,
        pcie_ports=3,
        virtio="pci",
        packed=True,
        deterministic=True,
        disks=[wirt.Disk.memory("1M"), wirt.Disk.memory("1M", bus="ahci")],
        nets=[wirt.Switch().port(), wirt.Switch().port(model="e1000e")],
    ) as vm:
        vm.run_for(600_000)
        vm.snapshot(tmp_path / "s", disks="include", compress="zstd")
        with wirt.Machine.restore(tmp_path / "s") as other:
            assert other.state_hash() == vm.state_hash()
            vm.run_for(1_000_000)
            other.run_for(1_000_000)
            assert other.state_hash() == vm.state_hash()


# ---------------------------------------------------------------- places


def test_places(tmp_path: Path) -> None:
    with wirt.Machine(firmware=SPIN, memory=RAM_SIZE) as vm:
        taken = tmp_path / "taken"
        taken.mkdir()
        (taken / "precious").write_text("keep me")
        link = tmp_path / "link"
        link.symlink_to(taken)
        file = tmp_path / "file"
        file.write_text("keep me")
        for place in (taken, link, file):
            with pytest.raises(SnapshotError, match="something other than a snapshot"):
                vm.snapshot(place)
        assert (taken / "precious").read_text() == file.read_text() == "keep me"
        first = vm.snapshot(tmp_path / "s")
        second = vm.snapshot(tmp_path / "s")
        assert first.id != second.id
        assert wirt.Snapshot.open(tmp_path / "s").id == second.id
        assert {entry.name for entry in tmp_path.iterdir()} == {"taken", "link", "file", "s"}
        assert {entry.name for entry in (tmp_path / "s").iterdir()} == {
            "manifest.json", "memory.bin", "state.bin", "dtb.bin",
        }  # fmt: skip
        assert (tmp_path / "s" / "memory.bin").stat().st_blocks * 512 < 1 << 20
        assert second.stored_bytes < 2 << 20


def test_a_machine_that_is_restored_lives_on_when_its_snapshot_is_replaced(tmp_path: Path) -> None:
    with wirt.Machine(firmware=SPIN, memory=RAM_SIZE, deterministic=True) as vm:
        fill(vm, 1)
        vm.snapshot(tmp_path / "s")
        before = vm.state_hash()
        with wirt.Machine.restore(tmp_path / "s") as other:
            fill(vm, 2, 400)
            vm.snapshot(tmp_path / "s")
            assert other.state_hash() == before
            with pytest.raises(SnapshotError, match="another snapshot"):
                other.snapshot(tmp_path / "t", incremental=True)


def test_diff(tmp_path: Path) -> None:
    with wirt.Machine(firmware=COUNT, memory=RAM_SIZE, deterministic=True) as vm:
        before = vm.snapshot(tmp_path / "before")
        vm.run_for(1001)
        vm.dma(0x20000).write(RAM + (3 << 20), bytes(range(1, 10)))
        vm.dma(0x20000).write(RAM + (3 << 20) + 4096, b"x")
        after = vm.snapshot(tmp_path / "after", incremental=True)
    difference = before.diff(after)
    assert [(run.address, run.length) for run in difference.memory] == [(RAM + (3 << 20), 8192)]
    changed = {(field.section, field.field): (field.before, field.after) for field in difference.fields}
    assert any(field.endswith("x10") or field == "x" for _, field in changed), changed
    assert difference.options == {}
    assert not before.diff(before)
    with wirt.Machine(firmware=COUNT, memory=RAM_SIZE, cpus=2) as vm:
        other = vm.snapshot(tmp_path / "other")
    assert before.diff(other).options["cpus"] == (1, 2)
    assert not wirt.Snapshot.open(before.path).diff(before.path)


def test_snapshots_of_a_directory(tmp_path: Path) -> None:
    from wirt.snapshot import found_in

    with wirt.Machine(firmware=SPIN, memory=RAM_SIZE) as vm:
        for name in ("b", "a"):
            vm.snapshot(tmp_path / name)
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "manifest.json").write_text("{")
    (tmp_path / "d").mkdir()
    a, b, c = found_in(tmp_path)
    assert isinstance(a, wirt.Snapshot)
    assert isinstance(b, wirt.Snapshot)
    assert (a.path.name, b.path.name) == ("a", "b")
    assert isinstance(c, SnapshotError)


def test_memory_is_mapped_and_not_read(tmp_path: Path) -> None:
    """The pages of a restored machine that nobody touched are not resident."""
    with wirt.Machine(firmware=SPIN, memory="256M") as vm:
        vm.dma(0x20000).write(RAM + (32 << 20), random.Random(3).randbytes(64 << 20))
        vm.snapshot(tmp_path / "s")

    def resident() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")

    before = resident()
    with wirt.Machine.restore(tmp_path / "s"):
        assert resident() - before < 16 << 20


def test_page_sets_from_files(tmp_path: Path) -> None:
    path = tmp_path / "sparse"
    with path.open("wb") as file:
        file.truncate(1 << 20)
        file.seek(5 * 4096 + 17)
        file.write(b"x")
        file.seek(200 * 4096 - 1)
        file.write(b"xy")
        file.seek(9 * 4096)
        file.write(bytes(8192))
        file.seek((1 << 20) + 100)
        file.write(b"z")
    descriptor = os.open(path, os.O_RDONLY)
    try:
        size = (1 << 20) + 101
        assert _core.PageSet.of_file(descriptor, size).runs() == [(5, 1), (199, 2), (256, 1)]
        assert _core.PageSet.of_file(descriptor, 1 << 20).runs() == [(5, 1), (199, 2)]
        with pytest.raises(StorageError):
            _core.PageSet.of_file(descriptor, size + 4096)
    finally:
        os.close(descriptor)
