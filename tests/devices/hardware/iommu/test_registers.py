"""The register file: every offset at every width, what can be written, and how Linux probes it."""

from __future__ import annotations

import random

import pytest

import wirt
from support.iommu import (
    BARE,
    CAPABILITIES,
    CIP,
    CQB,
    CQCSR,
    CQH,
    CQT,
    DDTP,
    EN,
    EN_ATS,
    FCTL,
    FIP,
    FQB,
    FQCSR,
    FQH,
    FQT,
    ICVEC,
    IE,
    IOCOUNTINH,
    IOCOUNTOVF,
    IOHPMCTR,
    IOHPMCYCLES,
    IOHPMEVT,
    IPSR,
    MF,
    MSI_CFG_TBL,
    OFF,
    ON,
    PAGE,
    PMIP,
    PQB,
    PQCSR,
    PQH,
    RAM,
    THREE_LEVEL,
    TR_REQ_CTL,
    TR_REQ_IOVA,
    TR_RESPONSE,
    TWO_LEVEL,
    Bench,
    mode,
)

ONES = (1 << 64) - 1
PPN = ((1 << 44) - 1) << 10


def test_reset_values(bare: Bench) -> None:
    assert bare.read(CAPABILITIES, 8) & 0xFF == 0x10
    assert bare.read(DDTP, 8) == BARE
    assert bare.read(FCTL) == 2  # wires only
    for offset in (CQCSR, FQCSR, PQCSR, IPSR):
        assert bare.read(offset) == 0
    assert Bench({"reset_mode": OFF}).read(DDTP, 8) == OFF
    assert Bench({"igs": 2}).read(FCTL) == 0


def test_capabilities_are_the_options() -> None:
    everything = Bench().read(CAPABILITIES, 8)
    for name, bit in {"sv32": 8, "svpbmt": 15, "sv57x4": 19, "amo_hwad": 24, "end": 27, "hpm": 30, "dbg": 31}.items():
        assert Bench({name: False}).read(CAPABILITIES, 8) == everything & ~(1 << bit)
    assert Bench({"pas": 40}).read(CAPABILITIES, 8) >> 32 & 0x3F == 40
    assert Bench({"igs": 2}).read(CAPABILITIES, 8) >> 28 & 3 == 2


@pytest.mark.parametrize("options", [{"sv48": False}, {"pas": 60}, {"t2gpa": True, "ats": False}, {"speed": 1}])
def test_impossible_options(options: dict[str, object]) -> None:
    with pytest.raises(wirt.ConfigError):
        Bench(options)


def test_every_offset_at_every_width_is_defined() -> None:
    rng = random.Random(7)
    for igs in (0, 1, 2):
        bench = Bench({"igs": igs})
        capabilities = bench.read(CAPABILITIES, 8)
        for size in (1, 2, 4, 8):
            for offset in range(0, PAGE, size):
                before = bench.read(offset, size)
                assert 0 <= before < 1 << 8 * size
                bench.write(offset, rng.getrandbits(8 * size), size)
                bench.write(offset, (1 << 8 * size) - 1, size)
                assert 0 <= bench.read(offset, size) < 1 << 8 * size
                if size < 4:
                    assert before == 0
        assert bench.read(CAPABILITIES, 8) == capabilities
        bench.core.reset()
        assert bench.read(DDTP, 8) == BARE


def test_ddtp_is_warl_as_linux_probes_it(bare: Bench) -> None:
    for levels in (THREE_LEVEL, TWO_LEVEL):
        bare.write(DDTP, RAM >> 2 | levels, 8)
        assert bare.read(DDTP, 8) == RAM >> 2 | levels
        bare.write(DDTP, RAM >> 2 | (5 - levels + 2), 8)
        assert bare.read(DDTP, 8) == RAM >> 2 | levels  # not from one directory to another
        bare.write(DDTP, BARE, 8)
    for reserved in range(5, 16):
        bare.write(DDTP, reserved, 8)
        assert bare.read(DDTP, 8) == BARE
    bare.write(DDTP, ONES & ~0xF | THREE_LEVEL, 8)
    assert bare.read(DDTP, 8) == PPN | THREE_LEVEL


def test_halves_of_wide_registers(bare: Bench) -> None:
    bare.write(CQB + 4, 0x12, 4)
    bare.write(CQB, 0x3456_7803, 4)
    assert bare.read(CQB, 8) == 0x12_3456_7803
    assert (bare.read(CQB), bare.read(CQB + 4)) == (0x3456_7803, 0x12)
    assert bare.read(CQH, 8) == 0  # two registers at once


@pytest.mark.parametrize(("base", "index", "csr"), [(CQB, CQT, CQCSR), (FQB, FQH, FQCSR), (PQB, PQH, PQCSR)])
def test_queue_registers(bare: Bench, base: int, index: int, csr: int) -> None:
    bare.write(base, ONES, 8)
    assert bare.read(base, 8) == PPN | 12  # 8,192 entries are the most
    bare.write(index, 0xFFFF_FFFF)
    assert bare.read(index) == 0x1FFF
    bare.write(base, RAM >> 2 | 3, 8)
    assert (bare.read(base, 8), bare.read(index)) == (RAM >> 2 | 3, 0)
    bare.write(index, 0xFFFF_FFFF)
    assert bare.read(index) == 15
    bare.write(index, 0)
    bare.write(csr, EN | IE)
    assert bare.read(csr) == EN | IE | ON  # and neither busy nor an error
    bare.write(base, 0, 8)
    assert bare.read(base, 8) == RAM >> 2 | 3  # not while the queue is on
    bare.write(csr, 0)
    assert bare.read(csr) == 0


def test_fctl() -> None:
    for igs, writable in ((0, 5), (1, 5), (2, 7)):
        bench = Bench({"igs": igs})
        bench.write(FCTL, 0)
        assert bench.read(FCTL) == (2 if igs == 1 else 0)
        bench.write(FCTL, 0xFFFF_FFFF)
        assert bench.read(FCTL) == writable | (2 if igs == 1 else 0)
    fixed = Bench({"end": False, "gxl_writable": False, "igs": 0})
    fixed.write(FCTL, 0xFFFF_FFFF)
    assert fixed.read(FCTL) == 0
    busy = Bench({"igs": 2})
    busy.write(FQCSR, EN)
    busy.write(FCTL, 2)
    assert busy.read(FCTL) == 0


def test_absent_features_read_zero() -> None:
    bench = Bench({"ats": False, "t2gpa": False, "hpm": False, "dbg": False, "igs": 1})
    wide = [PQB, IOHPMCYCLES, IOHPMCTR, IOHPMEVT, TR_REQ_IOVA, TR_REQ_CTL, TR_RESPONSE, MSI_CFG_TBL]
    narrow = [PQH, PQCSR, IOCOUNTINH, IOCOUNTOVF, MSI_CFG_TBL + 8, MSI_CFG_TBL + 12]
    for offset in wide:
        bench.write(offset, ONES, 8)
        assert bench.read(offset, 8) == 0
    for offset in narrow:
        bench.write(offset, 0xFFFF_FFFF)
        assert bench.read(offset) == 0
    bench.write(ICVEC, ONES, 8)
    assert bench.read(ICVEC, 8) == 0x33


def test_icvec_and_message_table() -> None:
    bench = Bench({"igs": 2})
    bench.write(ICVEC, ONES, 8)
    assert bench.read(ICVEC, 8) == 0x3333
    bench.write(MSI_CFG_TBL + 16, ONES, 8)
    assert bench.read(MSI_CFG_TBL + 16, 8) == (1 << 56) - 4
    bench.write(MSI_CFG_TBL + 24, 0x5_1234_5678, 8)
    assert bench.read(MSI_CFG_TBL + 24, 8) == 1 << 32 | 0x1234_5678
    bench.write(MSI_CFG_TBL + 64, ONES, 8)
    assert bench.read(MSI_CFG_TBL + 64, 8) == 0  # there are four


# --- the debug interface ---


def translate(bench: Bench, device_id: int, iova: int, *, flags: int = 0, pid: int | None = None) -> int:
    bench.write(TR_REQ_IOVA, iova, 8)
    control = device_id << 40 | flags | 1
    if pid is not None:
        control |= 1 << 32 | pid << 12
    bench.write(TR_REQ_CTL, control, 8)
    assert bench.read(TR_REQ_CTL, 8) == control & ~1  # Go/Busy is done at once
    return bench.read(TR_RESPONSE, 8)


def test_debug_translation(bench: Bench) -> None:
    root = bench.table()
    bench.device(5, fsc=mode(8, root))
    bench.map(root, 0x1000, RAM + 0x3000)
    bench.map(root, 0x20_0000, RAM + 0x20_0000, level=1, flags=0xDF | 1 << 61)
    assert translate(bench, 5, 0x1FFF) == (RAM + 0x3000) >> 2
    assert translate(bench, 5, 0x20_5000) == ((RAM + 0x20_0000) >> 2 | 0xFF << 10) | 1 << 9 | 1 << 7
    assert translate(bench, 5, 0x5000, flags=1 << 3) == 1  # NW
    assert translate(bench, 5, 0x5000) == 1
    assert translate(bench, 5, 0x1000, pid=3) == 1
    assert bench.causes() == [13, 15, 260]


# --- the performance monitor ---


def test_counters_and_filters(bench: Bench) -> None:
    root = bench.table()
    for device_id in (4, 5):
        bench.device(device_id, fsc=mode(8, root), pscid=device_id)
    bench.map(root, 0x1000, RAM)
    bench.device(6, tc=EN_ATS)
    events = [1, 1 | 1 << 61 | 5 << 36, 1 | 1 << 15 | 1 << 61 | 5 << 36, 2, 3, 4, 5, 7, 7 | 3 << 60 | 1 << 62 | 5 << 16]
    for n, event in enumerate(events):
        bench.write(IOHPMEVT + 8 * n, event, 8)
    for device_id in (4, 5, 5):
        bench.request(device_id, 0x1000)
    bench.request(6, RAM, kind="translated")
    bench.request(6, RAM, kind="ats")
    counts = [bench.read(IOHPMCTR + 8 * n, 8) for n in range(len(events))]
    # Filtered by GSCID, a walk without a second stage does not count.
    assert counts == [3, 2, 3, 1, 1, 3, 3, 6, 0]
    bench.write(IOCOUNTINH, 2)
    bench.request(5, 0x1000)
    assert bench.read(IOHPMCTR, 8) == 3
    bench.write(IOHPMEVT, 9, 8)
    assert bench.read(IOHPMEVT, 8) == 1  # no such event


def test_requests_count_where_the_cache_answers(bench: Bench) -> None:
    root = bench.table()
    bench.device(5, fsc=mode(8, root))
    bench.map(root, 0x1000, RAM)
    assert bench.core.dma_translate(5, 0x1000)
    bench.write(IOHPMEVT, 1, 8)
    for _ in range(3):
        assert bench.core.dma_translate(5, 0x1000)
    assert bench.read(IOHPMCTR, 8) == 3


def test_overflow(bench: Bench) -> None:
    bench.write(IOHPMEVT + 8, 1, 8)
    bench.write(IOHPMCTR + 8, ONES, 8)
    bench.request(5, 0)
    assert (bench.read(IOHPMCTR + 8, 8), bench.read(IOCOUNTOVF)) == (0, 4)
    assert bench.read(IPSR) == PMIP
    bench.write(IPSR, PMIP)
    bench.write(IOHPMCTR + 8, ONES, 8)
    bench.request(5, 0)
    assert bench.read(IPSR) == 0  # OF was set before


def test_cycles(bench: Bench) -> None:
    bench.write(IOHPMCYCLES, (1 << 63) - 100, 8)
    bench.core.advance(60)
    assert bench.read(IOHPMCYCLES, 8) == (1 << 63) - 40
    bench.write(IOCOUNTINH, 1)
    bench.core.advance(60)
    assert bench.read(IOHPMCYCLES, 8) == (1 << 63) - 40
    bench.write(IOCOUNTINH, 0)
    bench.core.advance(60)
    assert bench.read(IOCOUNTOVF) == 1
    assert bench.read(IOHPMCYCLES, 8) == 1 << 63 | 20
    assert bench.read(IPSR) == PMIP


# --- interrupts ---


def test_wires(bench: Bench) -> None:
    bench.write(ICVEC, 0x10, 8)  # faults to wire 1
    bench.write(FQCSR, EN | IE)
    bench.write(CQCSR, EN | IE)
    bench.request(5, 0)
    assert bench.read(IPSR) == FIP
    assert bench.core.wires == [False, True, False, False]
    bench.write(ICVEC, 0x20, 8)
    assert bench.core.wires == [False, False, True, False]
    bench.write(IPSR, FIP)
    assert (bench.read(IPSR), bench.core.wires) == (0, [False] * 4)
    assert not bench.command(0)
    assert bench.core.wires == [True, False, False, False]
    bench.write(IPSR, CIP)
    assert bench.read(IPSR) == CIP  # the condition is still there
    bench.write(CQCSR, 1 << 10)
    bench.write(IPSR, CIP)
    assert bench.read(IPSR) == 0


def test_messages() -> None:
    bench = Bench({"igs": 2})
    bench.fault_queue()
    bench.directory(1)
    bench.write(ICVEC, 0x20, 8)
    bench.write(MSI_CFG_TBL + 32, 0x2800_0000, 8)
    bench.write(MSI_CFG_TBL + 40, 77)
    bench.write(FQCSR, EN | IE)
    bench.request(5, 0)
    bench.request(5, 0)
    assert bench.core.take_interrupts() == [(0x2800_0000, 77)]  # once, until software clears it
    assert bench.core.wires == [False] * 4
    bench.write(MSI_CFG_TBL + 44, 1)
    bench.write(IPSR, FIP)
    bench.request(5, 0)
    assert bench.core.take_interrupts() == []
    bench.write(MSI_CFG_TBL + 44, 0)
    assert bench.core.take_interrupts() == [(0x2800_0000, 77)]
    # To memory, and to nowhere.
    at = bench.allocate()
    bench.write(MSI_CFG_TBL + 32, at, 8)
    bench.write(IPSR, FIP)
    bench.request(5, 0)
    assert bench.load(at, 4) == 77
    bench.faults()
    bench.write(MSI_CFG_TBL + 32, 0x1000, 8)
    bench.write(IPSR, FIP)
    bench.request(5, 0)
    faults = bench.faults()
    assert [(fault.cause, fault.ttyp, fault.did, fault.iotval) for fault in faults] == [
        (258, 2, 5, 0),
        (273, 0, 0, 0x1000),
    ]
    assert bench.read(FQT) == bench.read(FQH)
    assert bench.read(FQCSR) & MF == 0
