"""Interrupt files (AIA 1.0, chapter 3), by messages and by the CSRs that reach them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import wirt
from support.firmware import SPIN

BASES = {"machine": 0x2400_0000, "supervisor": 0x2800_0000}
EXTERNAL = {"machine": 1 << 11, "supervisor": 1 << 9}
HARTS = 3
PAGE = 0x1000
EIDELIVERY, EITHRESHOLD, EIP, EIE = 0x70, 0x72, 0x80, 0xC0
FROM_APLIC = 0x4000_0000
EVERY = (1 << 256) - 2


class File:
    """A hart's interrupt file."""

    def __init__(self, vm: wirt.Machine, level: str, hart: int, page: int | None = None) -> None:
        self.vm, self.level = vm, level
        self.page = BASES[level] + PAGE * (hart if page is None else page)
        self.csr = vm.harts[hart].csr
        self.letter = level[0]

    def __getitem__(self, select: int) -> int:
        self.csr[f"{self.letter}iselect"] = select
        return self.csr[f"{self.letter}ireg"]

    def __setitem__(self, select: int, value: int) -> None:
        self.csr[f"{self.letter}iselect"] = select
        self.csr[f"{self.letter}ireg"] = value

    def array(self, first: int) -> int:
        return sum(self[first + 2 * word] << 64 * word for word in range(4))

    def fill(self, first: int, value: int) -> None:
        for word in range(4):
            self[first + 2 * word] = value >> 64 * word & (1 << 64) - 1

    def send(self, identity: int, offset: int = 0) -> None:
        self.vm.bus.write(self.page + offset, 4, identity)

    def top(self) -> int:
        return self.csr[f"{self.letter}topei"]

    def claim(self) -> int:
        top = self.top()
        self.csr[f"{self.letter}topei"] = 0
        return top >> 16

    def signals(self) -> bool:
        return bool(self.csr["mip"] & EXTERNAL[self.level])

    def open(self) -> None:
        self[EIDELIVERY] = 1
        self.fill(EIE, EVERY)


@pytest.fixture(params=["machine", "supervisor"])
def level(request):
    return request.param


@pytest.fixture(scope="module")
def shared():
    with wirt.Machine(firmware=SPIN, memory="16M", cpus=HARTS, interrupts="aia") as vm:
        yield vm


@pytest.fixture
def files(shared: wirt.Machine, level: str):
    files = [File(shared, level, hart) for hart in range(HARTS)]
    for file in files:
        file[EIDELIVERY] = file[EITHRESHOLD] = 0
        file.fill(EIP, 0)
        file.fill(EIE, 0)
    return files


def test_after_reset_an_aplic_may_deliver(level: str):
    with wirt.Machine(firmware=SPIN, memory="16M", interrupts="aia") as vm:
        file = File(vm, level, 0)
        assert (file[EIDELIVERY], file[EITHRESHOLD], file.array(EIP), file.array(EIE)) == (FROM_APLIC, 0, 0, 0)


def test_a_message_reaches_its_hart_alone(files: list[File]):
    for file in files:
        file.open()
    files[1].send(42)
    assert [file.signals() for file in files] == [False, True, False]
    assert files[1].top() == 42 << 16 | 42
    assert files[1].claim() == 42
    assert not files[1].signals()
    assert files[1].claim() == 0


def test_the_lowest_identity_comes_first(files: list[File]):
    file = files[0]
    file.open()
    for identity in (255, 64, 63, 128, 1, 64):
        file.send(identity)
    assert [file.claim() for _ in range(6)] == [1, 63, 64, 128, 255, 0]


def test_pending_waits_for_its_enable_bit(files: list[File]):
    file = files[2]
    file[EIDELIVERY] = 1
    file.send(65)
    assert (file.signals(), file.top(), file[EIP + 2]) == (False, 0, 2)
    file[EIE + 2] = 2
    assert (file.signals(), file.top()) == (True, 65 << 16 | 65)
    file[EIP + 2] = 0
    assert (file.signals(), file.top()) == (False, 0)
    file[EIP + 2] = 2
    assert file.signals()


def test_a_threshold_hides_its_own_identity_and_those_above(files: list[File]):
    file = files[0]
    file.open()
    file.send(10)
    for threshold, seen in ((10, False), (11, True), (9, False), (0, True), (255, True)):
        file[EITHRESHOLD] = threshold
        assert (file.signals(), file.top() >> 16) == (seen, 10 if seen else 0)
    # What the threshold hides cannot be claimed either.
    file[EITHRESHOLD] = 10
    assert file.claim() == 0
    file[EITHRESHOLD] = 0
    assert file.claim() == 10


def test_eidelivery_stops_the_signal_and_nothing_else(files: list[File]):
    file = files[0]
    file.open()
    file.send(3)
    for value in (0, FROM_APLIC):
        file[EIDELIVERY] = value
        assert (file.signals(), file.top() >> 16) == (False, 3)
    for illegal in (2, FROM_APLIC | 1, 1 << 32 | 1, (1 << 64) - 1):
        file[EIDELIVERY] = illegal
        assert file[EIDELIVERY] == FROM_APLIC
    file[EIDELIVERY] = 1
    assert file.signals()


def test_registers_are_warl(files: list[File]):
    file = files[0]
    file[EITHRESHOLD] = (1 << 64) - 1
    assert file[EITHRESHOLD] == 255
    for first in (EIP, EIE):
        for word in range(32):
            file[first + 2 * word] = (1 << 64) - 1
            expected = 0 if word >= 4 else (1 << 64) - 1 - (word == 0)
            assert file[first + 2 * word] == expected
    for reserved in (0x71, 0x73, 0x7F):
        file[reserved] = (1 << 64) - 1
        assert file[reserved] == 0


@pytest.mark.parametrize("data", [0, 256, 0x1_0001 - 1, 0xFFFF_FFFF, 0x0100_0000])
def test_identities_that_are_none_are_ignored(files: list[File], data: int):
    files[0].send(data)
    assert files[0].array(EIP) == 0


def test_both_byte_orders(files: list[File]):
    files[0].send(7, 0)
    files[0].send(int.from_bytes((9).to_bytes(4, "big"), "little"), 4)
    assert files[0].array(EIP) == 1 << 7 | 1 << 9


def test_every_offset_at_every_width(files: list[File]):
    bus, base = files[0].vm.bus, files[0].page
    for size in (1, 2, 4, 8):
        for offset in range(0, 4 * PAGE, size):
            if size == 4 and offset % PAGE in (0, 4):
                continue
            # The fourth page is between the files (3.6).
            bus.write(base + offset, size, 5)
            assert bus.read(base + offset, size) == 0
    bus.write(base + 3 * PAGE, 4, 5)
    assert bus.read(base, 4) == bus.read(base + 4, 4) == 0
    assert [file.array(EIP) for file in files] == [0, 0, 0]


def test_guest_files_stand_behind_the_supervisors():
    with wirt.Machine(firmware=SPIN, memory="16M", cpus=2, interrupts="aia", guest_files=2) as vm:
        # Three files, hence four pages a hart.
        files = [File(vm, "supervisor", hart, 4 * hart) for hart in range(2)]
        for file in files:
            file.open()
        for page in (1, 2, 3, 5, 6, 7):
            vm.bus.write(BASES["supervisor"] + page * PAGE, 4, 9)
        assert [file.array(EIP) for file in files] == [0, 0]
        files[1].send(9)
        assert [file.signals() for file in files] == [False, True]
        fields = dict(vm.inspect())
        assert fields["imsic/imsic-s.[0.1].eidelivery"] == 0
        info = {device.name: device for device in vm.devices}
        assert (info["imsic-s"].size, info["imsic-m"].size) == (8 * PAGE, 2 * PAGE)


@pytest.mark.parametrize(("guest_files", "interrupts"), [(64, "aia"), (1, "plic"), (1, "aplic")])
def test_guest_files_that_cannot_be(guest_files: int, interrupts: str):
    with pytest.raises(wirt.ConfigError, match="guest_files"):
        wirt.Machine(memory="16M", interrupts=interrupts, guest_files=guest_files)


identities = st.sampled_from([0, 1, 2, 63, 64, 65, 127, 128, 254, 255, 256])
operation = st.one_of(
    st.tuples(st.just("send"), identities),
    st.tuples(st.just("enable"), identities),
    st.tuples(st.just("disable"), identities),
    st.tuples(st.just("threshold"), st.integers(0, 255)),
    st.tuples(st.just("claim"), st.none()),
)


@settings(max_examples=60, deadline=None)
@given(operations=st.lists(operation, max_size=50))
def test_agrees_with_a_model(operations):
    with wirt.Machine(firmware=SPIN, memory="16M", interrupts="aia") as vm:
        file = File(vm, "machine", 0)
        file[EIDELIVERY] = 1
        pending: set[int] = set()
        enabled: set[int] = set()
        threshold = 0
        for what, value in operations:
            real = isinstance(value, int) and 1 <= value <= 255
            match what:
                case "send":
                    file.send(value)
                    pending |= {value} if real else set()
                case "enable" | "disable":
                    if value <= 255:
                        select = EIE + value // 64 * 2
                        bit = 1 << value % 64
                        file[select] = file[select] | bit if what == "enable" else file[select] & ~bit
                    enabled = enabled | {value} if what == "enable" and real else enabled - {value}
                case "threshold":
                    file[EITHRESHOLD] = threshold = value
            ready = {identity for identity in pending & enabled if not threshold or identity < threshold}
            top = min(ready, default=0)
            assert file.top() == top << 16 | top
            assert file.signals() == bool(top)
            if what == "claim":
                assert file.claim() == top
                pending.discard(top)
                assert file.signals() == (len(ready) > 1)
