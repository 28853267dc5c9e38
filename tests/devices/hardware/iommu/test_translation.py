"""The process to translate an IOVA: every way through it, and every cause it can stop with."""

from __future__ import annotations

import pytest

from support.iommu import (
    BARE,
    DDTP,
    DPE,
    DTF,
    EN_ATS,
    ENS,
    FCTL,
    GADE,
    OFF,
    PAGE,
    PC_V,
    PDTV,
    RAM,
    RWX,
    SADE,
    SBE,
    SUM,
    SXL,
    T2GPA,
    A,
    Bench,
    D,
    Fault,
    G,
    N,
    R,
    U,
    V,
    W,
    X,
    iodir_ddt,
    iotinval_vma,
    mode,
)

DATA = RAM + 0x80_0000
NOWHERE = 0x4000_0000  # no memory


def flush(bench: Bench) -> None:
    assert bench.command(*iodir_ddt())
    assert bench.command(*iotinval_vma())


def first_stage(bench: Bench, iova: int = 0x1000, to: int = DATA, device_id: int = 5, tc: int = 0, **how: int) -> int:
    """A device with one page mapped by Sv39; the address of its entry."""
    root = bench.table()
    bench.device(device_id, tc=tc, fsc=mode(8, root), pscid=1)
    return bench.map(root, iova, to, **how)


# --- modes of the whole ---


def test_off_refuses_everything(bench: Bench) -> None:
    bench.write(DDTP, OFF, 8)
    assert bench.request(5, 0x1234)["status"] == 1
    assert bench.request(5, 0x1234, kind="ats")["status"] == 1
    assert bench.faults() == [Fault(256, 2, 5, 0, 0, 0, 0x1234, 0), Fault(256, 8, 5, 0, 0, 0, 0x1234, 0)]


def test_bare_passes_untranslated_requests_only(bench: Bench) -> None:
    bench.write(DDTP, BARE, 8)
    assert bench.request(5, DATA, write=True)["address"] == DATA
    assert bench.core.dma_translate(5, DATA)[0] == DATA
    for kind in ("translated", "ats"):
        assert bench.request(5, DATA, kind=kind)["cause"] == 260


# --- device directory ---


@pytest.mark.parametrize("extended", [True, False])
@pytest.mark.parametrize("levels", [1, 2, 3])
def test_directories_of_each_depth(levels: int, extended: bool) -> None:
    bench = Bench({"msi_flat": extended, "msi_mrif": extended})
    bench.fault_queue()
    bench.directory(levels)
    leaf = 6 if extended else 7
    device_id = [(1 << leaf) - 1, (1 << (leaf + 9)) - 1, 0xFF_FFFF][levels - 1]
    bench.device(device_id)
    assert bench.request(device_id, DATA)["address"] == DATA
    if levels < 3:
        assert bench.request(device_id + 1, DATA)["cause"] == 260  # wider than the mode has
        assert bench.request(device_id + 1 + (1 << 23), DATA)["cause"] == 260


def test_directory_entries_that_lead_nowhere(bench: Bench) -> None:
    bench.write(DDTP, OFF, 8)
    bench.directory(2)
    entry = bench.root
    assert bench.request(0, 0)["cause"] == 258
    for reserved in (1 << 1, 1 << 9, 1 << 54, 1 << 63):
        bench.store(entry, RAM >> 2 | V | reserved)
        assert bench.request(0, 0)["cause"] == 259
    bench.store(entry, NOWHERE >> 2 | V)
    assert bench.request(0, 0)["cause"] == 257
    bench.store(entry, (1 << 64) - 1)
    assert bench.request(0, 0)["cause"] == 259
    bench.store(entry, bench.allocate() >> 2 | V)
    assert bench.request(0, 0)["cause"] == 258  # the context itself
    bench.write(DDTP, OFF, 8)
    bench.write(DDTP, NOWHERE >> 2 | 3, 8)
    assert bench.request(0, 0)["cause"] == 257
    assert set(bench.causes()) == {257, 258, 259}


MISCONFIGURED = {
    "tc reserved": {"tc": 1 << 12},
    "tc reserved, high": {"tc": 1 << 32},
    "ta reserved": {"pscid": 1 << 20},
    "iosatp reserved": {"fsc": mode(8, RAM, 1)},
    "iosatp mode": {"fsc": mode(1, RAM)},
    "T2GPA without ATS": {"tc": T2GPA, "iohgatp": mode(8, RAM)},
    "EN_PRI without ATS": {"tc": 1 << 2},
    "PRPR without EN_PRI": {"tc": EN_ATS | 1 << 6},
    "T2GPA without second stage": {"tc": EN_ATS | T2GPA},
    "pdtp mode": {"tc": PDTV, "fsc": mode(4, RAM)},
    "DPE without PDTV": {"tc": DPE},
    "iohgatp mode": {"iohgatp": mode(11, RAM)},
    "iohgatp alignment": {"iohgatp": mode(8, RAM + PAGE)},
    "Sv48 under SXL": {"tc": SXL, "fsc": mode(9, RAM)},
    "msiptp without second stage": {"msi": (mode(1, RAM), 0, 0)},
    "msiptp mode": {"iohgatp": mode(8, RAM), "msi": (mode(2, RAM), 0, 0)},
    "msi mask reserved": {"iohgatp": mode(8, RAM), "msi": (0, 1 << 52, 0)},
}


@pytest.mark.parametrize("what", MISCONFIGURED.values(), ids=MISCONFIGURED)
def test_misconfigured_device_contexts(bench: Bench, what: dict[str, int]) -> None:
    bench.device(5, **what)
    assert bench.request(5, DATA)["cause"] == 259


def test_settings_that_the_capabilities_exclude() -> None:
    bench = Bench(
        {
            "sv57": False,
            "sv57x4": False,
            "ats": False,
            "t2gpa": False,
            "amo_hwad": False,
            "end": False,
            "pd20": False,
            "gxl_writable": False,
        }
    )
    bench.directory(1)
    bench.device(1, fsc=mode(10, RAM))
    bench.device(2, iohgatp=mode(10, RAM))
    bench.device(3, tc=EN_ATS)
    bench.device(4, tc=SADE)
    bench.device(5, tc=SBE)
    bench.device(6, tc=PDTV, fsc=mode(3, RAM))
    bench.device(7, tc=SXL)
    bench.device(8, fsc=mode(9, bench.table()))
    assert [bench.request(n, 0)["cause"] for n in range(1, 9)] == [259] * 7 + [13]


def test_dtf_silences_what_it_should(bench: Bench) -> None:
    first_stage(bench, tc=DTF)
    assert bench.request(5, 0x5000)["cause"] == 13
    assert bench.request(6, 0x5000)["cause"] == 258
    assert bench.causes() == [258]


# --- first stage ---


@pytest.mark.parametrize(("satp", "levels"), [(8, 3), (9, 4), (10, 5)])
def test_modes_and_superpages(bench: Bench, satp: int, levels: int) -> None:
    root = bench.table()
    bench.device(5, fsc=mode(satp, root))
    for level in range(min(levels, 3)):
        size = PAGE << 9 * level
        iova = 3 << 30 | 5 * size if level < 2 else 7 << 30
        bench.map(root, iova, RAM // size * size, levels=levels, level=level)
        response = bench.request(5, iova + size - 8)
        assert (response["address"], response["size"]) == (RAM // size * size + size - 8, size)
    top = 1 << (11 + 9 * levels)  # sign extension
    assert bench.request(5, top)["cause"] == 13
    bench.map(root, top, DATA, levels=levels)
    assert bench.request(5, (1 << 64) - top)["address"] == DATA
    assert bench.request(5, 1 << 63)["cause"] == 13


def test_sv32(bench: Bench) -> None:
    root = bench.table()
    bench.device(5, tc=SXL, fsc=mode(8, root))
    bench.map(root, 0x7FFF_F000, DATA, levels=2, narrow=True)
    bench.map(root, 0x40_0000, RAM, levels=2, level=1, narrow=True)
    assert bench.request(5, 0x7FFF_FFF8)["address"] == DATA + 0xFF8
    assert bench.request(5, 0x41_2345)["address"] == RAM + 0x1_2345
    assert bench.request(5, 0x40_0000)["size"] == 4 << 20
    assert bench.request(5, 1 << 32 | 0x40_0000)["cause"] == 13


BAD_ENTRIES = {
    "not valid": 0,
    "write without read": V | W | U | A | D,
    "reserved bit": RWX | 1 << 54,
    "software bits without Svrsw60t59b": RWX | 1 << 59,
    "PBMT 3": RWX | 3 << 61,
    "NAPOT of a wrong size": RWX | N,
    "pointer at the last level": V,
    "pointer with A": V | A,
    "not the user's": RWX & ~U,
    "A clear": RWX & ~A,
    "all ones": (1 << 54) - 1 | N,
}


@pytest.mark.parametrize("flags", BAD_ENTRIES.values(), ids=BAD_ENTRIES)
def test_entries_that_fault(bench: Bench, flags: int) -> None:
    first_stage(bench, flags=flags)
    assert bench.request(5, 0x1008)["cause"] == 13
    assert bench.request(5, 0x1008, write=True)["cause"] == 15
    assert bench.request(5, 0x1008, execute=True)["cause"] == 12
    assert bench.faults() == [
        Fault(13, 2, 5, 0, 0, 0, 0x1008, 0),
        Fault(15, 3, 5, 0, 0, 0, 0x1008, 0),
        Fault(12, 1, 5, 0, 0, 0, 0x1008, 0),
    ]


def test_permissions(bench: Bench) -> None:
    at = first_stage(bench, flags=V | R | U | A | D)
    assert bench.request(5, 0x1000)["status"] == 0
    assert bench.request(5, 0x1000, write=True)["cause"] == 15
    assert bench.request(5, 0x1000, execute=True)["cause"] == 12
    bench.store(at, DATA >> 2 | V | X | U | A)
    flush(bench)
    assert bench.request(5, 0x1000)["cause"] == 13
    assert bench.request(5, 0x1000, execute=True)["status"] == 0
    bench.store(at, DATA >> 2 | (RWX & ~D))
    flush(bench)
    assert bench.request(5, 0x1000)["status"] == 0
    assert bench.request(5, 0x1000, write=True)["cause"] == 15


def test_misaligned_superpage(bench: Bench) -> None:
    first_stage(bench, iova=0x20_0000, to=RAM + PAGE, level=1)
    assert bench.request(5, 0x20_0000)["cause"] == 13


def test_napot(bench: Bench) -> None:
    root = bench.table()
    bench.device(5, fsc=mode(8, root))
    for n in range(16):
        bench.map(root, 0x1_0000 + n * PAGE, DATA + 0x8000, flags=RWX | N)
    for n in range(16):
        assert bench.request(5, 0x1_0000 + n * PAGE + 5)["address"] == DATA + n * PAGE + 5


def test_pbmt(bench: Bench) -> None:
    first_stage(bench, flags=RWX | 1 << 61)
    assert bench.request(5, 0x1000)["pbmt"] == 1
    plain = Bench({"svpbmt": False})
    plain.directory(1)
    first_stage(plain, flags=RWX | 1 << 61)
    assert plain.request(5, 0x1000)["cause"] == 13


def test_tables_that_are_not_memory(bench: Bench) -> None:
    bench.device(5, fsc=mode(8, NOWHERE))
    bench.device(6, fsc=mode(8, (1 << 56) - PAGE))
    root = bench.table()
    bench.device(7, fsc=mode(8, root))
    bench.store(root, NOWHERE >> 2 | V)
    for device_id in (5, 6, 7):
        assert bench.request(device_id, 0x1000)["cause"] == 5
        assert bench.request(device_id, 0x1000, write=True)["cause"] == 7
        assert bench.request(device_id, 0x1000, execute=True)["cause"] == 1


def test_a_table_that_is_its_own_child_ends(bench: Bench) -> None:
    root = bench.table()
    bench.device(5, fsc=mode(10, root))
    bench.store(root, root >> 2 | V)
    assert bench.request(5, 0)["cause"] == 13


# --- hardware update of A and D ---


def test_sade(bench: Bench) -> None:
    at = first_stage(bench, tc=SADE, flags=V | R | W | U)
    assert bench.request(5, 0x1000)["status"] == 0
    assert bench.load(at) & (A | D) == A
    assert bench.request(5, 0x1000, write=True)["status"] == 0
    assert bench.load(at) & (A | D) == A | D
    bench.store(at, DATA >> 2 | V | R | U)
    flush(bench)
    assert bench.request(5, 0x1000, write=True)["cause"] == 15
    assert bench.load(at) & (A | D) == 0  # nothing is updated by what faults


def test_gade(bench: Bench) -> None:
    root = bench.table(second=True)
    bench.device(5, tc=GADE, iohgatp=mode(8, root, 3))
    at = bench.map(root, 0x1000, DATA, flags=V | R | W | U, second=True)
    assert bench.request(5, 0x1000)["status"] == 0
    assert bench.load(at) & (A | D) == A
    assert bench.request(5, 0x1000, write=True)["status"] == 0
    assert bench.load(at) & (A | D) == A | D
    bench.device(6, iohgatp=mode(8, root, 3))
    bench.store(at, DATA >> 2 | V | R | W | U)
    flush(bench)
    assert bench.command(1 | 1 << 7, 0)
    assert bench.request(6, 0x1000)["cause"] == 21


# --- second stage and both ---


@pytest.mark.parametrize(("hgatp", "levels", "width"), [(8, 3, 41), (9, 4, 50), (10, 5, 59)])
def test_second_stage_modes(bench: Bench, hgatp: int, levels: int, width: int) -> None:
    root = bench.table(second=True)
    bench.device(5, iohgatp=mode(hgatp, root, 3))
    top = (1 << width) - PAGE
    bench.map(root, top, DATA, levels=levels, second=True)
    assert bench.request(5, top + 4)["address"] == DATA + 4
    assert bench.request(5, 1 << width)["cause"] == 21
    assert bench.request(5, 0x2468, write=True)["cause"] == 23
    assert bench.request(5, 0x2468, execute=True)["cause"] == 20
    assert [fault.iotval2 for fault in bench.faults()] == [1 << width, 0x2468, 0x2468]


def test_second_stage_pages_belong_to_users(bench: Bench) -> None:
    root = bench.table(second=True)
    bench.device(5, iohgatp=mode(8, root, 3))
    bench.map(root, 0x1000, DATA, flags=RWX & ~U, second=True)
    assert bench.request(5, 0x1000)["cause"] == 21


def nested(bench: Bench, **second: int) -> tuple[int, int]:
    """Sv39 within Sv39x4: guest page 0x10_0000 holds the first-stage root; (first root, second root)."""
    host, root = bench.allocate(16 * PAGE), bench.table(second=True)
    for n in range(16):
        bench.map(root, 0x10_0000 + n * PAGE, host + n * PAGE, second=True, **second)
    bench.map(root, 0x20_0000, DATA, second=True)
    # Root, middle and leaf of the first stage are guest pages 0, 1 and 2.
    bench.store(host, (0x10_1000 >> 2) | V)
    bench.store(host + PAGE, (0x10_2000 >> 2) | V)
    bench.store(host + 2 * PAGE + 8, (0x20_0000 >> 2) | RWX)
    bench.store(host + 2 * PAGE + 16, (0x30_0000 >> 2) | RWX)
    return host, root


def test_nested(bench: Bench) -> None:
    _, root = nested(bench)
    bench.device(5, fsc=mode(8, 0x10_0000), iohgatp=mode(8, root, 3), pscid=1)
    assert bench.request(5, 0x1008)["address"] == DATA + 8
    # A leaf of the first stage that the second does not map.
    assert bench.request(5, 0x2008, write=True)["cause"] == 23
    # An entry of the first stage that the second does not map: an implicit access.
    bench.device(6, fsc=mode(8, 0x50_0000), iohgatp=mode(8, root, 3), pscid=2)
    assert bench.request(6, 0x8000_1008)["cause"] == 21
    assert [(fault.iotval, fault.iotval2) for fault in bench.faults()] == [
        (0x2008, 0x30_0008),
        (0x8000_1008, 0x50_0010 | 1),
    ]


def test_nested_update_needs_a_writable_second_stage(bench: Bench) -> None:
    host, root = nested(bench, flags=V | R | U | A | D)
    bench.store(host + 2 * PAGE + 8, (0x20_0000 >> 2) | V | R | W | U)
    bench.device(5, tc=SADE, fsc=mode(8, 0x10_0000), iohgatp=mode(8, root, 3), pscid=1)
    assert bench.request(5, 0x1008)["cause"] == 21
    assert bench.faults()[0].iotval2 == 0x10_2008 | 3  # an implicit write


def test_nested_superpages_give_the_smaller_size(bench: Bench) -> None:
    root = bench.table(second=True)
    bench.map(root, 0, 0x8000_0000, level=2, second=True)
    first = bench.table()
    bench.map(first, 0x20_0000, 0x60_0000, level=1)
    # The first-stage table's guest address is its own under the 1 GiB page.
    bench.store(first, bench.load(first) - (0x8000_0000 >> 2))
    bench.device(5, fsc=mode(8, first - 0x8000_0000), iohgatp=mode(8, root, 3), pscid=1)
    response = bench.request(5, 0x20_1234)
    assert (response["address"], response["size"]) == (0x8060_1234, 2 << 20)


# --- processes ---


@pytest.mark.parametrize(("pdtp", "process_id"), [(1, 0xFF), (2, 0x1_FFFF), (3, 0xF_FFFF)])
def test_process_directories(bench: Bench, pdtp: int, process_id: int) -> None:
    directory, root = bench.table(), bench.table()
    bench.device(5, tc=PDTV, fsc=mode(pdtp, directory))
    bench.process(directory, pdtp, process_id, fsc=mode(8, root), pscid=9)
    bench.map(root, 0x1000, DATA)
    assert bench.request(5, 0x1000, process_id=process_id)["address"] == DATA
    assert bench.request(5, 0x1000)["address"] == 0x1000  # no process: Bare
    if pdtp < 3:
        assert bench.request(5, 0x1000, process_id=process_id + 1)["cause"] == 260
    assert bench.request(5, 0x5000, process_id=process_id, write=True)["cause"] == 15
    assert bench.faults()[-1] == Fault(15, 3, 5, 1, process_id, 0, 0x5000, 0)


def test_process_contexts_that_lead_nowhere(bench: Bench) -> None:
    directory = bench.table()
    bench.device(5, tc=PDTV, fsc=mode(2, directory))
    assert bench.request(5, 0, process_id=7)["cause"] == 266
    bench.store(directory, NOWHERE >> 2 | V)
    assert bench.request(5, 0, process_id=7)["cause"] == 265
    bench.store(directory, RAM >> 2 | V | 2)
    assert bench.request(5, 0, process_id=7)["cause"] == 267
    bench.store(directory, 0)
    at = bench.process(directory, 2, 7, fsc=mode(3))
    assert bench.request(5, 0, process_id=7)["cause"] == 267
    bench.store(at, PC_V | 1 << 3, 0)
    assert bench.request(5, 0, process_id=7)["cause"] == 267
    bench.store(at, 0, 0)
    assert bench.request(5, 0, process_id=7)["cause"] == 266
    bench.device(6)
    assert bench.request(6, 0, process_id=7)["cause"] == 260


def test_privilege(bench: Bench) -> None:
    directory, root = bench.table(), bench.table()
    bench.device(5, tc=PDTV, fsc=mode(1, directory))
    bench.map(root, 0x1000, DATA)
    bench.map(root, 0x2000, DATA + PAGE, flags=RWX & ~U)
    for process_id, ta in enumerate((PC_V, PC_V | ENS, PC_V | ENS | SUM)):
        bench.process(directory, 1, process_id, fsc=mode(8, root), ta=ta, pscid=process_id)

    def causes(process_id: int, iova: int, **how: bool) -> tuple[int, int, int]:
        return tuple(
            bench.request(5, iova, process_id=process_id, privileged=True, **access)["cause"]
            for access in ({}, {"write": True}, {"execute": True})
        )

    assert causes(0, 0x1000) == (260, 260, 260)
    assert causes(1, 0x1000) == (13, 15, 12)
    assert causes(2, 0x1000) == (0, 0, 12)
    assert causes(1, 0x2000) == (0, 0, 0)
    assert bench.request(5, 0x2000, process_id=1)["cause"] == 13
    # Without a process_id nobody is privileged.
    assert bench.request(5, 0x2000, privileged=True)["address"] == 0x2000
    assert bench.faults()[0] == Fault(260, 2, 5, 1, 0, 1, 0x1000, 0)


def test_default_process(bench: Bench) -> None:
    directory, root = bench.table(), bench.table()
    bench.device(5, tc=PDTV | DPE, fsc=mode(1, directory))
    bench.process(directory, 1, 0, fsc=mode(8, root))
    bench.map(root, 0x1000, DATA)
    assert bench.request(5, 0x1000)["address"] == DATA
    assert bench.core.dma_translate(5, 0x1000) == (DATA, PAGE)
    assert bench.request(5, 0x3000)["cause"] == 13
    assert bench.faults() == [Fault(13, 2, 5, 0, 0, 0, 0x3000, 0)]


def test_process_directory_in_guest_memory(bench: Bench) -> None:
    host, root = nested(bench)
    bench.device(5, tc=PDTV, fsc=mode(1, 0x10_8000), iohgatp=mode(8, root, 3))
    bench.store(host + 8 * PAGE + 16 * 7, PC_V | 4 << 12, mode(8, 0x10_0000))
    assert bench.request(5, 0x1000, process_id=7)["address"] == DATA
    bench.device(6, tc=PDTV, fsc=mode(1, 0x70_0000), iohgatp=mode(8, root, 3))
    assert bench.request(6, 0x1000, process_id=7, write=True)["cause"] == 23
    assert bench.faults()[0].iotval2 == 0x70_0070 | 1
    second = bench.table(second=True)
    bench.store(second, NOWHERE >> 2 | V)
    bench.device(7, tc=PDTV, fsc=mode(1, 0x1000), iohgatp=mode(8, second, 4))
    assert bench.request(7, 0, process_id=7)["cause"] == 265


# --- ATS ---


def test_translated_requests(bench: Bench) -> None:
    first_stage(bench)
    assert bench.request(5, 0x1000, kind="translated")["cause"] == 260
    assert bench.request(5, 0x1000, kind="ats")["status"] == 1
    bench.device(5, tc=EN_ATS, fsc=mode(8, bench.table()))
    flush(bench)
    assert bench.request(5, DATA, kind="translated", write=True)["address"] == DATA
    root = bench.table(second=True)
    bench.map(root, 0x1000, DATA, second=True)
    bench.device(6, tc=EN_ATS | T2GPA, fsc=mode(8, bench.table()), iohgatp=mode(8, root, 3))
    assert bench.request(6, 0x1000, kind="translated")["address"] == DATA
    assert bench.request(6, 0x2000, kind="translated", write=True)["cause"] == 23
    assert [(fault.cause, fault.ttyp) for fault in bench.faults()] == [(260, 6), (260, 8), (23, 7)]


def test_ats_translation_requests(bench: Bench) -> None:
    at = first_stage(bench, tc=EN_ATS, flags=V | R | X | U | A | G)

    def granted(**how: object) -> str:
        response = bench.request(5, 0x1000, kind="ats", **how)
        assert response["status"] == 0
        return "".join(letter for letter in "rwxu" if response[letter])

    assert granted() == "r"
    assert granted(execute=True) == "rx"
    bench.store(at, DATA >> 2 | (RWX & ~D))
    assert granted(no_write=True) == "r"
    assert granted() == ""  # D is clear and may not be set: a page fault, answered softly
    bench.store(at, DATA >> 2 | RWX)
    assert granted() == "rw"
    bench.store(at, 0)
    response = bench.request(5, 0x1000, kind="ats")
    assert (response["status"], response["cause"], response["r"], response["w"]) == (0, 13, False, False)
    assert bench.faults() == []
    bench.device(6, tc=EN_ATS, fsc=mode(8, NOWHERE))
    assert bench.request(6, 0x1000, kind="ats")["status"] == 4
    assert bench.request(7, 0x1000, kind="ats")["status"] == 1
    assert [(fault.cause, fault.ttyp) for fault in bench.faults()] == [(5, 8), (258, 8)]


def test_ats_with_pasid(bench: Bench) -> None:
    directory, root = bench.table(), bench.table()
    bench.device(5, tc=EN_ATS | PDTV, fsc=mode(1, directory))
    bench.process(directory, 1, 3, fsc=mode(8, root), ta=PC_V | ENS)
    bench.map(root, 0x1000, DATA, flags=RWX & ~U | G)
    response = bench.request(5, 0x1000, kind="ats", process_id=3, privileged=True, execute=True)
    assert [response[key] for key in ("r", "w", "x", "priv", "global")] == [True] * 5
    response = bench.request(5, 0x1000, kind="ats", process_id=4)
    assert (response["status"], response["cause"]) == (0, 266)


def test_ats_under_t2gpa_gives_guest_addresses(bench: Bench) -> None:
    _, root = nested(bench)
    bench.device(5, tc=EN_ATS | T2GPA, fsc=mode(8, 0x10_0000), iohgatp=mode(8, root, 3), pscid=1)
    response = bench.request(5, 0x1000, kind="ats", cxl=True)
    assert (response["address"], response["r"], response["w"], response["cxl_io"]) == (0x20_0000, True, True, True)


# --- byte order ---


def test_big_endian() -> None:
    bench = Bench()
    bench.write(FCTL, bench.read(FCTL) | 1)
    assert bench.read(FCTL) & 1
    bench.big_endian = True
    bench.fault_queue()
    bench.directory(2)
    root = bench.table()
    bench.device(70, tc=SBE | SADE, fsc=mode(8, root))
    at = bench.map(root, 0x1000, DATA, flags=V | R | W | U)
    assert bench.request(70, 0x1000, write=True)["address"] == DATA
    assert bench.load(at) & (A | D) == A | D
    little = bench.table()
    bench.device(71, fsc=mode(8, little))
    bench.big_endian = False
    bench.map(little, 0x1000, DATA)
    bench.big_endian = True
    assert bench.request(71, 0x1000)["address"] == DATA
    assert bench.request(72, 0x4321)["cause"] == 258
    assert bench.faults() == [Fault(258, 2, 72, 0, 0, 0, 0x4321, 0)]
