"""virtio over PCI (virtio 1.2, 4.1): identity, capabilities, registers, vectors, the window in configuration space."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

import wirt
from support.virtio_driver import (
    CONFIG_CHANGE,
    LIVE,
    NEEDS_RESET,
    RAM,
    USED_BUFFER,
    Driver,
)
from support.virtio_transports import COMMON, PciFunction, PciRegisters, virtio_functions
from support.virtqueues import WRITE, wait_until

COMMON_CFG, NOTIFY_CFG, ISR_CFG, DEVICE_CFG, PCI_CFG = 1, 2, 3, 4, 5
POWER_MANAGEMENT, EXPRESS, MSIX = 0x01, 0x10, 0x11
NO_VECTOR = 0xFFFF
TYPES = {"virtio-net0": 1, "virtio-blk0": 2, "virtio-console0": 3, "virtio-rng0": 4}
QUEUES = {"virtio-net0": 5, "virtio-blk0": 1, "virtio-console0": 2, "virtio-rng0": 1}


@pytest.fixture(params=["split", "packed"])
def wiring(request: pytest.FixtureRequest) -> tuple[str, str]:
    return "pci", str(request.param)


def registers(driver: Driver) -> PciRegisters:
    assert isinstance(driver.registers, PciRegisters)
    return driver.registers


def function(driver: Driver) -> PciFunction:
    return registers(driver).function


# --- identity and capabilities (4.1.2, 4.1.4) ---


def test_functions_are_modern_and_come_in_the_order_of_the_configuration(vm: wirt.Machine) -> None:
    functions = virtio_functions(vm)
    assert [f.slot for f in functions] == [4, 5, 6, 7]
    assert [f.read(2, 2) - 0x1040 for f in functions] == [3, 2, 1, 4], "console, block, net, entropy"
    for f in functions:
        assert f.read(8, 1) >= 1, "revision (4.1.2.1)"
        assert f.read(0x2E, 2) >= 0x40, "subsystem device ID"
        assert f.read(0x3D, 1) == 1, "INTA"


def test_there_are_no_mmio_devices_beside_them(vm: wirt.Machine) -> None:
    assert {d.kind for d in vm.devices if d.name in TYPES} == {"virtio-pci"}
    assert all(vm.bus.read(0x1000_1008 + 0x1000 * slot, 4) == 0 for slot in range(8))


@pytest.mark.parametrize("name", TYPES)
def test_each_structure_lies_in_the_bar_apart_from_the_others(vm: wirt.Machine, name: str) -> None:
    f = function(Driver(vm, name))
    structures = f.structures()
    assert set(structures) == {COMMON_CFG, NOTIFY_CFG, ISR_CFG, DEVICE_CFG, PCI_CFG}
    f.write(0x10, 4, 0xFFFF_FFFF)
    size = 2**32 - (f.read(0x10, 4) & ~15)
    places = []
    for kind, at in structures.items():
        assert f.read(at + 2, 1) == (20 if kind in (NOTIFY_CFG, PCI_CFG) else 16), "cap_len"
        if kind == PCI_CFG:
            continue
        assert f.read(at + 4, 1) == 0, "BAR"
        places.append((f.read(at + 8, 4), f.read(at + 12, 4)))
        assert places[-1][0] % 4 == 0
    places.sort()
    assert all(a + n <= b for (a, n), (b, _) in zip(places, [*places[1:], (size, 0)], strict=True))
    notify = structures[NOTIFY_CFG]
    assert f.read(notify + 12, 4) >= f.read(notify + 16, 4) * (QUEUES[name] - 1) + 4


def test_capabilities_are_read_only_but_for_the_window(blk: Driver) -> None:
    f = function(blk)
    for kind, at in f.structures().items():
        before = [f.read(at + i, 4) for i in range(0, 16, 4)]
        for i in range(0, 16, 4):
            f.write(at + i, 4, 0xFFFF_FFFF)
        after = [f.read(at + i, 4) for i in range(0, 16, 4)]
        assert (after == before) == (kind != PCI_CFG)


@pytest.mark.parametrize("name", TYPES)
def test_there_is_a_vector_for_each_queue_and_one_for_the_configuration(vm: wirt.Machine, name: str) -> None:
    driver = Driver(vm, name)
    (at,) = (at for kind, at in function(driver).capabilities() if kind == MSIX)
    assert function(driver).read(at + 2, 2) & 0x7FF == QUEUES[name]
    assert driver.read("NumQueues") == QUEUES[name]


# --- the common configuration structure (4.1.4.3) ---


def test_a_queue_shows_its_largest_size_until_the_driver_chooses(rng: Driver) -> None:
    rng.negotiate(0)
    rng.write("QueueSel", 0)
    assert rng.read("QueueNum") == 256
    for refused in (0, 257, 0xFFFF):
        rng.write("QueueNum", refused)
        assert rng.read("QueueNum") == 256
    rng.write("QueueNum", 24)
    assert rng.read("QueueNum") == (24 if rng.packed else 256)
    rng.write("QueueNum", 64)
    assert rng.read("QueueNum") == 64
    rng.write("QueueSel", 1)
    assert rng.read("QueueNum") == 0, "no such queue"


def test_a_driver_need_not_write_the_size(rng: Driver) -> None:
    rng.negotiate(0)
    queue = rng.configure(0, 256)
    rng.reset()
    rng.negotiate(0)
    for area, address in zip(("Desc", "Driver", "Device"), queue.areas, strict=True):
        rng.write(f"Queue{area}Low", address)
    rng.write("QueueReady", 1)
    rng.write("Status", LIVE)
    assert queue.transfer(writable=[(RAM + 0x20_0000, 8)]).length == 8


def test_fields_read_back_what_was_written(net: Driver) -> None:
    net.negotiate(0)
    for index in (0, 2):
        net.write("QueueSel", index)
        assert net.read("QueueNotifyOff") == index
        for area in ("Desc", "Driver", "Device"):
            net.write(f"Queue{area}Low", 0x1234_5670 + index)
            net.write(f"Queue{area}High", 0x89AB_CDEF)
    net.write("QueueSel", 0)
    assert net.read("QueueDescLow") == 0x1234_5670
    assert net.read("QueueDeviceHigh") == 0x89AB_CDEF
    at = registers(net).common + 0x20
    assert net.vm.bus.read(at, 8) == 0x89AB_CDEF_1234_5670, "a whole field as well as its halves"
    net.vm.bus.write(at, 8, 0x1111_2222_3333_4444)
    assert net.read("QueueDescHigh") == 0x1111_2222
    net.write("DriverFeaturesSel", 1)
    assert net.read("DriverFeatures") == net.features >> 32


def test_fields_answer_accesses_of_their_own_width_only(net: Driver) -> None:
    net.negotiate(0)
    bus, common = net.vm.bus, registers(net).common
    net.write("QueueNum", 64)
    widths = dict(COMMON.values())
    for offset in range(0x40):
        for size in (1, 2, 4, 8):
            if offset % size or widths.get(offset) == size or (size == 8 and offset in (0x20, 0x28, 0x30)):
                continue
            assert bus.read(common + offset, size) == 0, (offset, size)
            before = {name: net.read(name) for name in COMMON}
            bus.write(common + offset, size, 0x0101_0101_0101_0101 & (2 ** (8 * size) - 1))
            assert {name: net.read(name) for name in COMMON} == before, (offset, size)


def test_a_queue_is_not_disabled_by_writing_0(rng: Driver) -> None:
    (queue,) = rng.start()
    rng.write("QueueReady", 0)
    assert rng.read("QueueReady") == 1
    queue.transfer(writable=[(RAM + 0x20_0000, 8)])


def test_a_doorbell_is_known_by_its_address(net: Driver) -> None:
    queue = net.start(queues=2)[1]
    queue.add(readable=[(RAM, 64)])
    other = registers(net).notify
    net.vm.bus.write(other, 2, 1)
    assert not wait_until(lambda: queue.poll() is not None, 0.03)
    for size in (1, 8):
        net.vm.bus.write(other if size == 8 else other + 4, size, 1)
    assert not wait_until(lambda: queue.poll() is not None, 0.03)
    net.vm.bus.write(other + 4, 4, 0xFFFF_FFFF)
    queue.wait()


def test_doorbells_are_counted_queue_by_queue(net: Driver) -> None:
    queue = net.start(queues=2)[1]
    for _ in range(3):
        queue.transfer(readable=[(RAM, 64)])
    exits = {(e.device, e.cause): e.writes for e in net.vm.stats().exits}
    assert exits["virtio-net0", "notify 1"] == 3
    assert ("virtio-net0", "notify 0") not in exits


def test_every_access_of_every_width_is_harmless(vm: wirt.Machine, net: Driver) -> None:
    choose = random.Random(4)
    for size in (1, 2, 4, 8):
        for offset in range(0, 0x4000, size):
            if 0x100 < offset % 0x1000 < 0xFF0:
                continue
            vm.bus.read(net.base + offset, size)
            vm.bus.write(net.base + offset, size, choose.choice([0, 2 ** (8 * size) - 1, choose.getrandbits(8 * size)]))
    f = function(net)
    for size in (1, 2, 4):
        for offset in range(0x40, 0x100, size):
            f.read(offset, size)
            f.write(offset, size, choose.getrandbits(8 * size))
            f.write(0x04, 2, 0x0006)
    (power,) = (at for kind, at in f.capabilities() if kind == POWER_MANAGEMENT)
    f.write(power + 4, 2, 0)  # D0
    Driver(vm, "virtio-net0").start(queues=2)


# --- interrupts (4.1.4.5, 4.1.5.1.2, 4.1.5.3, 4.1.5.4) ---


def test_reading_the_isr_status_clears_it_and_takes_the_interrupt_back(rng: Driver) -> None:
    (queue,) = rng.start()
    isr, bus, f = registers(rng).isr, rng.vm.bus, function(rng)
    queue.transfer(writable=[(RAM + 0x20_0000, 8)])
    assert wait_until(lambda: bool(f.read(6, 2) & 8)), "Interrupt Status (4.1.4.5.1)"
    assert rng.pending_at_plic()
    assert bus.read(isr, 1) == USED_BUFFER
    assert bus.read(isr, 1) == 0
    assert not f.read(6, 2) & 8


def test_both_reasons_can_be_in_the_isr_status(rng: Driver) -> None:
    (queue,) = rng.start()
    queue.transfer(writable=[(RAM + 0x20_0000, 8)])
    queue.expose([(0, 8, WRITE)])
    queue.kick()
    assert wait_until(rng.needs_reset)
    assert rng.vm.bus.read(registers(rng).isr, 1) == USED_BUFFER | CONFIG_CHANGE
    rng.reset()
    assert rng.vm.bus.read(registers(rng).isr, 1) == 0


@pytest.mark.parametrize("register", ["ConfigVector", "QueueVector"])
def test_a_vector_that_there_is_not_reads_back_as_none(net: Driver, register: str) -> None:
    net.negotiate(0)
    assert net.read(register) == NO_VECTOR
    for vector, seen in ((0, 0), (5, 5), (6, NO_VECTOR), (3, 3), (0x7FF, NO_VECTOR), (1, 1), (NO_VECTOR, NO_VECTOR)):
        net.write(register, vector)
        assert net.read(register) == seen
    net.write(register, 2)
    net.reset()
    assert net.read(register) == NO_VECTOR, "unmapped by a reset (4.1.5.1.2.1)"


def test_a_queue_that_does_not_exist_has_no_vector(rng: Driver) -> None:
    rng.negotiate(0)
    rng.write("QueueSel", 1)
    rng.write("QueueVector", 0)
    assert rng.read("QueueVector") == NO_VECTOR


def test_with_msix_a_queue_raises_its_vector_and_nothing_else(net: Driver) -> None:
    """The vectors stay masked, so that what is raised can be seen in the pending bits."""
    f, bus = function(net), net.vm.bus
    (at,) = (at for kind, at in f.capabilities() if kind == MSIX)
    f.write(at + 2, 2, 0x8000)
    pending: Callable[[], int] = lambda: bus.read(f.msix_table + 0x800, 8)  # noqa: E731

    _, queue = net.start(queues=2)
    net.write("QueueSel", 1)
    net.write("QueueVector", 4)
    net.write("ConfigVector", 2)
    queue.transfer(readable=[(RAM, 64)])
    assert wait_until(lambda: pending() == 1 << 4)
    assert bus.read(registers(net).isr, 1) == 0, "the ISR status is for INTx"
    queue.expose([(0, 8, 0)])
    queue.kick()
    assert wait_until(net.needs_reset)
    assert pending() == (1 << 4 | 1 << 2)
    assert bus.read(registers(net).isr, 1) == CONFIG_CHANGE, "but for this bit (4.1.4.5.1)"
    assert not net.pending_at_plic()


def test_an_event_without_a_vector_raises_nothing(rng: Driver) -> None:
    f = function(rng)
    (at,) = (at for kind, at in f.capabilities() if kind == MSIX)
    f.write(at + 2, 2, 0x8000)
    (queue,) = rng.start()
    queue.transfer(writable=[(RAM + 0x20_0000, 8)])
    queue.transfer(writable=[(RAM + 0x20_0000, 8)])
    assert rng.vm.bus.read(f.msix_table + 0x800, 8) == 0
    assert not rng.pending_at_plic()


# --- the window in configuration space (4.1.4.9) ---


class Window:
    def __init__(self, driver: Driver) -> None:
        self.function = function(driver)
        self.at = self.function.structures()[PCI_CFG]

    def aim(self, offset: int, length: int, bar: int = 0) -> None:
        self.function.write(self.at + 4, 1, bar)
        self.function.write(self.at + 8, 4, offset)
        self.function.write(self.at + 12, 4, length)

    def read(self, offset: int, length: int, size: int | None = None) -> int:
        self.aim(offset, length)
        return self.function.read(self.at + 16, size or length)

    def write(self, offset: int, length: int, value: int) -> None:
        self.aim(offset, length)
        self.function.write(self.at + 16, length, value)


def test_the_window_needs_no_bar(blk: Driver) -> None:
    window = Window(blk)
    window.function.write(0x04, 2, 0)
    assert window.read(0x2000, 4) == 2048, "capacity"
    window.write(0x14, 1, 1)
    assert window.read(0x14, 1) == 1
    assert window.read(0x12, 2) == 1
    window.write(0x14, 1, 0)
    assert window.read(0x14, 1) == 0


def test_a_doorbell_and_the_isr_status_through_the_window(rng: Driver) -> None:
    window = Window(rng)
    (queue,) = rng.start()
    queue.add(writable=[(RAM + 0x20_0000, 8)])
    window.write(0x3000, 2, 0)
    queue.wait()
    assert wait_until(lambda: window.read(0x1000, 1) == USED_BUFFER)
    assert window.read(0x1000, 1) == 0


@pytest.mark.parametrize(
    ("offset", "length", "bar"),
    [
        (0x14, 3, 0),
        (0x14, 0, 0),
        (0x14, 8, 0),
        (0x15, 2, 0),
        (0x4000, 1, 0),
        (0xFFFF_FFFC, 4, 0),
        (0x14, 1, 1),
        (0, 4, 6),
    ],
)
def test_a_window_that_is_aimed_wrong_does_nothing(blk: Driver, offset: int, length: int, bar: int) -> None:
    window = Window(blk)
    window.aim(offset, length, bar)
    window.function.write(window.at + 16, 4, 0x0101_0101)
    assert window.function.read(window.at + 16, 4) == 0x0101_0101, "what was written stays"
    assert blk.read("Status") == 0


def test_a_device_that_may_not_reach_memory_needs_a_reset(rng: Driver) -> None:
    (queue,) = rng.start()
    function(rng).write(0x04, 2, 0x0002)
    queue.add(writable=[(RAM + 0x20_0000, 8)])
    queue.kick()
    assert wait_until(rng.needs_reset)
    function(rng).write(0x04, 2, 0x0006)
    (queue,) = rng.start()
    queue.transfer(writable=[(RAM + 0x20_0000, 8)])


def test_a_function_level_reset_forgets_everything(rng: Driver) -> None:
    f = function(rng)
    (express,) = (at for kind, at in f.capabilities() if kind == EXPRESS)
    (queue,) = rng.start()
    queue.transfer(writable=[(RAM + 0x20_0000, 8)])
    f.write(express + 8, 2, f.read(express + 8, 2) | 0x8000)
    assert f.read(0x10, 4) == 0
    rng = Driver(rng.vm, "virtio-rng0")
    assert rng.read("Status") == 0
    (queue,) = rng.start()
    assert not rng.read("Status") & NEEDS_RESET
    queue.transfer(writable=[(RAM + 0x20_0000, 8)])
