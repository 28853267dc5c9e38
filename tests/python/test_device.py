"""Devices written in Python."""

from __future__ import annotations

import gc
import weakref

import pytest

import wirt
from support.firmware import load_from, store_to

BASE = 0x5000_0000


class Recorder(wirt.Device):
    name = "recorder"

    def __init__(self, value=0):
        self.value = value
        self.accesses = []

    def read(self, offset, size):
        self.accesses.append(("read", offset, size))
        return self.value

    def write(self, offset, size, value):
        self.accesses.append(("write", offset, size, value))


class Broken(wirt.Device):
    def read(self, offset, size):
        raise RuntimeError("the device is on fire")

    def write(self, offset, size, value):
        raise RuntimeError("the device is on fire")


def test_reads_and_writes(build):
    vm = build(store_to(BASE, 0x7F))
    device = Recorder()
    vm.map_device(BASE, 0x1000, device)
    vm.step(3)
    assert device.accesses == [("write", 0, 4, 0x7F)]
    device.value = -1
    assert vm.bus.read(BASE + 8, 2) == 0xFFFF
    assert vm.bus.read(BASE + 8, 8) == 2**64 - 1
    assert device.accesses[1:] == [("read", 8, 2), ("read", 8, 8)]
    assert [(e.device, e.reads, e.writes) for e in vm.stats().exits if e.device == "recorder"] == [("recorder", 2, 1)]


def test_value_reaches_the_guest(build):
    vm = build(load_from(BASE))
    vm.map_device(BASE, 0x1000, Recorder(0xDEAD_BEEF_8000_0001))
    vm.step(2)
    assert vm.harts[0].x["a0"] == 0xFFFF_FFFF_8000_0001


def test_exception_reaches_wait(build):
    vm = build(load_from(BASE))
    vm.map_device(BASE, 0x1000, Broken())
    vm.start()
    with pytest.raises(RuntimeError, match="on fire"):
        vm.wait(10)
    assert (vm.state, vm.stop_reason) == ("paused", "host_error")
    # And every later question has the same answer.
    with pytest.raises(RuntimeError, match="on fire"):
        vm.wait(0)
    with pytest.raises(RuntimeError, match="on fire"):
        vm.pause()


def test_exception_reaches_step(build):
    vm = build(load_from(BASE))
    vm.map_device(BASE, 0x1000, Broken())
    with pytest.raises(RuntimeError, match="on fire"):
        vm.step(2)


def test_exception_reaches_the_bus(build):
    vm = build()
    vm.map_device(BASE, 0x1000, Broken())
    with pytest.raises(RuntimeError, match="on fire"):
        vm.bus.write(BASE, 4, 0)


def test_exception_reaches_the_end_of_with():
    vm = wirt.Machine(firmware=load_from(BASE), memory="16M")
    vm.map_device(BASE, 0x1000, Broken())
    with pytest.raises(RuntimeError, match="on fire"), vm:
        vm.start()
        while vm.state == "running":
            pass
    assert vm.state == "closed"


def test_another_error_in_with_is_not_hidden():
    vm = wirt.Machine(firmware=load_from(BASE), memory="16M")
    vm.map_device(BASE, 0x1000, Broken())
    with pytest.raises(ZeroDivisionError), vm:
        vm.start()
        _ = 1 / 0


def test_what_is_not_a_number(build):
    vm = build(load_from(BASE))
    vm.map_device(BASE, 0x1000, Recorder("seven"))
    with pytest.raises(TypeError):
        vm.step(2)


def test_overlap_is_refused(build):
    vm = build()
    vm.map_device(BASE, 0x1000, Recorder())
    for base in (BASE, BASE + 0xFF8, 0x1000_0000, 0x8000_0000):
        with pytest.raises(wirt.ConfigError):
            vm.map_device(base, 0x1000, Recorder())


def test_device_after_the_start_is_refused(build):
    vm = build()
    vm.start()
    with pytest.raises(wirt.WirtError):
        vm.map_device(BASE, 0x1000, Recorder())


def test_device_that_knows_its_machine_does_not_leak():
    vm = wirt.Machine(firmware=load_from(BASE), memory="16M")
    device = Recorder()
    device.vm = vm
    vm.map_device(BASE, 0x1000, device)
    vm.step(2)
    gone = weakref.ref(device)
    vm.close()
    del vm, device
    gc.collect()
    assert gone() is None


def test_interrupt_line(build):
    vm = build()
    line = vm.interrupt_line(40)
    assert line.source == 40
    line.set(True)
    # The PLIC's pending bits: source 40 is bit 8 of the second word.
    assert vm.bus.read(0x0C00_1004, 4) & 1 << 8
    with pytest.raises(wirt.WirtError):
        vm.interrupt_line(1)
