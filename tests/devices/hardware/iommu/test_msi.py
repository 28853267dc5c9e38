"""MSI page tables: interrupts of devices that a virtual machine drives itself."""

from __future__ import annotations

import pytest

from support.iommu import (
    EN_ATS,
    PAGE,
    RAM,
    TR_REQ_CTL,
    TR_REQ_IOVA,
    TR_RESPONSE,
    Bench,
    Fault,
    V,
    iodir_ddt,
    iotinval_gvma,
    mode,
)

FILE = 0x2800_0000  # the first virtual interrupt file
IMSIC = 0x2800_5000  # a real one
BASIC, MRIF = 3 << 1 | V, 1 << 1 | V
NOWHERE = 0x4000_0000


@pytest.fixture
def guest(bench: Bench) -> Bench:
    """Device 5 belongs to a guest with interrupt files 0 to 3, two bits of the page number apart."""
    bench.second = bench.table(second=True)
    bench.msi = bench.allocate()
    bench.device(5, tc=EN_ATS, iohgatp=mode(8, bench.second, 1), msi=(mode(1, bench.msi), 0b101, FILE >> 12))
    return bench


def entry(bench: Bench, file: int, *words: int) -> None:
    bench.store(bench.msi + 16 * file, *words, *([0] if len(words) == 1 else []))


def test_basic_translate_mode(guest: Bench) -> None:
    # File numbers are the bits under the mask, packed: pages 0, 1, 4 and 5.
    for file, page in enumerate((0, 1, 4, 5)):
        entry(guest, file, (IMSIC + file * PAGE) >> 2 | BASIC, (1 << 64) - 1)
        response = guest.request(5, FILE + page * PAGE + 4, write=True)
        assert (response["address"], response["msi"]) == (IMSIC + file * PAGE + 4, True)
        assert guest.core.send_message(5, FILE + page * PAGE, 7 + file)
        assert guest.core.take_interrupts() == [(IMSIC + file * PAGE, 7 + file)]
        assert guest.request(5, FILE + page * PAGE)["status"] == 0
        assert guest.request(5, FILE + page * PAGE, execute=True)["cause"] == 1
    assert guest.request(5, FILE + 2 * PAGE)["cause"] == 21  # no interrupt file


def test_entries_that_fault(guest: Bench) -> None:
    for word, cause in (
        (0, 262),
        (IMSIC >> 2 | V, 263),
        (IMSIC >> 2 | 2 << 1 | V, 263),
        (IMSIC >> 2 | BASIC | 1 << 3, 263),
        (IMSIC >> 2 | BASIC | 1 << 54, 263),
        (IMSIC >> 2 | BASIC | 1 << 63, 263),
        (MRIF | 1 << 3, 263),
        ((1 << 64) - 1, 263),
    ):
        entry(guest, 0, word)
        assert not guest.core.send_message(5, FILE, 1)
        assert guest.faults() == [Fault(cause, 3, 5, 0, 0, 0, FILE, 0)]
    entry(guest, 0, MRIF, 1 << 54)
    assert guest.request(5, FILE, write=True)["cause"] == 263
    guest.device(5, iohgatp=mode(8, guest.second, 1), msi=(mode(1, NOWHERE), 0, FILE >> 12))
    assert guest.command(*iodir_ddt())
    assert guest.request(5, FILE, write=True)["cause"] == 261
    plain = Bench({"msi_mrif": False})
    plain.directory(1)
    plain.device(5, iohgatp=mode(8, plain.table(second=True), 1), msi=(mode(1, table := plain.allocate()), 0, 0))
    plain.store(table, MRIF, 0)
    assert plain.request(5, 0, write=True)["cause"] == 263


def test_memory_resident_interrupt_file(guest: Bench) -> None:
    file, notice = guest.allocate(), guest.allocate()
    entry(guest, 1, file >> 2 | MRIF, notice >> 2 | 1 << 60 | 5)
    identities = [0, 1, 63, 64, 2047]
    for identity in identities:
        guest.store(notice, 0)
        assert guest.core.send_message(5, FILE + PAGE, identity)
        assert guest.load(file + 16 * (identity // 64)) >> (identity % 64) & 1
        assert guest.load(notice, 4) == 0x405
    pending = sum(guest.load(file + 16 * n).bit_count() for n in range(32))
    assert pending == len(identities)
    assert all(guest.load(file + 16 * n + 8) == 0 for n in range(32))  # enable bits are software's
    # Big-endian, and what is accepted but discarded.
    assert guest.core.send_message(5, FILE + PAGE + 4, int.from_bytes((9).to_bytes(4, "big"), "little"))
    assert guest.load(file) >> 9 & 1
    guest.store(notice, 0)
    assert guest.core.send_message(5, FILE + PAGE, 2048)
    assert guest.core.send_message(5, FILE + PAGE + 8, 9)
    # A notice to an interrupt file.
    entry(guest, 1, file >> 2 | MRIF, IMSIC >> 2 | 77)
    assert guest.core.send_message(5, FILE + PAGE, 3)
    assert guest.core.take_interrupts() == [(IMSIC, 77)]
    # No memory to read or write as such, and no translation that a device may keep.
    assert guest.core.dma_translate(5, FILE + PAGE, write=True) is None
    response = guest.request(5, FILE + PAGE, kind="ats")
    assert (response["status"], response["u"], response["r"], response["w"]) == (0, True, True, True)
    assert guest.faults() == []


def test_an_mrif_that_is_not_memory(guest: Bench) -> None:
    entry(guest, 0, NOWHERE >> 2 | MRIF, IMSIC >> 2)
    assert not guest.core.send_message(5, FILE, 3)
    assert guest.faults() == [Fault(264, 3, 5, 0, 0, 0, FILE, 0)]
    assert guest.core.take_interrupts() == []


def test_the_debug_interface_refuses_an_mrif(guest: Bench) -> None:
    entry(guest, 0, guest.allocate() >> 2 | MRIF, IMSIC >> 2)
    guest.write(TR_REQ_IOVA, FILE, 8)
    guest.write(TR_REQ_CTL, 5 << 40 | 1, 8)
    assert guest.read(TR_RESPONSE, 8) == 1
    assert guest.causes() == [260]


def test_entries_are_cached_until_gvma(guest: Bench) -> None:
    entry(guest, 0, IMSIC >> 2 | BASIC)
    assert guest.request(5, FILE, write=True)["address"] == IMSIC
    entry(guest, 0, (IMSIC + PAGE) >> 2 | BASIC)
    assert guest.request(5, FILE, write=True)["address"] == IMSIC
    assert guest.command(*iotinval_gvma(gscid=1, address=FILE))
    assert guest.request(5, FILE, write=True)["address"] == IMSIC + PAGE


def test_a_superpage_does_not_hide_interrupt_files(guest: Bench) -> None:
    guest.map(guest.second, 0, 0x8000_0000, level=2, second=True)
    entry(guest, 0, IMSIC >> 2 | BASIC)
    response = guest.request(5, FILE + 2 * PAGE)
    assert (response["address"], response["size"]) == (0x8000_0000 + FILE + 2 * PAGE, PAGE)
    assert guest.request(5, FILE, write=True)["address"] == IMSIC
    assert guest.request(5, 0x1000)["size"] == 2 << 20


def test_without_translation_messages_go_where_they_say(bare: Bench) -> None:
    assert bare.core.send_message(5, IMSIC, 3)
    assert bare.core.take_interrupts() == [(IMSIC, 3)]
    assert not bare.core.send_message(5, NOWHERE, 3)
    assert not bare.core.send_message(5, RAM, 3)  # messages are not for memory
