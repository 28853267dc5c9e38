"""Guest memory and the bus, from the host's side."""

from __future__ import annotations

import gc

import numpy as np
import pytest

import wirt
from support.firmware import COUNT, RAM, SPIN, words

SIZE = 16 << 20


def test_slices_by_physical_address(build):
    memory = build().memory
    assert memory.base == RAM
    assert len(memory) == SIZE
    memory[RAM + 0x1000 : RAM + 0x1004] = b"wirt"
    assert memory[RAM + 0x1000 : RAM + 0x1004] == b"wirt"
    assert memory[RAM + 0x1001] == ord("i")
    memory[RAM + 0x1001] = ord("o")
    assert memory[RAM + 0x1000 : RAM + 0x1004] == b"wort"
    assert memory[RAM:RAM] == b""
    assert len(memory[:]) == SIZE


@pytest.mark.parametrize(
    "key",
    [
        slice(0, 4),
        slice(RAM - 1, RAM + 1),
        slice(RAM, RAM + SIZE + 1),
        slice(RAM + 8, RAM + 4),
        slice(2**64 - 8, 2**64 - 1),
        RAM + SIZE,
        0,
    ],
)
def test_outside_of_memory(build, key):
    memory = build().memory
    with pytest.raises(wirt.AddressError, match="RAM"):
        memory[key]


def test_memory_keeps_its_size(build):
    memory = build().memory
    with pytest.raises(ValueError, match="4"):
        memory[RAM : RAM + 4] = b"12345"
    with pytest.raises(ValueError, match="step"):
        memory[RAM : RAM + 4 : 2]
    with pytest.raises((TypeError, ValueError)):
        memory[RAM] = 256


def test_buffer_is_the_memory_itself(build):
    vm = build()
    view = memoryview(vm.memory)
    assert (view.nbytes, view.readonly) == (SIZE, False)
    array = np.frombuffer(vm.memory, dtype=np.uint32)
    array[0x400] = 0x12345678
    assert vm.memory[RAM + 0x1000 : RAM + 0x1004] == b"\x78\x56\x34\x12"
    assert view[0x1000] == 0x78


def test_buffer_keeps_the_machine_alive():
    vm = wirt.Machine(firmware=SPIN, memory="16M")
    vm.memory[RAM + 0x1000] = 7
    view = memoryview(vm.memory)
    vm.start()
    vm.close()
    del vm
    gc.collect()
    assert view[0x1000] == 7


@pytest.mark.parametrize("through", ["slice", "buffer"])
def test_code_written_by_the_host_is_executed(build, through):
    vm = build(COUNT)
    vm.step(100)
    # addi a0,a0,1 becomes addi a0,a0,2
    code = words(0x0025_0513)
    if through == "slice":
        vm.memory[RAM : RAM + 4] = code
    else:
        memoryview(vm.memory)[0:4] = code
    before = vm.harts[0].x["a0"]
    vm.step(100)
    assert vm.harts[0].x["a0"] == before + 100


def test_bus(build):
    vm = build()
    vm.bus.write(RAM + 8, 8, 0x1122334455667788)
    assert vm.bus.read(RAM + 8, 4) == 0x55667788
    assert vm.bus.read(RAM + 12, 1) == 0x44
    # The UART's line status: transmitter empty.
    assert vm.bus.read(0x1000_0005, 1) & 0x60 == 0x60


def test_bus_where_nothing_is(build):
    bus = build().bus
    with pytest.raises(wirt.AddressError, match="0x1234"):
        bus.read(0x1234, 4)
    with pytest.raises(wirt.AddressError):
        bus.write(0x6000_0000_0000_0000, 4, 0)
    with pytest.raises(wirt.AddressError, match="aligned"):
        bus.read(RAM + 1, 4)
    with pytest.raises(ValueError, match="wide"):
        bus.read(RAM, 3)
