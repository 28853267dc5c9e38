"""Disks and NICs that come and go: where they may go, what the guest sees, and what is left behind."""

from __future__ import annotations

import gc
import threading

import pytest

import wirt

ECAM = 0x3000_0000
ONES = 0xFFFF_FFFF
VIRTIO_DISK, VIRTIO_NIC, AHCI, E1000E = 0x1042_1AF4, 0x1041_1AF4, 0x2922_8086, 0x10D3_8086


def endless_kernel() -> bytes:
    """A Linux image (boot-image-header.rst) of one instruction after the header, which jumps to itself."""
    header = bytearray(64)
    header[0:4] = (0x0400006F).to_bytes(4, "little")  # j 64
    header[8:16] = (0x20_0000).to_bytes(8, "little")  # text_offset
    header[16:24] = (0x1000).to_bytes(8, "little")  # image_size
    header[32:36] = (2).to_bytes(4, "little")  # version 0.2
    header[48:56] = b"RISCV\0\0\0"
    header[56:60] = b"RSC\x05"
    return bytes(header) + (0x0000006F).to_bytes(4, "little")


def function_id(vm, slot, bus=0):
    return vm.bus.read(ECAM + (bus << 20) + (slot << 15), 4)


def number_port(vm, slot, bus):
    vm.bus.write(ECAM + (slot << 15) + 0x18, 4, bus << 16 | bus << 8)


@pytest.fixture
def vm():
    with wirt.Machine(memory="64M", pcie_ports=2, disks=[wirt.Disk.memory("1M", bus="ahci")]) as machine:
        yield machine


def test_ports_first_and_then_the_root_bus(vm):
    number_port(vm, 24, 1)
    number_port(vm, 25, 2)
    lan = wirt.Switch()
    devices = [wirt.Disk.memory("1M", bus="ahci"), wirt.Disk.memory("1M"), lan.port(), lan.port(model="e1000e")]
    names = [vm.attach(device) for device in devices]
    assert names == ["ahci1", "virtio-blk0", "virtio-net0", "e1000e0"]
    assert function_id(vm, 0, 1) == AHCI
    assert function_id(vm, 0, 2) == VIRTIO_DISK
    assert function_id(vm, 4) == VIRTIO_NIC
    assert function_id(vm, 5) == E1000E
    assert set(names) <= {device.name for device in vm.devices}
    assert vm.disks[1:] == devices[:2]
    for device in devices:
        assert vm.detach(device)
    assert {function_id(vm, 0, 1), function_id(vm, 0, 2), function_id(vm, 4), function_id(vm, 5)} == {ONES}
    assert not set(names) & {device.name for device in vm.devices}
    assert len(vm.disks) == 1
    # Free for the next; a name is not used again.
    assert vm.attach(devices[1], slot=20) == "virtio-blk1"
    assert function_id(vm, 20) == VIRTIO_DISK


def test_a_device_that_a_driver_uses_is_taken_all_the_same(vm):
    disk = wirt.Disk.memory("1M", bus="ahci")
    vm.attach(disk, slot=7)
    vm.bus.write(ECAM + (7 << 15) + 0x24, 4, 0x4000_0000)
    vm.bus.write(ECAM + (7 << 15) + 4, 2, 6)
    assert vm.bus.read(0x4000_0010, 4) == 0x0001_0301
    assert not vm.detach(disk)
    assert vm.bus.read(0x4000_0010, 4) == ONES
    vm.bus.write(0x4000_0010, 4, 0)


def test_mistakes(vm):
    lan = wirt.Switch()
    disk = wirt.Disk.memory("1M", bus="virtio-pci")
    for slot in (0, 1, 3, 26, 31, 32, 1 << 40):
        with pytest.raises(wirt.ConfigError):
            vm.attach(disk, slot=slot)
    with pytest.raises(wirt.ConfigError, match="virtio-mmio"):
        vm.attach(wirt.Disk.memory("1M", bus="virtio-mmio"))
    with pytest.raises(wirt.ConfigError, match="virtio-mmio"):
        vm.attach(lan.port(model="virtio-mmio"))
    with pytest.raises(wirt.ConfigError):
        vm.attach("disk.img")
    for unknown in (disk, vm.disks[0], lan.port(), "ahci0", "uart0", "virtio-blk0"):
        with pytest.raises(wirt.ConfigError):
            vm.detach(unknown)
    vm.attach(disk, slot=9)
    with pytest.raises(wirt.ConfigError, match="9"):
        vm.attach(lan.port(), slot=9)
    with pytest.raises(wirt.StorageError), wirt.Machine(memory="16M") as other:
        other.attach(disk)
    vm.detach("virtio-blk0")
    for _ in range(22):
        vm.attach(lan.port())
    with pytest.raises(wirt.ConfigError, match="detach"):
        vm.attach(disk)
    vm.close()
    with pytest.raises(wirt.StateError):
        vm.attach(disk)
    with pytest.raises(wirt.ConfigError, match="0 to 8"):
        wirt.Machine(memory="16M", pcie_ports=9)


def test_a_file_is_closed_when_its_disk_is_taken_out(vm, tmp_path):
    path = tmp_path / "disk.img"
    path.write_bytes(bytes(1 << 20))
    disk = wirt.Disk(path, bus="ahci")
    vm.attach(disk)
    with pytest.raises(wirt.StorageError):
        wirt.Disk(path)
    vm.detach(disk)
    gc.collect()
    wirt.Disk(path).close()


def test_slots_are_state(vm):
    before = vm.state_hash()
    disk = wirt.Disk.memory("1M", bus="ahci")
    vm.attach(disk, slot=8)
    assert vm.state_hash() != before
    vm.detach(disk)
    assert vm.state_hash() == before


@pytest.mark.parametrize("deterministic", [False, True])
def test_under_a_running_guest(deterministic):
    lan = wirt.Switch()
    end = lan.endpoint()
    frame = b"\xff" * 6 + b"\x02" + bytes(5) + b"\x08\x00" + bytes(50)
    with wirt.Machine(endless_kernel(), memory="64M", cpus=2, pcie_ports=1, deterministic=deterministic) as vm:
        vm.start()
        stop = threading.Event()

        def watch():
            while not stop.is_set():
                end.send(frame)
                assert len(vm.devices) > 5
                vm.stats()

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            for number in range(20):
                devices = [wirt.Disk.memory("1M", bus=("ahci", "virtio-pci")[number % 2]), lan.port()]
                devices.append(lan.port(model="e1000e"))
                for device in devices:
                    vm.attach(device)
                if number % 5 == 0:
                    vm.pause()
                for device in devices:
                    vm.detach(device, timeout=0.0)
                if number % 5 == 0:
                    vm.resume()
        finally:
            stop.set()
            watcher.join()
        assert vm.state == "running"
