"""No device is re-entered by DMA: whatever a device is told to fetch from or to store to registers, its own or
another's, it ends in that device's own error, no register changes, and a reset heals it.

The machines never run, so that every change of a register would be the device's doing.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

import pytest

import wirt
from devices.hardware import ahci_driver as a
from support.virtio_driver import LIVE, Driver
from support.virtqueues import WRITE, wait_until

ECAM = 0x3000_0000
# Of another device: the test device (a write ends the machine), UART, PLIC, ACLINT, configuration space.
OTHERS = {"test": 0x10_0000, "uart": 0x1000_0000, "plic": 0x0C00_0000, "aclint": 0x0200_0000, "ecam": ECAM}
# How many queues to set up; the last of them is one that the device takes buffers from as soon as there are any.
DEVICES = {
    "virtio-blk0": 1,
    "virtio-net0": 2,
    "virtio-console0": 2,
    "virtio-rng0": 1,
    "virtio-gpu0": 1,
    "virtio-input0": 2,
}


class Onlookers:
    """The state of everything but the device under test."""

    def __init__(self, vm: wirt.Machine, attacker: str) -> None:
        self.vm, self.attacker = vm, attacker
        self.before = self.look()

    def look(self) -> dict[str, int]:
        # Interrupt controllers see the device's interrupt, which is no DMA.
        silent = (self.attacker, "virtio-core", "pcie-root", "plic", "memory", "ram", "msix")
        return {field: value for field, value in self.vm.inspect().items() if not field.startswith(silent)}

    def assert_unharmed(self) -> None:
        assert self.look() == self.before
        assert self.vm.state == "created"


# --- virtio ---


@pytest.fixture(params=[("mmio", False), ("mmio", True), ("pci", False), ("pci", True)], ids=str)
def vm(request: pytest.FixtureRequest) -> Iterator[wirt.Machine]:
    transport, packed = request.param
    nic = wirt.Switch().port("52:54:00:12:34:56")
    disk = wirt.Disk.memory("1M")
    with wirt.Machine(
        memory="16M",
        disks=[disk],
        nets=[nic],
        virtio=transport,
        packed=packed,
        display="virtio-gpu",
        input_devices=True,
    ) as machine:
        yield machine


def aims(driver: Driver) -> list[int]:
    return [driver.base, driver.registers.config & ~0xFFF, *OTHERS.values()]


@pytest.mark.parametrize("name", DEVICES)
@pytest.mark.parametrize("area", ["Desc", "Driver", "Device"])
def test_virtio_rings_on_registers(vm: wirt.Machine, name: str, area: str) -> None:
    driver = Driver(vm, name)
    onlookers = Onlookers(vm, name)
    for aim in aims(driver):
        driver.negotiate(0)
        queue = driver.configure(0, 16)
        driver.write(f"Queue{area}Low", aim)
        driver.write(f"Queue{area}High", 0)
        driver.enable(queue)
        driver.write("Status", LIVE)
        driver.write("QueueNotify", 0)
        assert wait_until(driver.needs_reset)
        onlookers.assert_unharmed()
    driver.reset()
    assert not driver.needs_reset()


@pytest.mark.parametrize("name", DEVICES)
@pytest.mark.parametrize("indirect", [False, True])
def test_virtio_buffers_on_registers(vm: wirt.Machine, name: str, indirect: bool) -> None:
    driver = Driver(vm, name)
    onlookers = Onlookers(vm, name)
    used = DEVICES[name] - 1
    for aim in aims(driver):
        for flags in (0, WRITE):
            queues = driver.start(1 << 28 if indirect else 0, DEVICES[name])
            queue = queues[used]
            if indirect:
                queue.expose([(aim, 64, 4)])
            else:
                queue.expose([(aim, 64, flags)])
            selected = driver.read("QueueSel")
            queue.kick()
            assert wait_until(driver.needs_reset)
            assert driver.read("QueueSel") == selected
            onlookers.assert_unharmed()
    driver.reset()
    (queue, *_) = driver.start(0, DEVICES[name])
    assert driver.read("Status") == LIVE


# --- AHCI ---


@pytest.fixture
def ahci() -> Iterator[a.AhciDriver]:
    disks = [wirt.Disk.memory("1M", bus="ahci"), wirt.Disk.memory("1M", bus="ahci")]
    with wirt.Machine(memory="64M", disks=disks) as machine:
        yield a.AhciDriver(machine)


def registers(driver: a.AhciDriver) -> list[int]:
    """What the controller's own DMA would change if it got there: interrupt enables and addresses, of both ports."""
    return [driver.host(port + at) for port in (0x100, 0x180) for at in (a.CLB, a.CLBU, a.FB, a.FBU, a.PXIE, a.SCTL)]


@pytest.mark.parametrize("aim", [a.ABAR, a.ABAR + 0x180, *OTHERS.values()], ids=hex)
def test_ahci_on_registers(ahci: a.AhciDriver, aim: int) -> None:
    onlookers = Onlookers(ahci.vm, "ahci0")
    before = registers(ahci)

    # PRDT entries: the disk's data, in both directions, by DMA, PIO and NCQ.
    for opcode in (a.READ_DMA_EXT, a.WRITE_DMA_EXT, a.READ_FPDMA, a.WRITE_FPDMA, a.IDENTIFY, a.DATA_SET_MANAGEMENT):
        features = {"features": 1} if opcode == a.DATA_SET_MANAGEMENT else {}
        assert ahci.fail(opcode, 0, 1, prdt=[(aim, 512)], **features).interrupt_status & a.HBFS
        assert registers(ahci) == before

    # The command table.
    ahci.prepare(0, a.IDENTIFY, prdt=[(a.BUFFER, 512)])
    ahci.fill(a.COMMAND_LIST, struct.pack("<IIQ", 5 | 1 << 16, 0, aim & ~0x7F))
    ahci.issue(1)
    with pytest.raises(a.CommandFailed) as failure:
        ahci.wait(1)
    assert failure.value.interrupt_status & a.HBFS
    ahci.restart()
    assert registers(ahci) == before

    # The command list, and the area of received FISes.
    for register in (a.CLB, a.FB):
        ahci.stop()
        ahci.prepare(0, a.IDENTIFY, prdt=[(a.BUFFER, 512)])
        ahci.write(register, aim)
        there = registers(ahci)
        ahci.write(a.CMD, a.FRE | a.ST)
        ahci.issue(1)
        with pytest.raises(a.CommandFailed) as failure:
            ahci.wait(1)
        assert failure.value.interrupt_status & a.HBFS
        assert registers(ahci) == there
        ahci.stop()
        ahci.start()

    onlookers.assert_unharmed()
    assert ahci.identify()[0] == 0x0040
