"""The monitor's SBI PMU extension (SBI 2.0, chapter 11) on harts with Sscofpmf, and what firmware is told of them."""

from __future__ import annotations

import struct

import pytest

import wirt
from support.assembler import encode
from support.firmware import SPIN
from support.lab import NOP
from support.supervisor import CODE, Supervisor, kernel
from wirt.guest_image import guest_image

PMU = 0x504D55
NUM_COUNTERS, GET_INFO, CONFIG_MATCHING, START, STOP = range(5)
SKIP_MATCH, CLEAR_VALUE, AUTO_START, SET_UINH, SET_SINH = 1, 2, 4, 32, 64
CYCLES, INSTRUCTIONS, RAW, EXCEPTIONS = 1, 2, 2 << 16, 0x100
NOT_SUPPORTED, INVALID, ALREADY_STARTED, ALREADY_STOPPED = -2, -3, -7, -8
LCOFI = 13


class Counters(Supervisor):
    def call_pmu(self, function: int, *arguments: int) -> tuple[int, int]:
        return self.call(PMU, function, *arguments)


@pytest.fixture
def supervisor():
    with wirt.Machine(kernel(), memory="64M", isa="rv64gc_zicntr_sscofpmf_sstc_svadu", deterministic=True) as vm:
        yield Counters(vm)


def test_the_counters_there_are(supervisor: Counters):
    assert supervisor.call_pmu(NUM_COUNTERS) == (0, 7)
    for counter in (0, 2, 3, 6):
        assert supervisor.call_pmu(GET_INFO, counter) == (0, 0xC00 + counter | 63 << 12)
    assert supervisor.call_pmu(GET_INFO, 1)[0] == INVALID
    assert supervisor.call_pmu(GET_INFO, 7)[0] == INVALID


def test_a_counter_is_configured_started_read_and_stopped(supervisor: Counters):
    assert supervisor.call_pmu(CONFIG_MATCHING, 0, 0x7D, CLEAR_VALUE | SET_UINH, INSTRUCTIONS) == (0, 3)
    assert supervisor.csr["mhpmevent3"] == INSTRUCTIONS | 1 << 60
    supervisor.execute(NOP, NOP)
    assert supervisor.csr["mhpmcounter3"] == 0
    assert supervisor.call_pmu(START, 3, 1, 1, 1000) == (0, 0)
    assert supervisor.call_pmu(START, 3, 1)[0] == ALREADY_STARTED
    supervisor.execute(encode("csrrs", 5, 0, csr="hpmcounter3"), NOP, encode("csrrs", 6, 0, csr="hpmcounter3"))
    assert supervisor.hart.x[6] - supervisor.hart.x[5] == 2
    assert supervisor.hart.x[5] >= 1000
    assert supervisor.call_pmu(STOP, 3, 1) == (0, 0)
    assert supervisor.call_pmu(STOP, 3, 1)[0] == ALREADY_STOPPED
    value = supervisor.csr["mhpmcounter3"]
    supervisor.execute(NOP, NOP)
    assert supervisor.csr["mhpmcounter3"] == value
    # Its event stays until it is reset.
    assert supervisor.call_pmu(CONFIG_MATCHING, 0, 1 << 3, 0, CYCLES)[0] == NOT_SUPPORTED
    supervisor.call_pmu(STOP, 3, 1, 1)
    assert supervisor.call_pmu(CONFIG_MATCHING, 0, 1 << 3, AUTO_START, RAW, EXCEPTIONS) == (0, 3)
    assert supervisor.call_pmu(CONFIG_MATCHING, 3, 1, SKIP_MATCH) == (0, 3)
    assert supervisor.csr["mhpmevent3"] == EXCEPTIONS


def test_when_all_are_taken_the_fixed_ones_are_left(supervisor: Counters):
    taken = [supervisor.call_pmu(CONFIG_MATCHING, 0, 0x7D, 0, CYCLES)[1] for _ in range(5)]
    assert taken == [3, 4, 5, 6, 0]
    assert supervisor.call_pmu(CONFIG_MATCHING, 0, 0x7D, 0, INSTRUCTIONS) == (0, 2)
    assert supervisor.call_pmu(CONFIG_MATCHING, 0, 0x7D, 0, RAW, EXCEPTIONS)[0] == NOT_SUPPORTED
    assert supervisor.call_pmu(CONFIG_MATCHING, 0, 0x7D, 0, 3)[0] == NOT_SUPPORTED  # cache references
    assert supervisor.call_pmu(START, 0, 0x2)[0] == INVALID


def test_an_overflow_reaches_the_supervisor(supervisor: Counters):
    supervisor.call_pmu(CONFIG_MATCHING, 0, 1 << 3, 0, INSTRUCTIONS)
    supervisor.call_pmu(START, 3, 1, 1, (1 << 64) - 40)
    supervisor.csr["sie"] = 1 << LCOFI
    supervisor.csr["stvec"] = CODE + 0x100
    supervisor.csr["sstatus"] = supervisor.csr["sstatus"] | 2
    loop = [encode("jal", 0, imm=0)] * 65
    supervisor.vm.memory[CODE : CODE + 260] = struct.pack("<65I", *loop)
    supervisor.hart.pc = CODE
    supervisor.vm.step(100)
    assert supervisor.csr["scause"] == 1 << 63 | LCOFI
    assert supervisor.hart.pc == CODE + 0x100


def test_firmware_finds_the_events_in_the_device_tree():
    def cells(*values: int) -> bytes:
        return struct.pack(f">{len(values)}I", *values)

    with wirt.Machine(firmware=SPIN, memory="16M", isa="rv64gc_sscofpmf", deterministic=True) as vm:
        assert cells(1, 0, 1, 2, 0, 2) in vm.dtb
        assert cells(1, 1, 0x79, 2, 2, 0x7C) in vm.dtb
        assert cells(0x10019) not in vm.dtb
    with wirt.Machine(firmware=SPIN, memory="16M", isa="rv64gc_sscofpmf") as vm:
        assert cells(1, 1, 0x79, 2, 2, 0x7C, 0x10019, 0x10019, 0x78) in vm.dtb
    with wirt.Machine(guest_image(), memory="64M", isa="rv64gc_sscofpmf") as vm:
        assert b"riscv,event-to-mhpmcounters" not in vm.dtb


def test_the_monitor_lets_s_mode_draw_entropy():
    with wirt.Machine(kernel(), memory="64M", isa="rv64gc_zkr_zicntr_smstateen", deterministic=True) as vm:
        supervisor = Supervisor(vm)
        supervisor.execute(encode("csrrw", 5, 0, csr="seed"), encode("csrrs", 6, 0, csr="senvcfg"))
        assert supervisor.hart.x[5] >> 30 == 2
