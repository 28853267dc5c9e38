"""The PLIC against a model of its specification (RISC-V PLIC 1.0.0), driven through two real sources."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import wirt

BASE = 0xC00_0000
UART, RTC = 10, 11  # their lines are easy to move
HARTS = 2
CONTEXTS = 2 * HARTS
MEIP, SEIP = 1 << 11, 1 << 9


class Plic:
    """The registers of a machine that never runs."""

    def __init__(self, vm: wirt.Machine) -> None:
        self.vm = vm

    def read(self, offset: int) -> int:
        return self.vm.bus.read(BASE + offset, 4)

    def write(self, offset: int, value: int) -> None:
        self.vm.bus.write(BASE + offset, 4, value)

    def priority(self, source: int, value: int) -> None:
        self.write(4 * source, value)

    def pending(self) -> int:
        return sum(self.read(0x1000 + 4 * word) << 32 * word for word in range(3))

    def enable(self, context: int, sources: int) -> None:
        for word in range(3):
            self.write(0x2000 + 0x80 * context + 4 * word, sources >> 32 * word & 0xFFFF_FFFF)

    def threshold(self, context: int, value: int) -> None:
        self.write(0x20_0000 + 0x1000 * context, value)

    def claim(self, context: int) -> int:
        return self.read(0x20_0004 + 0x1000 * context)

    def complete(self, context: int, source: int) -> None:
        self.write(0x20_0004 + 0x1000 * context, source)

    def output(self, context: int) -> bool:
        mip = self.vm.harts[context // 2].csr["mip"]
        return bool(mip & (SEIP if context % 2 else MEIP))

    def level(self, source: int, high: bool) -> None:
        if source == UART:
            self.vm.bus.write(0x1000_0001, 1, 0)  # IER
            if high:
                self.vm.bus.write(0x1000_0001, 1, 2)  # THR is empty
        elif high:
            self.vm.bus.write(0x10_1010, 4, 1)  # IRQ_ENABLED
            self.vm.bus.write(0x10_100C, 4, 0)  # ALARM_HIGH: long past
            self.vm.bus.write(0x10_1008, 4, 0)  # ALARM_LOW
        else:
            self.vm.bus.write(0x10_101C, 4, 1)  # CLEAR_INTERRUPT


@pytest.fixture
def plic():
    with wirt.Machine(memory="16M", cpus=HARTS) as vm:
        yield Plic(vm)


def test_claim_and_complete(plic: Plic):
    plic.priority(UART, 1)
    plic.enable(1, 1 << UART)
    assert not plic.output(1)
    plic.level(UART, True)
    assert [plic.output(context) for context in range(CONTEXTS)] == [False, True, False, False]
    assert plic.claim(0) == 0
    assert plic.claim(1) == UART
    assert not plic.output(1)
    assert plic.claim(1) == 0
    # Still asserted: completing forwards it again (1.2).
    plic.complete(1, UART)
    assert plic.claim(1) == UART
    plic.level(UART, False)
    plic.complete(1, UART)
    assert plic.claim(1) == 0


def test_a_request_is_not_retracted(plic: Plic):
    plic.priority(UART, 1)
    plic.enable(0, 1 << UART)
    plic.level(UART, True)
    plic.level(UART, False)
    assert plic.output(0)
    assert plic.claim(0) == UART


def test_ties_go_to_the_lowest_source(plic: Plic):
    plic.enable(0, 1 << UART | 1 << RTC)
    for source in (RTC, UART):
        plic.priority(source, 3)
        plic.level(source, True)
    assert plic.claim(0) == UART
    assert plic.claim(0) == RTC


def test_priority_decides(plic: Plic):
    plic.enable(0, 1 << UART | 1 << RTC)
    plic.priority(UART, 3)
    plic.priority(RTC, 4)
    for source in (RTC, UART):
        plic.level(source, True)
    assert plic.claim(0) == RTC


def test_threshold_masks_the_notification_and_not_the_claim(plic: Plic):
    plic.enable(0, 1 << UART)
    plic.priority(UART, 3)
    plic.level(UART, True)
    plic.threshold(0, 3)
    assert not plic.output(0)
    plic.threshold(0, 2)
    assert plic.output(0)
    plic.threshold(0, 7)
    assert plic.claim(0) == UART


def test_completion_of_a_disabled_source_is_ignored(plic: Plic):
    plic.enable(0, 1 << UART)
    plic.priority(UART, 1)
    plic.level(UART, True)
    assert plic.claim(0) == UART
    plic.enable(0, 0)
    plic.complete(0, UART)
    plic.enable(0, 1 << UART)
    assert plic.claim(0) == 0
    plic.complete(0, UART)
    assert plic.claim(0) == UART


def test_registers_are_warl(plic: Plic):
    for source in (1, 95):
        plic.priority(source, 0xFFFF_FFFF)
        assert plic.read(4 * source) == 7
    for absent in (0, 96, 1023):
        plic.priority(absent, 7)
        assert plic.read(4 * absent) == 0
    plic.threshold(3, 0xFFFF_FFFF)
    assert plic.read(0x20_3000) == 7
    plic.enable(3, (1 << 96) - 1)
    assert [plic.read(0x2180 + 4 * word) for word in range(4)] == [0xFFFF_FFFE, 0xFFFF_FFFF, 0xFFFF_FFFF, 0]
    plic.write(0x1000, 0xFFFF_FFFF)
    assert plic.pending() == 0


@pytest.mark.parametrize("offset", [0xFFC, 0x100C, 0x200C, 0x2200, 0x20_0008, 0x20_4000, 0x20_4004, 0x5F_FFFC])
def test_holes_read_as_zero(plic: Plic, offset: int):
    plic.write(offset, 0xFFFF_FFFF)
    assert plic.read(offset) == 0


@pytest.mark.parametrize("size", [1, 2, 8])
def test_registers_are_32_bits_wide(plic: Plic, size: int):
    plic.vm.bus.write(BASE + 4 * 10 - 4 * 10 % size, size, 1)
    assert plic.vm.bus.read(BASE + 8, size) == 0
    assert plic.read(4 * 10) == 0


@pytest.mark.parametrize("source", [0, 1, 95, 96, 1023, 0xFFFF_FFFF])
def test_completing_what_was_not_claimed_is_harmless(plic: Plic, source: int):
    plic.enable(0, (1 << 96) - 1)
    plic.complete(0, source)
    assert plic.claim(0) == 0


@dataclass
class Model:
    """The specification in a few lines, for sources UART and RTC."""

    level: set[int] = field(default_factory=set)
    pending: set[int] = field(default_factory=set)
    claimed: set[int] = field(default_factory=set)
    priority: dict[int, int] = field(default_factory=lambda: {UART: 0, RTC: 0})
    enabled: list[set[int]] = field(default_factory=lambda: [set() for _ in range(CONTEXTS)])
    threshold: list[int] = field(default_factory=lambda: [0] * CONTEXTS)

    def forward(self) -> None:
        self.pending |= self.level - self.claimed

    def best(self, context: int, above: int) -> int:
        ready = [source for source in self.pending & self.enabled[context] if self.priority[source] > above]
        return min(ready, key=lambda source: (-self.priority[source], source), default=0)

    def claim(self, context: int) -> int:
        source = self.best(context, 0)
        if source:
            self.pending.remove(source)
            self.claimed.add(source)
        return source

    def complete(self, context: int, source: int) -> None:
        if source in self.enabled[context]:
            self.claimed.discard(source)
            self.forward()


sources = st.sampled_from([UART, RTC])
contexts = st.integers(0, CONTEXTS - 1)
operation = st.one_of(
    st.tuples(st.just("level"), sources, st.booleans()),
    st.tuples(st.just("priority"), sources, st.integers(0, 7)),
    st.tuples(st.just("enable"), contexts, st.sets(sources)),
    st.tuples(st.just("threshold"), contexts, st.integers(0, 7)),
    st.tuples(st.just("claim"), contexts, st.none()),
    st.tuples(st.just("complete"), contexts, sources),
)


@settings(max_examples=100, deadline=None)
@given(operations=st.lists(operation, max_size=60))
def test_agrees_with_the_model(operations):
    with wirt.Machine(memory="16M", cpus=HARTS) as vm:
        plic, model = Plic(vm), Model()
        for what, first, second in operations:
            match what:
                case "level":
                    plic.level(first, second)
                    if second:
                        model.level.add(first)
                    else:
                        model.level.discard(first)
                    model.forward()
                case "priority":
                    plic.priority(first, second)
                    model.priority[first] = second
                case "enable":
                    plic.enable(first, sum(1 << source for source in second))
                    model.enabled[first] = second
                case "threshold":
                    plic.threshold(first, second)
                    model.threshold[first] = second
                case "claim":
                    assert plic.claim(first) == model.claim(first)
                case "complete":
                    plic.complete(first, second)
                    model.complete(first, second)
            assert plic.pending() == sum(1 << source for source in model.pending)
            for context in range(CONTEXTS):
                assert plic.output(context) == bool(model.best(context, model.threshold[context]))
