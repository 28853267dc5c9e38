"""What a machine says of its devices: where they are, how the guest has set them up, what it has done with them."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

import wirt
from wirt.cli.inspect import command as inspect
from wirt.guest_image import guest_image


@pytest.fixture(scope="module")
def devices():
    disks = [wirt.Disk.memory("2M", bus=bus) for bus in ("virtio-mmio", "virtio-pci", "ahci")]
    with wirt.Machine(guest_image(), cmdline="demo", memory="64M", disks=disks, nets=[wirt.Switch().port()]) as vm:
        vm.start()
        assert vm.wait(60)
        return {device.name: device for device in vm.devices}


def test_a_pci_function_has_an_address_and_bars(devices):
    ahci = devices["ahci0"]
    assert (ahci.kind, ahci.address, ahci.interrupt) == ("pci", "0000:00:01.0", "INTA")
    assert ahci.identity == "8086:2922"
    (bar,) = ahci.bars
    assert (bar.index, bar.kind, bar.size) == (5, "32-bit", 4096)
    assert bar.base is not None
    assert 0x4000_0000 <= bar.base < 0x8000_0000


def test_virtio_shows_queues_and_what_was_negotiated(devices):
    by_bus = {device.kind: device for device in devices.values() if device.name.startswith("virtio-blk")}
    assert set(by_bus) == {"virtio-mmio", "virtio-pci"}
    for device in by_bus.values():
        assert device.identity.endswith("virtio 2")
        assert [queue.size for queue in device.queues if queue.enabled] == [128]
        assert device.features == ["SIZE_MAX", "FLUSH", "INDIRECT_DESC", "EVENT_IDX", "VERSION_1"]
        assert device.exits > 0
    net = devices["virtio-net0"]
    assert [queue.name for queue in net.queues if queue.enabled] == ["0", "1"]
    assert "MAC" in net.features


def test_a_slot_that_nothing_sits_in_has_nothing_to_say(devices):
    empty = devices["virtio-mmio7"]
    assert (empty.identity, empty.bars, empty.queues, empty.features) == ("", [], [], [])


def test_exits_are_those_of_the_statistics():
    with wirt.Machine(guest_image(), cmdline="demo", memory="64M") as vm:
        vm.start()
        assert vm.wait(60)
        by_device = {device.name: device.exits for device in vm.devices}
        assert sum(by_device.values()) == vm.stats().total_exits


def test_before_the_guest_has_run_nothing_decodes_and_nothing_is_negotiated():
    with wirt.Machine(guest_image(), memory="64M", disks=[wirt.Disk.memory("1M", bus="ahci")]) as vm:
        devices = {device.name: device for device in vm.devices}
        assert [bar.base for bar in devices["ahci0"].bars] == [None]
        assert devices["virtio-console0"].features == []


def test_inspect_prints_them():
    result = CliRunner().invoke(inspect, ["demo", "--disk", "memory=1M,bus=ahci", "--run", "20"])
    assert result.exit_code == 0, result.output
    assert "0000:00:01.0" in result.output
    assert "ahci0: BAR 5: 32-bit" in result.output
    result = CliRunner().invoke(inspect, ["demo", "--json"])
    document = json.loads(result.output)
    assert {"address", "bars", "queues", "features", "exits"} <= set(document["devices"][0])
