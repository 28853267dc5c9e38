"""The APLIC against a model of its specification (AIA 1.0, chapter 4), in both domains and both delivery modes."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import wirt
from support.firmware import SPIN

BASES = {"machine": 0xC00_0000, "supervisor": 0xD00_0000}
IMSICS = {"machine": 0x2400_0000, "supervisor": 0x2800_0000}
EXTERNAL = {"machine": 1 << 11, "supervisor": 1 << 9}
HARTS = 2
SIZE = 0x8000

IE, DM = 1 << 8, 1 << 2
DELEGATE = 1 << 10
INACTIVE, DETACHED, EDGE1, EDGE0, LEVEL1, LEVEL0 = 0, 1, 4, 5, 6, 7
MODES = (INACTIVE, DETACHED, EDGE1, EDGE0, LEVEL1, LEVEL0)
# Wires that no device of the board drives, across a word of the bit arrays.
A, B, C = 40, 63, 64
SOURCES = (A, B, C)


class Domain:
    """One domain's registers, and what its harts see of it."""

    def __init__(self, vm: wirt.Machine, level: str) -> None:
        self.vm, self.level, self.base = vm, level, BASES[level]
        self.wires = {source: vm.interrupt_line(source) for source in SOURCES}

    def read(self, offset: int, size: int = 4) -> int:
        return self.vm.bus.read(self.base + offset, size)

    def write(self, offset: int, value: int, size: int = 4) -> None:
        self.vm.bus.write(self.base + offset, size, value)

    def config(self, source: int, mode: int) -> None:
        self.write(4 * source, mode)

    def target(self, source: int, hart: int, low: int) -> None:
        self.write(0x3000 + 4 * source, hart << 18 | low)

    def bits(self, array: int) -> set[int]:
        return {32 * word + bit for word in range(32) for bit in range(32) if self.read(array + 4 * word) >> bit & 1}

    def pending(self) -> set[int]:
        return self.bits(0x1C00)

    def rectified(self) -> set[int]:
        return self.bits(0x1D00)

    def enabled(self) -> set[int]:
        return self.bits(0x1E00)

    def topi(self, hart: int) -> int:
        return self.read(0x4018 + 32 * hart)

    def claim(self, hart: int) -> int:
        return self.read(0x401C + 32 * hart)

    def idc(self, hart: int, register: int, value: int) -> None:
        self.write(0x4000 + 32 * hart + register, value)

    def output(self, hart: int) -> bool:
        return bool(self.vm.harts[hart].csr["mip"] & EXTERNAL[self.level])

    def messages(self) -> set[tuple[int, int]]:
        """(hart, identity) of what has come to the interrupt files since the last call."""
        came = set()
        for hart in range(HARTS):
            csr = self.vm.harts[hart].csr
            select, window = ("miselect", "mireg") if self.level == "machine" else ("siselect", "sireg")
            for word in range(4):
                csr[select] = 0x80 + 2 * word
                pending = csr[window]
                csr[window] = 0
                came |= {(hart, 64 * word + bit) for bit in range(64) if pending >> bit & 1}
        return came

    def direct(self) -> None:
        """Delivery to all harts, every source at priority 1 for hart 0 and active as a level."""
        self.write(0, IE)
        for hart in range(HARTS):
            self.idc(hart, 0, 1)
        for source in SOURCES:
            self.config(source, LEVEL1)
            self.target(source, 0, 1)
            self.write(0x1EDC, source)


def build(interrupts: str, level: str) -> wirt.Machine:
    # Firmware finds the machine level as it is after reset; the monitor hands a kernel the supervisor level.
    firmware = SPIN if level == "machine" else None
    return wirt.Machine(firmware=firmware, memory="16M", cpus=HARTS, interrupts=interrupts)


@pytest.fixture(params=["machine", "supervisor"])
def level(request):
    return request.param


@pytest.fixture
def domain(level: str):
    with build("aplic", level) as vm:
        yield Domain(vm, level)


def program_addresses(vm: wirt.Machine) -> None:
    """What OpenSBI writes: files one page apart at both levels, one bit of hart index."""
    root = Domain(vm, "machine")
    for offset, value in ((0x1BC0, 0x24000), (0x1BC4, 1 << 12), (0x1BC8, 0x28000), (0x1BCC, 0)):
        root.write(offset, value)


@pytest.fixture
def sender(level: str):
    """A domain in MSI mode."""
    with build("aia", level) as vm:
        if level == "machine":
            program_addresses(vm)
        domain = Domain(vm, level)
        domain.write(0, IE | DM)
        yield domain


# --- direct delivery ---


def test_a_level_is_delivered_as_long_as_it_lasts(domain: Domain):
    domain.direct()
    assert not domain.output(0)
    domain.wires[A].set(True)
    assert [domain.output(hart) for hart in range(HARTS)] == [True, False]
    # 4.7: a claim does not clear it.
    assert domain.claim(0) == A << 16 | 1
    assert domain.output(0)
    domain.wires[A].set(False)
    assert not domain.output(0)
    assert domain.claim(0) == 0


def test_an_edge_is_delivered_once(domain: Domain):
    domain.direct()
    domain.config(A, EDGE1)
    domain.wires[A].set(True)
    domain.wires[A].set(False)
    assert domain.claim(0) == A << 16 | 1
    assert not domain.output(0)
    domain.config(A, EDGE0)
    domain.wires[A].set(True)
    assert not domain.output(0)
    domain.wires[A].set(False)
    assert domain.output(0)


def test_the_lowest_priority_number_comes_first_and_then_the_lowest_source(domain: Domain):
    domain.direct()
    for source, priority in ((A, 9), (B, 2), (C, 2)):
        domain.config(source, DETACHED)
        domain.target(source, 0, priority)
        domain.write(0x1CDC, source)
    assert [domain.claim(0) for _ in range(4)] == [B << 16 | 2, C << 16 | 2, A << 16 | 9, 0]


def test_a_threshold_hides_its_own_number_and_those_above(domain: Domain):
    domain.direct()
    domain.target(A, 0, 5)
    domain.wires[A].set(True)
    for threshold, seen in ((0, True), (4, False), (5, False), (6, True), (255, True)):
        domain.idc(0, 8, threshold)
        assert (domain.output(0), domain.topi(0) != 0) == (seen, seen)


def test_delivery_needs_ie_and_idelivery_and_topi_does_not(domain: Domain):
    domain.direct()
    domain.wires[A].set(True)
    domain.write(0, 0)
    assert not domain.output(0)
    assert domain.topi(0) == A << 16 | 1
    domain.write(0, IE)
    domain.idc(0, 0, 0)
    assert not domain.output(0)
    assert domain.topi(0) == A << 16 | 1


def test_a_forced_interrupt_is_spurious_and_ends_with_its_claim(domain: Domain):
    domain.direct()
    domain.idc(1, 4, 1)
    assert domain.output(1)
    assert domain.topi(1) == 0
    assert domain.claim(1) == 0
    assert not domain.output(1)
    assert domain.read(0x4024) == 0


def test_a_target_that_is_no_hart_gets_nothing(domain: Domain):
    domain.direct()
    domain.target(A, 0x3FFF, 1)
    domain.wires[A].set(True)
    assert not any(domain.output(hart) or domain.topi(hart) for hart in range(HARTS))
    assert domain.read(0x3000 + 4 * A) == 0x3FFF << 18 | 1


# --- registers ---


def test_domaincfg(level: str):
    for interrupts, writable in (("aplic", IE), ("aia", IE | DM)):
        with build(interrupts, level) as vm:
            domain = Domain(vm, level)
            assert domain.read(0) == 0x8000_0000
            domain.write(0, 0xFFFF_FFFF)
            assert domain.read(0) == 0x8000_0000 | writable


def test_sourcecfg_is_warl(domain: Domain):
    for source in (1, 95, 96):
        for written, kept in ((2, 0), (3, 0), (7, 7), (0xFFFF_F3FE, 6), (0, 0)):
            domain.config(source, written)
            assert domain.read(4 * source) == kept
    for absent in (97, 1023):
        domain.config(absent, LEVEL1)
        assert domain.read(4 * absent) == 0


def test_priorities_are_never_zero(domain: Domain):
    domain.config(A, DETACHED)
    assert domain.read(0x3000 + 4 * A) & 0xFF == 1
    for written, kept in ((0, 1), (0xFF, 0xFF), (0x100, 1), (1 << 18 | 0x3_F107, 1 << 18 | 7)):
        domain.write(0x3000 + 4 * A, written)
        assert domain.read(0x3000 + 4 * A) == kept


def test_an_inactive_source_has_no_state(domain: Domain):
    domain.direct()
    domain.wires[A].set(True)
    domain.config(A, INACTIVE)
    domain.write(0x1EDC, A)
    domain.write(0x1CDC, A)
    domain.target(A, 1, 9)
    assert (domain.read(0x3000 + 4 * A), A in domain.pending(), A in domain.enabled(), A in domain.rectified()) == (
        0,
        False,
        False,
        False,
    )
    assert not domain.output(0)


def test_bits_by_number_and_by_word_are_the_same(domain: Domain):
    for source in SOURCES:
        domain.config(source, DETACHED)
    for by_number, byte_order, array in ((0x1CDC, "big", 0x1C00), (0x2000, "big", 0x1C00), (0x2004, "little", 0x1C00)):
        for source in SOURCES:
            domain.write(by_number, int.from_bytes(source.to_bytes(4, "big"), byte_order))
        assert domain.bits(array) == set(SOURCES)
        for word in range(32):
            domain.write(0x1D00 + 4 * word, 0xFFFF_FFFF)
        assert domain.bits(array) == set()
    for word in range(32):
        domain.write(0x1E00 + 4 * word, 0xFFFF_FFFF)
    assert domain.enabled() == set(SOURCES)
    domain.write(0x1FDC, B)
    domain.write(0x1F00 + 4, 1 << A - 32)
    assert domain.enabled() == {C}
    for number in (0x1CDC, 0x1DDC, 0x1EDC, 0x1FDC, 0x2000, 0x2004, 0x1F00, 0x3000):
        assert domain.read(number) == 0


@pytest.mark.parametrize("number", [0, 1, 97, 128, 1023, 0xFFFF_FFFF])
def test_numbers_of_no_active_source_are_ignored(domain: Domain, number: int):
    for register in (0x1CDC, 0x1DDC, 0x1EDC, 0x1FDC, 0x2000, 0x2004):
        domain.write(register, number)
    assert domain.pending() == domain.enabled() == set()


@pytest.mark.parametrize("interrupts", ["aplic", "aia"])
def test_every_register_at_every_width(interrupts: str, level: str):
    with build(interrupts, level) as vm:
        domain = Domain(vm, level)
        for source in range(1, 97):
            domain.config(source, DETACHED)
        for size in (1, 2, 4, 8):
            for offset in range(0, SIZE, size):
                if size == 4:
                    domain.write(offset, 0xA5A5_A5A5)
                    domain.read(offset)
                    continue
                before = domain.read(offset & ~3)
                domain.write(offset, 0x5A5A_5A5A_5A5A_5A5A & (1 << 8 * size) - 1, size)
                assert domain.read(offset, size) == 0
                # claimi is the one register whose reading changes it.
                assert domain.read(offset & ~3) == before or offset >= 0x4000


# --- domains ---


def test_the_root_passes_on_what_it_delegates():
    with build("aplic", "machine") as vm:
        root, child = Domain(vm, "machine"), Domain(vm, "supervisor")
        root.direct()
        child.direct()
        assert [child.read(4 * source) for source in SOURCES] == [0, 0, 0]
        root.wires[A].set(True)
        assert (root.output(0), child.output(0)) == (True, False)

        root.config(A, DELEGATE | 0x3FF)
        assert root.read(4 * A) == DELEGATE
        assert (root.output(0), child.output(0)) == (False, False)
        assert root.read(0x3000 + 4 * A) == 0
        assert A not in root.pending() | root.enabled() | root.rectified()
        # Zero until written (4.5.2); the wire is high all along.
        assert child.read(4 * A) == 0
        child.direct()
        assert child.output(0)
        assert child.rectified() == {A}

        root.config(A, LEVEL1)
        assert not child.output(0)
        assert child.read(4 * A) == child.read(0x3000 + 4 * A) == 0
        assert root.rectified() == {A}


def test_a_leaf_delegates_nothing():
    with build("aplic", "supervisor") as vm:
        leaf = Domain(vm, "supervisor")
        leaf.config(A, LEVEL1)
        leaf.config(A, DELEGATE)
        assert leaf.read(4 * A) == 0


def test_the_monitor_delegates_all_sources_and_locks_the_addresses():
    with build("aia", "supervisor") as vm:
        root = Domain(vm, "machine")
        assert {root.read(4 * source) for source in range(1, 97)} == {DELEGATE}
        locked = [root.read(0x1BC0 + 4 * i) for i in range(4)]
        assert locked == [0x24000, 0x8000_1000, 0x28000, 0]
        for i in range(4):
            root.write(0x1BC0 + 4 * i, 0x7FFF_FFFF)
        assert [root.read(0x1BC0 + 4 * i) for i in range(4)] == locked


def test_only_a_root_that_sends_messages_has_addresses():
    for interrupts, level, kept in (
        ("aplic", "machine", [0, 0, 0, 0]),
        ("aia", "machine", [0xFFFF_FFFF, 0x1F77_FFFF, 0xFFFF_FFFF, 0x0070_0FFF]),
    ):
        with build(interrupts, level) as vm:
            for name in BASES:
                domain = Domain(vm, name)
                for i, value in enumerate((0xFFFF_FFFF, 0x7FFF_FFFF, 0xFFFF_FFFF, 0xFFFF_FFFF)):
                    domain.write(0x1BC0 + 4 * i, value)
                assert [domain.read(0x1BC0 + 4 * i) for i in range(4)] == (kept if name == "machine" else [0] * 4)


# --- messages ---


def test_a_level_is_forwarded_once_and_again_when_asked(sender: Domain):
    sender.config(A, LEVEL1)
    sender.target(A, 1, 77)
    sender.write(0x1EDC, A)
    sender.wires[A].set(True)
    assert sender.messages() == {(1, 77)}
    assert sender.pending() == set()
    assert sender.rectified() == {A}
    # 4.9.2: what the handler does at its end, with the wire still up, and with it down.
    sender.write(0x2000, A)
    assert sender.messages() == {(1, 77)}
    sender.wires[A].set(False)
    sender.write(0x2000, A)
    assert sender.messages() == set()
    sender.wires[A].set(True)
    assert sender.messages() == {(1, 77)}


def test_messages_wait_for_ie_and_enable(sender: Domain):
    sender.write(0, DM)
    for source in SOURCES:
        sender.config(source, EDGE1)
        sender.target(source, 0, source)
        sender.wires[source].set(True)
    sender.write(0x1EDC, A)
    sender.write(0x1EDC, B)
    assert sender.messages() == set()
    sender.write(0, IE | DM)
    assert sender.messages() == {(0, A), (0, B)}
    assert sender.pending() == {C}
    sender.write(0x1EDC, C)
    assert sender.messages() == {(0, C)}


def test_genmsi_is_sent_whatever_ie_says(sender: Domain):
    sender.write(0, DM)
    sender.write(0x3000, 1 << 18 | 0x3_F000 | 200)
    assert sender.messages() == {(1, 200)}
    assert sender.read(0x3000) == 1 << 18 | 200
    sender.write(0, 0)
    assert sender.read(0x3000) == 0
    sender.write(0x3000, 201)
    assert sender.messages() == set()


def test_no_delivery_structures_in_msi_mode(sender: Domain):
    sender.idc(0, 0, 1)
    assert sender.read(0x4000) == 0
    sender.write(0, IE)
    assert sender.read(0x4000) == 0
    sender.idc(0, 0, 1)
    assert sender.read(0x4000) == 1


def test_messages_to_nowhere_are_dropped(level: str):
    with build("aia", "machine") as vm:
        domain, root = Domain(vm, level), Domain(vm, "machine")
        if level == "supervisor":
            root.config(A, DELEGATE)
        domain.write(0, IE | DM)
        domain.config(A, DETACHED)
        domain.write(0x1EDC, A)
        for low, high in ((0, 0), (0xFFFF_FFFF, 0x7FFF_FFFF), (0x80000, 0), (0x28002, 0), (0xC000, 0), (0xD000, 0)):
            for i, value in enumerate((low, high, low, high)):
                root.write(0x1BC0 + 4 * i, value)
            for target in (0, 0x3FFF << 18 | 5, 0xFFFF_FFFF):
                domain.write(0x3000 + 4 * A, target)
                domain.write(0x1CDC, A)
                assert domain.pending() == set()
        assert Domain(vm, "machine").messages() == Domain(vm, "supervisor").messages() == set()


def test_without_imsics_in_the_way_the_aplic_still_delivers_by_wire(level: str):
    # eidelivery is 0x4000_0000 after reset (3.8.1): software that knows no IMSIC finds an APLIC.
    with build("aia", level) as vm:
        domain = Domain(vm, level)
        domain.direct()
        domain.wires[A].set(True)
        assert domain.output(0)
        assert domain.claim(0) == A << 16 | 1
        domain.wires[A].set(False)
        assert not domain.output(0)


# --- against a model ---


@dataclass
class Model:
    """4.7 and 4.8 source by source, as they are written."""

    msi: bool
    mode: dict[int, int] = field(default_factory=lambda: dict.fromkeys(SOURCES, INACTIVE))
    wire: dict[int, bool] = field(default_factory=lambda: dict.fromkeys(SOURCES, False))
    pending: set[int] = field(default_factory=set)
    enabled: set[int] = field(default_factory=set)
    target: dict[int, tuple[int, int]] = field(default_factory=dict)
    ie: bool = True
    delivery: list[int] = field(default_factory=lambda: [1] * HARTS)
    force: list[int] = field(default_factory=lambda: [0] * HARTS)
    threshold: list[int] = field(default_factory=lambda: [0] * HARTS)
    sent: set[tuple[int, int]] = field(default_factory=set)

    def rectified(self, source: int) -> bool:
        match self.mode[source]:
            case 4 | 6:
                return self.wire[source]
            case 5 | 7:
                return not self.wire[source]
        return False

    def is_level(self, source: int) -> bool:
        return self.mode[source] in (LEVEL1, LEVEL0)

    def follow(self, source: int) -> None:
        if not self.rectified(source):
            self.pending.discard(source)
        elif not self.msi:
            self.pending.add(source)

    def set_wire(self, source: int, level: bool) -> None:
        before = self.rectified(source)
        self.wire[source] = level
        rises = self.rectified(source) and not before
        if self.mode[source] in (EDGE1, EDGE0) and rises:
            self.pending.add(source)
        if self.is_level(source):
            if self.msi and rises:
                self.pending.add(source)
            self.follow(source)

    def configure(self, source: int, mode: int) -> None:
        was_inactive = self.mode[source] == INACTIVE
        self.mode[source] = mode
        if mode == INACTIVE:
            self.pending.discard(source)
            self.enabled.discard(source)
            self.target.pop(source, None)
            return
        if was_inactive:
            self.target[source] = (0, 0 if self.msi else 1)
        if self.is_level(source):
            self.follow(source)
            # 4.5.2 leaves it open whether the bit is set; this APLIC does.
            if self.rectified(source):
                self.pending.add(source)

    def set_pending(self, source: int) -> None:
        if self.mode[source] == INACTIVE or (self.is_level(source) and not (self.msi and self.rectified(source))):
            return
        self.pending.add(source)

    def clear_pending(self, source: int) -> None:
        if not (self.is_level(source) and not self.msi):
            self.pending.discard(source)

    def topi(self, hart: int) -> int:
        ready = [
            (self.target[source][1], source)
            for source in self.pending & self.enabled
            if self.target[source][0] == hart
            and (self.threshold[hart] == 0 or self.target[source][1] < self.threshold[hart])
        ]
        return min(ready)[1] << 16 | min(ready)[0] if ready else 0

    def claim(self, hart: int) -> int:
        top = self.topi(hart)
        if top:
            self.clear_pending(top >> 16)
        else:
            self.force[hart] = 0
        return top

    def forward(self) -> None:
        if self.msi and self.ie:
            for source in self.pending & self.enabled:
                self.sent.add(self.target[source])
                self.pending.discard(source)

    def output(self, hart: int) -> bool:
        return self.ie and bool(self.delivery[hart]) and bool(self.force[hart] or self.topi(hart))


sources = st.sampled_from(SOURCES)
harts = st.integers(0, HARTS - 1)
numbers = st.integers(1, 255)
bits = st.integers(0, 1)
common = (
    st.tuples(st.just("wire"), sources, st.booleans()),
    st.tuples(st.just("mode"), sources, st.sampled_from(MODES)),
    st.tuples(st.just("set"), sources, st.none()),
    st.tuples(st.just("clear"), sources, st.none()),
    st.tuples(st.just("enable"), sources, st.booleans()),
    st.tuples(st.just("target"), sources, st.tuples(harts, numbers)),
    st.tuples(st.just("ie"), st.booleans(), st.none()),
)
by_wire = (
    st.tuples(st.just("claim"), harts, st.none()),
    st.tuples(st.just("delivery"), harts, bits),
    st.tuples(st.just("force"), harts, bits),
    st.tuples(st.just("threshold"), harts, st.integers(0, 255)),
)


def apply(domain: Domain, model: Model, what: str, first, second) -> None:
    match what:
        case "wire":
            domain.wires[first].set(second)
            model.set_wire(first, second)
        case "mode":
            domain.config(first, second)
            model.configure(first, second)
        case "set":
            domain.write(0x1CDC, first)
            model.set_pending(first)
        case "clear":
            domain.write(0x1DDC, first)
            if model.mode[first] != INACTIVE:
                model.clear_pending(first)
        case "enable":
            domain.write(0x1EDC if second else 0x1FDC, first)
            if model.mode[first] != INACTIVE:
                (model.enabled.add if second else model.enabled.discard)(first)
        case "target":
            domain.target(first, *second)
            if model.mode[first] != INACTIVE:
                model.target[first] = second
        case "ie":
            domain.write(0, (IE if first else 0) | (DM if model.msi else 0))
            model.ie = first
        case "claim":
            assert domain.claim(first) == model.claim(first)
        case "delivery":
            domain.idc(first, 0, second)
            model.delivery[first] = second
        case "force":
            domain.idc(first, 4, second)
            model.force[first] = second
        case "threshold":
            domain.idc(first, 8, second)
            model.threshold[first] = second


@settings(max_examples=60, deadline=None)
@given(level=st.sampled_from(list(BASES)), operations=st.lists(st.one_of(*common, *by_wire), max_size=40))
def test_direct_delivery_agrees_with_the_model(level, operations):
    with build("aplic", level) as vm:
        domain, model = Domain(vm, level), Model(msi=False)
        domain.write(0, IE)
        for hart in range(HARTS):
            domain.idc(hart, 0, 1)
        for operation in operations:
            apply(domain, model, *operation)
            assert [domain.topi(hart) for hart in range(HARTS)] == [model.topi(hart) for hart in range(HARTS)]
            assert [domain.output(hart) for hart in range(HARTS)] == [model.output(hart) for hart in range(HARTS)]
        assert domain.pending() == model.pending
        assert domain.enabled() == model.enabled
        assert domain.rectified() == {source for source in SOURCES if model.rectified(source)}


@settings(max_examples=60, deadline=None)
@given(level=st.sampled_from(list(BASES)), operations=st.lists(st.one_of(*common), max_size=40))
def test_forwarding_agrees_with_the_model(level, operations):
    with build("aia", level) as vm:
        if level == "machine":
            program_addresses(vm)
        domain, model = Domain(vm, level), Model(msi=True)
        domain.write(0, IE | DM)
        for operation in operations:
            apply(domain, model, *operation)
            model.forward()
            assert domain.messages() == {message for message in model.sent if message[1] != 0}
            model.sent.clear()
        assert domain.pending() == model.pending
        assert domain.enabled() == model.enabled
