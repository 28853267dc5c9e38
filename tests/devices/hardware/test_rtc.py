"""The Goldfish RTC, as Linux's drivers/rtc/rtc-goldfish.c uses it."""

from __future__ import annotations

import time

import pytest

import wirt

BASE = 0x10_1000
TIME_LOW, TIME_HIGH, ALARM_LOW, ALARM_HIGH = 0x00, 0x04, 0x08, 0x0C
IRQ_ENABLED, CLEAR_ALARM, ALARM_STATUS, CLEAR_INTERRUPT = 0x10, 0x14, 0x18, 0x1C
SOURCE = 11
DAY_NS = 86_400 * 10**9
JUMP_TO_ITSELF = bytes.fromhex("6f000000")


class Rtc:
    """The registers, in the order in which the driver touches them."""

    def __init__(self, vm: wirt.Machine) -> None:
        self.vm = vm

    def read(self, offset: int) -> int:
        return self.vm.bus.read(BASE + offset, 4)

    def write(self, offset: int, value: int) -> None:
        self.vm.bus.write(BASE + offset, 4, value & 0xFFFF_FFFF)

    def time(self) -> int:
        low = self.read(TIME_LOW)
        return self.read(TIME_HIGH) << 32 | low

    def set_time(self, ns: int) -> None:
        self.write(TIME_HIGH, ns >> 32)
        self.write(TIME_LOW, ns)

    def set_alarm(self, ns: int) -> None:
        self.write(ALARM_HIGH, ns >> 32)
        self.write(ALARM_LOW, ns)
        self.write(IRQ_ENABLED, 1)

    def requested(self) -> bool:
        """Whether the interrupt controller has seen the line rise."""
        return bool(self.vm.bus.read(0xC00_1000, 4) >> SOURCE & 1)


@pytest.fixture
def rtc():
    # Never started, so that its clock stands still.
    with wirt.Machine(memory="16M") as vm:
        yield Rtc(vm)


def test_shows_the_hosts_day(rtc: Rtc):
    assert abs(rtc.time() - time.time_ns()) < DAY_NS


def test_time_can_be_set(rtc: Rtc):
    for ns in (0, 1, 0x1234_5678_9ABC_DEF0, (1 << 64) - 1):
        rtc.set_time(ns)
        assert rtc.time() == ns


def test_reading_low_latches_high(rtc: Rtc):
    rtc.set_time(0x1_0000_0000)
    rtc.read(TIME_LOW)
    rtc.set_time(0x2_0000_0000)
    assert rtc.read(TIME_HIGH) == 1


def test_alarm_in_the_past_fires_at_once(rtc: Rtc):
    rtc.set_alarm(rtc.time() - 1)
    assert rtc.read(ALARM_STATUS) == 0
    assert rtc.requested()


def test_alarm_in_the_future_waits_and_can_be_cleared(rtc: Rtc):
    now = rtc.time()
    rtc.set_alarm(now + DAY_NS)
    assert rtc.read(ALARM_STATUS) == 1
    assert rtc.read(ALARM_HIGH) << 32 | rtc.read(ALARM_LOW) == now + DAY_NS
    rtc.write(CLEAR_ALARM, 1)
    assert rtc.read(ALARM_STATUS) == 0
    rtc.set_time(now + 2 * DAY_NS)
    assert not rtc.requested()


def test_setting_the_time_past_the_alarm_fires_it(rtc: Rtc):
    now = rtc.time()
    rtc.set_alarm(now + DAY_NS)
    rtc.set_time(now + 2 * DAY_NS)
    assert rtc.read(ALARM_STATUS) == 0
    assert rtc.requested()


def test_interrupt_needs_to_be_enabled(rtc: Rtc):
    rtc.set_alarm(rtc.time() + DAY_NS)
    rtc.write(IRQ_ENABLED, 0)
    rtc.set_time(rtc.time() + 2 * DAY_NS)
    assert not rtc.requested()
    rtc.write(IRQ_ENABLED, 1)
    assert rtc.requested()


def test_clearing_the_interrupt_lowers_the_line(rtc: Rtc):
    claim = 0xC20_0004
    rtc.vm.bus.write(0xC00_0000 + 4 * SOURCE, 4, 1)
    rtc.vm.bus.write(0xC00_2000, 4, 1 << SOURCE)
    rtc.set_alarm(0)
    assert rtc.vm.bus.read(claim, 4) == SOURCE
    rtc.write(CLEAR_INTERRUPT, 1)
    rtc.vm.bus.write(claim, 4, SOURCE)
    assert not rtc.requested()


@pytest.mark.parametrize(("offset", "size"), [(TIME_LOW, 8), (TIME_LOW, 1), (0x20, 4), (0xFFC, 4)])
def test_holes_and_other_widths_have_no_effect(rtc: Rtc, offset: int, size: int):
    before = rtc.time()
    rtc.vm.bus.write(BASE + offset, size, 1)
    assert rtc.vm.bus.read(BASE + offset, size) == 0
    assert rtc.time() == before


def test_alarm_fires_while_the_guest_runs():
    with wirt.Machine(firmware=JUMP_TO_ITSELF, memory="16M", deterministic=True) as vm:
        rtc = Rtc(vm)
        begin = rtc.time()
        rtc.set_alarm(begin + 10_000)
        for _ in range(1000):
            if rtc.requested():
                break
            vm.run_for(1000)
        assert rtc.requested()
        assert rtc.time() >= begin + 10_000


def test_deterministic_machines_agree_on_the_day():
    with wirt.Machine(memory="16M", deterministic=True) as one, wirt.Machine(memory="16M", deterministic=True) as two:
        assert Rtc(one).time() == Rtc(two).time()
