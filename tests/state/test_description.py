"""A machine as plain data, and a machine made from that."""

from __future__ import annotations

import copy
import json

import pytest

import wirt
from support.firmware import SPIN
from wirt import _core, description
from wirt.errors import SnapshotError, StateError


def machine() -> wirt.Machine:
    lan = wirt.Switch()
    vm = wirt.Machine(
        firmware=SPIN,
        memory="16M",
        pcie_ports=1,
        deterministic=True,
        disks=[wirt.Disk.memory("1M", bus="ahci", serial="first")],
        nets=[lan.port("02:00:00:00:00:01")],
    )
    vm.attach(wirt.Disk.memory("2M", bus="virtio-pci"))
    unplugged = lan.port(model="e1000e")
    vm.attach(unplugged)
    vm.attach(lan.port(mac="02:00:00:00:00:02", model="e1000e"), slot=9)
    vm.detach(unplugged)
    return vm


def test_a_machine_that_is_built_from_its_description_has_its_hash() -> None:
    with machine() as vm:
        vm.run_for(1000)
        text = json.dumps(description.describe(vm))
        parsed = description.parse(json.loads(text))
        state, memory = _core.save_state(vm._core), _core.freeze(vm._core, 1)
        copies = [wirt.Disk.memory("1M", bus="ahci", serial="first"), wirt.Disk.memory("2M", bus="virtio-pci")]
        with description.build(parsed, memory=memory, state=state, dtb=vm.dtb, disks=copies) as other:
            assert other.state == "paused"
            assert other.state_hash() == vm.state_hash()
            assert json.dumps(description.describe(other)) == text
            assert [plugged["name"] for plugged in parsed["plugged"]] == ["virtio-blk0", "e1000e1"]
            for one in (vm, other):
                one.run_for(1000)
            assert other.state_hash() == vm.state_hash()
        # The guest would notice.
        with pytest.raises(SnapshotError, match="serial is '', and was 'first'"):
            description.build(
                parsed,
                memory=memory,
                state=state,
                dtb=vm.dtb,
                disks=[wirt.Disk.memory("1M", bus="ahci"), copies[1]],
            )
        with pytest.raises(SnapshotError, match=r"2 disk\(s\); 0 are given"):
            description.build(parsed, memory=memory, state=state, dtb=vm.dtb, disks=[])


def test_a_device_in_python_without_save_cannot_be_described() -> None:
    class Mine(wirt.Device):
        def read(self, offset: int, size: int) -> int:
            return 0

        def write(self, offset: int, size: int, value: int) -> None:
            pass

    with wirt.Machine(firmware=SPIN, memory="16M") as vm:
        vm.map_device(0x5000_0000, 0x1000, Mine())
        with pytest.raises(StateError, match=r"Mine: .*save\(\) and load\(\)"):
            description.describe(vm)


def test_what_is_no_description_is_refused() -> None:
    with machine() as vm:
        good = description.describe(vm)
    assert description.parse(json.loads(json.dumps(good))) == good

    def broken(change) -> None:
        data = copy.deepcopy(json.loads(json.dumps(good)))
        change(data)
        with pytest.raises(SnapshotError):
            description.parse(data)

    broken(lambda data: data.pop("nets"))
    broken(lambda data: data.update(more=1))
    broken(lambda data: data.update(disks={}))
    broken(lambda data: data.update(disks=data["disks"] * 65))
    broken(lambda data: data["options"].update(cpus="1"))
    broken(lambda data: data["options"].update(cpus=True))
    broken(lambda data: data["options"].pop("seed"))
    broken(lambda data: data["disks"][0].update(bus="scsi"))
    broken(lambda data: data["disks"][0].update(size=-1))
    broken(lambda data: data["disks"][0].update(queues=True))
    broken(lambda data: data["nets"][0].update(mac="03:00:00:00:00:01"))
    broken(lambda data: data["nets"][0].update(model="ne2000"))
    broken(lambda data: data["plugged"][0].update(slot=32))
    broken(lambda data: data["plugged"][0].update(net=good["nets"][0]))
    broken(lambda data: data["plugged"][0].update(disk=None))
    broken(lambda data: data["plugged"][0].update(name=None))
    for nothing in (None, [], "machine", 1):
        with pytest.raises(SnapshotError):
            description.parse(nothing)
