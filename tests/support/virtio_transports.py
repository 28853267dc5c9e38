"""The registers of a virtio device over MMIO (virtio 1.2, 4.2) and over PCI (4.1), by the names of the former."""

from __future__ import annotations

from typing import Protocol

import wirt

ECAM = 0x3000_0000
BAR_WINDOW = 0x4000_0000

# 4.2.2
MMIO = {
    "MagicValue": 0x000,
    "Version": 0x004,
    "DeviceID": 0x008,
    "VendorID": 0x00C,
    "DeviceFeatures": 0x010,
    "DeviceFeaturesSel": 0x014,
    "DriverFeatures": 0x020,
    "DriverFeaturesSel": 0x024,
    "QueueSel": 0x030,
    "QueueNumMax": 0x034,
    "QueueNum": 0x038,
    "QueueReady": 0x044,
    "QueueNotify": 0x050,
    "InterruptStatus": 0x060,
    "InterruptACK": 0x064,
    "Status": 0x070,
    "QueueDescLow": 0x080,
    "QueueDescHigh": 0x084,
    "QueueDriverLow": 0x090,
    "QueueDriverHigh": 0x094,
    "QueueDeviceLow": 0x0A0,
    "QueueDeviceHigh": 0x0A4,
    "SHMSel": 0x0AC,
    "SHMLenLow": 0x0B0,
    "SHMLenHigh": 0x0B4,
    "SHMBaseLow": 0x0B8,
    "SHMBaseHigh": 0x0BC,
    "QueueReset": 0x0C0,
    "ConfigGeneration": 0x0FC,
}

# 4.1.4.3: offset and width in the common configuration structure.
COMMON = {
    "DeviceFeaturesSel": (0x00, 4),
    "DeviceFeatures": (0x04, 4),
    "DriverFeaturesSel": (0x08, 4),
    "DriverFeatures": (0x0C, 4),
    "ConfigVector": (0x10, 2),
    "NumQueues": (0x12, 2),
    "Status": (0x14, 1),
    "ConfigGeneration": (0x15, 1),
    "QueueSel": (0x16, 2),
    "QueueNumMax": (0x18, 2),
    "QueueNum": (0x18, 2),
    "QueueVector": (0x1A, 2),
    "QueueReady": (0x1C, 2),
    "QueueNotifyOff": (0x1E, 2),
    "QueueDescLow": (0x20, 4),
    "QueueDescHigh": (0x24, 4),
    "QueueDriverLow": (0x28, 4),
    "QueueDriverHigh": (0x2C, 4),
    "QueueDeviceLow": (0x30, 4),
    "QueueDeviceHigh": (0x34, 4),
    "QueueNotifyData": (0x38, 2),
    "QueueReset": (0x3A, 2),
}


class Registers(Protocol):
    base: int
    config: int

    def read(self, register: str) -> int: ...
    def write(self, register: str, value: int) -> None: ...
    def interrupt_source(self) -> int:
        """The PLIC's input that the device's wire ends at."""


class MmioRegisters:
    def __init__(self, vm: wirt.Machine, base: int) -> None:
        self.vm, self.base, self.config = vm, base, base + 0x100

    def read(self, register: str) -> int:
        return self.vm.bus.read(self.base + MMIO[register], 4)

    def write(self, register: str, value: int) -> None:
        self.vm.bus.write(self.base + MMIO[register], 4, value)

    def interrupt_source(self) -> int:
        return 1 + (self.base - 0x1000_1000) // 0x1000


class PciFunction:
    """A virtio function on bus 0: its configuration space, with BARs placed and the function enabled."""

    def __init__(self, vm: wirt.Machine, slot: int) -> None:
        self.vm, self.slot = vm, slot
        self.bar = BAR_WINDOW + slot * 0x1_0000
        self.msix_table = self.bar + 0x8000
        self.write(0x10, 4, self.bar)
        self.write(0x14, 4, self.msix_table)
        self.write(0x04, 2, 0x0006)

    def read(self, offset: int, size: int) -> int:
        return self.vm.bus.read(ECAM + (self.slot << 15) + offset, size)

    def write(self, offset: int, size: int, value: int) -> None:
        self.vm.bus.write(ECAM + (self.slot << 15) + offset, size, value)

    def capabilities(self) -> list[tuple[int, int]]:
        """(ID, offset) in the order of the list."""
        found, at = [], self.read(0x34, 1)
        while at:
            found.append((self.read(at, 1), at))
            at = self.read(at + 1, 1)
            assert len(found) <= 48
        return found

    def structures(self) -> dict[int, int]:
        """cfg_type and place of virtio's own capabilities (4.1.4)."""
        return {self.read(at + 3, 1): at for kind, at in self.capabilities() if kind == 0x09}


def virtio_functions(vm: wirt.Machine) -> list[PciFunction]:
    slots = (slot for slot in range(32) if vm.bus.read(ECAM + (slot << 15), 2) == 0x1AF4)
    return [PciFunction(vm, slot) for slot in slots]


class PciRegisters:
    """Found by capabilities alone. Reading the ISR status clears it: what was read is remembered until it is
    acknowledged."""

    def __init__(self, vm: wirt.Machine, function: PciFunction) -> None:
        self.vm, self.function = vm, function
        self.base = function.bar
        self._isr = 0
        self._structures = function.structures()
        self.common, self.notify, self.isr, self.config = (self._place(kind) for kind in (1, 2, 3, 4))
        self.multiplier = function.read(self._structures[2] + 16, 4)

    def _place(self, kind: int) -> int:
        at = self._structures[kind]
        assert self.function.read(at + 4, 1) == 0, "BAR 0"
        return self.base + self.function.read(at + 8, 4)

    def read(self, register: str) -> int:
        if register == "InterruptStatus":
            self._isr |= self.vm.bus.read(self.isr, 1)
            return self._isr
        offset, size = COMMON[register]
        return self.vm.bus.read(self.common + offset, size)

    def write(self, register: str, value: int) -> None:
        if register == "InterruptACK":
            self._isr &= ~value
        elif register == "QueueNotify":
            index = value & 0xFFFF
            if index == value:
                self.vm.bus.write(self.notify + index * self.multiplier % 0x1000, 2, index)
            else:
                self.vm.bus.write(self.notify + index * self.multiplier % 0x1000, 4, value)
        else:
            if register == "Status" and value == 0:
                self._isr = 0
            offset, size = COMMON[register]
            self.vm.bus.write(self.common + offset, size, value & ((1 << 8 * size) - 1))

    def interrupt_source(self) -> int:
        return 32 + self.function.slot % 4


def registers_of(vm: wirt.Machine, name: str) -> Registers:
    (device,) = (device for device in vm.devices if device.name == name)
    if device.kind == "virtio-mmio":
        return MmioRegisters(vm, device.base)
    for function in virtio_functions(vm):
        (device,) = (device for device in vm.devices if device.name == name)
        if device.base == function.bar:
            return PciRegisters(vm, function)
    raise AssertionError(f"no PCI function is {name}")
