"""The SBI's steal-time accounting (SBI 2.0, chapter 16)."""

from __future__ import annotations

import contextlib
import os
import struct
import time
from pathlib import Path

import pytest

import wirt
from support.assembler import RAM_BASE, Assembler
from support.supervisor import Supervisor, kernel

BASE, PROBE = 0x10, 3
STA, SET_MEMORY = 0x535441, 0
NONE = (1 << 64) - 1
INVALID_PARAM, INVALID_ADDRESS, NOT_SUPPORTED = -3, -5, -2
SHARED = RAM_BASE + 0x10_0000


@pytest.fixture
def supervisor():
    with wirt.Machine(kernel(), memory="16M", deterministic=True) as vm:
        yield Supervisor(vm)


def shared(vm: wirt.Machine) -> bytes:
    return vm.memory[SHARED : SHARED + 64]


def test_it_is_there(supervisor: Supervisor):
    assert supervisor.call(BASE, PROBE, STA) == (0, 1)
    assert supervisor.call(STA, 1) == (NOT_SUPPORTED, 0)


def test_the_memory_is_cleared(supervisor: Supervisor):
    supervisor.vm.memory[SHARED - 8 : SHARED + 72] = b"\xff" * 80
    assert supervisor.call(STA, SET_MEMORY, SHARED) == (0, 0)
    assert supervisor.vm.memory[SHARED - 8 : SHARED + 72] == b"\xff" * 8 + bytes(64) + b"\xff" * 8
    assert supervisor.call(STA, SET_MEMORY, NONE, NONE) == (0, 0)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ((SHARED, 0, 1), INVALID_PARAM),
        ((SHARED + 32,), INVALID_PARAM),
        ((SHARED, 1), INVALID_ADDRESS),
        ((SHARED, NONE), INVALID_ADDRESS),
        ((NONE - 63, NONE), INVALID_ADDRESS),
        ((RAM_BASE - 64,), INVALID_ADDRESS),
        ((RAM_BASE + (16 << 20),), INVALID_ADDRESS),
        ((0x1000_0000,), INVALID_ADDRESS),  # a device
    ],
)
def test_a_bad_place_is_refused_and_the_old_one_stays(supervisor: Supervisor, arguments: tuple[int, ...], error: int):
    assert supervisor.call(STA, SET_MEMORY, SHARED) == (0, 0)
    supervisor.vm.memory[SHARED : SHARED + 64] = b"\xff" * 64
    assert supervisor.call(STA, SET_MEMORY, *arguments) == (error, 0)
    assert shared(supervisor.vm) == b"\xff" * 64


def test_a_snapshot_goes_on_with_it(supervisor: Supervisor, tmp_path: Path):
    vm = supervisor.vm
    before = vm.state_hash()
    assert supervisor.call(STA, SET_MEMORY, SHARED) == (0, 0)
    assert vm.state_hash() != before
    vm.snapshot(tmp_path / "snapshot")
    with wirt.Machine.restore(tmp_path / "snapshot") as restored:
        assert restored.state_hash() == vm.state_hash()


def test_of_a_deterministic_machine_nothing_is_stolen(supervisor: Supervisor):
    assert supervisor.call(STA, SET_MEMORY, SHARED) == (0, 0)
    supervisor.vm.run_for(20_000_000)
    assert shared(supervisor.vm) == bytes(64)


def test_who_waits_for_a_processor_of_the_host_is_told_so():
    program = Assembler()
    for register, value in ((10, SHARED), (11, 0), (12, 0), (16, SET_MEMORY), (17, STA)):
        program.li(register, value)
    program.op("ecall")
    program.label("spin")
    program.jump("spin")
    # More harts than the host has processors.
    machines = [wirt.Machine(program.elf(), memory="16M") for _ in range(2 * (os.cpu_count() or 1))]
    with contextlib.ExitStack() as stack:
        for vm in machines:
            stack.enter_context(vm).start()
        sequence = stolen = 0
        while stolen == 0:
            time.sleep(0.05)
            for vm in machines:
                vm.pause()
                sequence, _, stolen = struct.unpack_from("<IIQ", shared(vm))
                vm.resume()
                if stolen:
                    break
        assert sequence > 0
        assert sequence % 2 == 0
