"""Every register of every device, at every width and alignment: a defined result, whatever is read or written.

A machine that never runs, with one of everything, is walked through its bus. Regions up to 16 KiB are walked whole;
of larger ones (configuration space, interrupt controllers) the registers, their neighbours and a sample. The walk is
worth most under AddressSanitizer and UBSan (`make asan`). What a hart sees of an access that the bus refuses is at
the end.
"""

from __future__ import annotations

import bisect
import random
from collections.abc import Iterator

import pytest

import wirt
from support.firmware import words

ECAM = 0x3000_0000
EMPTY_SLOT = 23
PCI_WINDOWS = (range(0x4000_0000, 0x8000_0000), range(0x10_0000_0000, 0x20_0000_0000))
WIDTHS = (1, 2, 4, 8)
PATTERNS = (0, (1 << 64) - 1, 0x5A5A_A5A5_0F0F_F0F0)
WALKED_WHOLE = 0x4000
# A write here ends the machine or says that it has failed; that is tested by itself.
ENDS_THE_MACHINE = {"test"}

CONFIGURATIONS = {
    "mmio": {"display": "virtio-gpu", "input_devices": True},
    "pci": {
        "virtio": "pci",
        "packed": True,
        "interrupts": "aplic",
        "cpus": 2,
        "display": "bochs",
        "input_devices": True,
        "iommu": "platform",
    },
    "aia": {"interrupts": "aia", "guest_files": 1, "pcie_ports": 2, "iommu": "pci"},
}


@pytest.fixture(params=CONFIGURATIONS)
def vm(request: pytest.FixtureRequest) -> Iterator[wirt.Machine]:
    """A machine with one device of each kind, whose BARs are placed."""
    options = CONFIGURATIONS[request.param]
    bus = "virtio-pci" if options.get("virtio") == "pci" else "virtio-mmio"
    lan = wirt.Switch()
    with wirt.Machine(
        memory="16M",
        disks=[wirt.Disk.memory("1M", bus=bus), wirt.Disk.memory("1M", bus="ahci"), wirt.Disk.memory("1M", bus="ahci")],
        nets=[lan.port(model=bus), lan.port(model="e1000e")],
        **options,
    ) as machine:
        place_bars(machine)
        yield machine


def place_bars(vm: wirt.Machine) -> None:
    """What firmware does: gives each BAR an address, and lets the function decode it and master the bus."""
    next_base = 0x4000_0000
    for slot in range(32):
        config = ECAM + (slot << 15)
        header = vm.bus.read(config + 0x0E, 1) & 0x7F
        if vm.bus.read(config, 2) == 0xFFFF or header == 1:
            continue
        upper_half = False
        for bar in range(config + 0x10, config + 0x28, 4):
            if upper_half:
                vm.bus.write(bar, 4, 0)
                upper_half = False
                continue
            upper_half = vm.bus.read(bar, 4) & 7 == 4
            vm.bus.write(bar, 4, 0xFFFF_FFFF)
            mask = vm.bus.read(bar, 4) & ~0xF
            if mask == 0:
                continue
            size = (~mask & 0xFFFF_FFFF) + 1
            next_base = -(-next_base // size) * size
            vm.bus.write(bar, 4, next_base)
            next_base += size
        vm.bus.write(config + 4, 2, 0x0006)


def offsets_of(region: wirt._core.Region, size: int) -> list[int]:
    """Every offset that an access of `size` bytes can have, or of a large region those that matter."""
    last = region.size - size
    if region.size <= WALKED_WHOLE:
        return list(range(0, last + 1, size))
    chosen = {0, last, *(random.Random(size).randrange(region.size) for _ in range(500))}
    for register in region.registers:
        ends = (register.offset, register.offset + register.width)
        chosen.update(end + by for end in ends for by in (-8, -4, -2, -1, 0, 1, 2, 4, 8))
        chosen.update(range(register.offset, register.offset + min(register.width, 64)))
    return sorted({offset // size * size for offset in chosen if 0 <= offset <= last})


def visible_regions(vm: wirt.Machine) -> list[wirt._core.Region]:
    return [region for region in vm.bus.regions() if region.base is not None]


def undefined_offsets(region: wirt._core.Region, size: int) -> Iterator[int]:
    """Where an access of `size` bytes touches no register."""
    starts = [register.offset for register in region.registers]
    for offset in offsets_of(region, size):
        before = bisect.bisect_left(starts, offset + size) - 1
        if before < 0 or starts[before] + region.registers[before].width <= offset:
            yield offset


def test_every_device_is_walked(vm: wirt.Machine) -> None:
    assert {region.device for region in visible_regions(vm)} >= {device.name for device in vm.devices}


def test_register_tables_are_in_order(vm: wirt.Machine) -> None:
    for region in vm.bus.regions():
        end = 0
        for register in region.registers:
            assert end <= register.offset, (region.device, register.name)
            end = register.offset + register.width
            assert end <= region.size, (region.device, register.name)
            assert register.cite, (region.device, register.name)


def test_any_access_has_a_result(vm: wirt.Machine) -> None:
    # In the order of the walk a BAR may move away; what was decoded at the start is what is walked.
    for region in visible_regions(vm):
        if region.device == "pcie-root":
            continue
        for size in WIDTHS:
            for offset in offsets_of(region, size):
                address = region.base + offset
                assert vm.bus.read(address, size) < 1 << 8 * size
                if region.device in ENDS_THE_MACHINE:
                    continue
                for pattern in PATTERNS:
                    vm.bus.write(address, size, pattern % (1 << 8 * size))
                assert vm.bus.read(address, size) < 1 << 8 * size
    assert vm.state_hash()


def test_any_configuration_access_has_a_result(vm: wirt.Machine) -> None:
    functions = [slot for slot in range(32) if vm.bus.read(ECAM + (slot << 15), 2) != 0xFFFF]
    assert len(functions) >= 2
    for slot in functions:
        config = ECAM + (slot << 15)
        identity = vm.bus.read(config, 8) & 0xFFFF_FFFF
        for size in WIDTHS:
            for offset in range(0, 0x1000, size):
                for pattern in PATTERNS:
                    vm.bus.write(config + offset, size, pattern % (1 << 8 * size))
                    assert vm.bus.read(config + offset, size) < 1 << 8 * size
        # PCI 3.0, 6.2.1: nobody can write who the function is.
        assert vm.bus.read(config, 4) == identity
    # Where no function is: all ones, and nothing to write.
    assert EMPTY_SLOT not in functions
    for size in WIDTHS:
        address = ECAM + (EMPTY_SLOT << 15) + 0x10
        vm.bus.write(address, size, 0)
        assert vm.bus.read(address, size) == (1 << 8 * size) - 1


def test_what_is_undefined_reads_zero_and_ignores_writes(vm: wirt.Machine) -> None:
    before = vm.state_hash()
    for region in visible_regions(vm):
        if region.device == "pcie-root":
            continue
        fields = vm.inspect()
        for size in WIDTHS:
            for offset in undefined_offsets(region, size):
                address = region.base + offset
                vm.bus.write(address, size, (1 << 8 * size) - 1)
                assert vm.bus.read(address, size) == 0, (region.device, hex(offset), size)
        assert vm.inspect() == fields, region.device
    assert vm.state_hash() == before


def test_read_only_registers_keep_their_value(vm: wirt.Machine) -> None:
    for region in visible_regions(vm):
        for register in region.registers:
            if register.access != "ro":
                continue
            size = min(8, register.width & -register.width)
            address = region.base + register.offset
            vm.bus.read(address, size)  # some forget an event when they are read
            value = vm.bus.read(address, size)
            for pattern in PATTERNS:
                vm.bus.write(address, size, pattern % (1 << 8 * size))
                assert vm.bus.read(address, size) == value, (region.device, register.name)


def test_nothing_answers_beyond_a_region(vm: wirt.Machine) -> None:
    regions = visible_regions(vm)
    starts = {region.base for region in regions}
    for region in regions:
        beyond = region.base + region.size
        if beyond in starts:
            continue
        if any(beyond in window for window in PCI_WINDOWS):
            assert vm.bus.read(beyond, 4) == 0xFFFF_FFFF, "as a root complex completes what no function claims"
            vm.bus.write(beyond, 4, 0)
        else:
            with pytest.raises(wirt.AddressError):
                vm.bus.read(beyond, 4)


# --- what a hart sees ---

LOAD_FAULT, STORE_FAULT, LOAD_MISALIGNED, STORE_MISALIGNED = 5, 7, 4, 6


def cause_of(instruction: int, address: int) -> int:
    """mcause after an M-mode program accessed `address` (held in t0)."""
    program = words(
        0x0000_0297,  # auipc t0, 0
        0x0202_8293,  # addi t0, t0, 32
        0x3052_9073,  # csrw mtvec, t0
        0x0000_02B7 | (address + 0x800) & 0xFFFF_F000,  # lui t0, address
        0x0002_8293 | (address & 0xFFF) << 20,  # addi t0, t0, address
        instruction,
        0x0000_006F,  # j .
        0x0000_0013,
        0x0000_006F,  # the handler: j .
    )
    with wirt.Machine(memory="16M", firmware=program, deterministic=True) as vm:
        vm.run_for(20)
        return vm.harts[0].csr["mcause"]


@pytest.mark.parametrize("address", [0x1000_0000, 0x1000_1000, 0x0C00_0000, 0x0200_0000, ECAM])
def test_misaligned_accesses_fault(address: int) -> None:
    lhu, lw, ld = 0x0002_D303, 0x0002_A303, 0x0002_B303
    sh, sw, sd = 0x0062_9023, 0x0062_A023, 0x0062_B023
    for load, by in ((lhu, 1), (lw, 1), (lw, 2), (ld, 4)):
        assert cause_of(load, address + by) in (LOAD_FAULT, LOAD_MISALIGNED)
    for store, by in ((sh, 1), (sw, 2), (sd, 4)):
        assert cause_of(store, address + by) in (STORE_FAULT, STORE_MISALIGNED)
    # The same, aligned, is no fault.
    assert cause_of(lw, address) == 0


def test_where_nothing_is_mapped_accesses_fault() -> None:
    lw, sw = 0x0002_A303, 0x0062_A023
    assert cause_of(lw, 0x0900_0000) == LOAD_FAULT
    assert cause_of(sw, 0x0900_0000) == STORE_FAULT
    # An access that begins on a device and ends beyond it.
    assert cause_of(0x0002_B303, 0x1000_00FC) in (LOAD_FAULT, LOAD_MISALIGNED)
