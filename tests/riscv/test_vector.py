"""What random programs do not show of vectors: accesses that are taken up again, VS, saved state, and the width."""

from __future__ import annotations

import struct

import pytest

import wirt
from support.assembler import RAM_BASE, encode
from support.firmware import SPIN
from support.lab import ILLEGAL, Lab

VS = 3 << 9
DIRTY_VS, INITIAL_VS = 3 << 9, 1 << 9
END = RAM_BASE + (16 << 20)
E8_M1, E32_M1, E64_M8 = 0, 2 << 3, 3 << 3 | 3
STORE_ACCESS, LOAD_ACCESS = 7, 5


@pytest.fixture(name="lab")
def lab_fixture():
    with wirt.Machine(firmware=SPIN, memory="16M", isa=f"{wirt.isa.DEFAULT}_v_zvl256b", deterministic=True) as vm:
        lab = Lab(vm)
        lab.csr["mstatus"] = VS
        yield lab


def configure(lab: Lab, vtype: int, vl: int) -> None:
    lab.x["t1"] = vl
    assert lab.run(encode("vsetvli", 5, 6) | vtype << 20) is None
    assert lab.x["t0"] == vl


@pytest.mark.parametrize("vlen", [128, 256, 512, 1024])
def test_the_width_is_the_machines(vlen: int):
    with wirt.Machine(firmware=SPIN, memory="16M", isa=["rv64gcv", f"zvl{vlen}b"]) as vm:
        lab = Lab(vm)
        lab.csr["mstatus"] = VS
        assert lab.access("vlenb") == vlen // 8
        assert [len(lab.hart.v[i]) for i in (0, 31)] == [vlen // 8] * 2
        assert lab.run(encode("vsetvli", 5, 0) | E64_M8 << 20) is None
        assert lab.x["t0"] == vlen // 8
        with pytest.raises(ValueError, match=f"has {vlen // 8} bytes"):
            lab.hart.v[1] = b"short"


def test_a_hart_without_vectors_has_none():
    with wirt.Machine(firmware=SPIN, memory="16M") as vm:
        assert len(vm.harts[0].v) == 0
        with pytest.raises(IndexError, match="no vector registers"):
            vm.harts[0].v[0]
        with pytest.raises(KeyError):
            vm.harts[0].csr["vtype"]
        vm.harts[0].csr["mstatus"] = VS
        assert vm.harts[0].csr["mstatus"] & VS == 0


@pytest.mark.parametrize("text", ["rv64gc_zve64d", "rv64gc_zvl256b"])
def test_parts_of_v_are_not_to_be_had(text: str):
    with pytest.raises(wirt.ConfigError, match="as v only"):
        wirt.Machine(firmware=SPIN, memory="16M", isa=text)


def test_vs_off_makes_everything_of_vectors_illegal(lab: Lab):
    lab.csr["mstatus"] = 0
    for raw in (
        encode("vsetvli", 5, 0),
        encode("vl1re8.v", 8, 6),
        encode("vmv.v.i", 8),
        encode("csrrs", 5, 0, csr="vl"),
    ):
        assert lab.run(raw) == ILLEGAL


def test_vs_becomes_dirty_with_what_is_written(lab: Lab):
    for raw in (encode("vsetvli", 5, 0), encode("vmv.v.i", 8), encode("csrrwi", 0, imm=1, csr="vxrm")):
        lab.csr["mstatus"] = INITIAL_VS
        assert lab.run(raw) is None
        assert lab.csr["mstatus"] & VS == DIRTY_VS
        assert lab.csr["mstatus"] >> 63 == 1
    lab.csr["mstatus"] = INITIAL_VS
    assert lab.run(encode("csrrs", 5, 0, csr="vl")) is None
    assert lab.csr["mstatus"] & VS == INITIAL_VS


@pytest.mark.parametrize("store", [False, True])
def test_an_access_that_trapped_goes_on_where_it_was(lab: Lab, store: bool):
    configure(lab, E32_M1, 8)
    data = struct.pack("<8I", *range(100, 108))
    address = END - 12  # three elements fit
    lab.hart.v[4] = data if store else bytes(32)
    lab.vm.memory[address:END] = bytes(12) if store else data[:12]
    access = encode("vse32.v" if store else "vle32.v", 4, 10) | 1 << 25
    lab.x["a0"] = address
    assert lab.run(access) == (STORE_ACCESS if store else LOAD_ACCESS)
    assert (lab.csr["vstart"], lab.csr["mtval"]) == (3, END)
    # Arithmetic cannot begin in the middle.
    assert lab.run(encode("vadd.vv", 8, 4, 4) | 1 << 25) == ILLEGAL
    # As if the page had come meanwhile: the first three elements are not touched again.
    elsewhere = RAM_BASE + 0x10_0000
    lab.x["a0"] = elsewhere
    lab.vm.memory[elsewhere : elsewhere + 32] = bytes(32) if store else struct.pack("<8I", *range(200, 208))
    assert lab.run(access) is None
    assert lab.csr["vstart"] == 0
    if store:
        assert bytes(lab.vm.memory[address:END]) == data[:12]
        assert bytes(lab.vm.memory[elsewhere : elsewhere + 32]) == bytes(12) + data[12:]
    else:
        assert struct.unpack("<8I", lab.hart.v[4]) == (100, 101, 102, 203, 204, 205, 206, 207)


def test_fault_only_first_ends_before_what_traps(lab: Lab):
    configure(lab, E8_M1, 32)
    lab.x["a0"] = END - 5
    lab.vm.memory[END - 5 : END] = b"Wirt."
    assert lab.run(encode("vle8ff.v", 4, 10) | 1 << 25) is None
    assert (lab.csr["vl"], lab.csr["vstart"]) == (5, 0)
    assert lab.hart.v[4][:5] == b"Wirt."
    lab.x["a0"] = END
    assert lab.run(encode("vle8ff.v", 4, 10) | 1 << 25) == LOAD_ACCESS
    assert lab.csr["vl"] == 5


def test_code_that_a_vector_store_writes_is_what_runs(lab: Lab):
    """The store TLB has no page that holds decoded code, also for many elements at once."""
    code = RAM_BASE + 0x3000
    new = struct.pack("<2I", encode("addi", 28, 0, imm=7), encode("jal", 0, imm=0))
    lab.vm.memory[code : code + 12] = struct.pack(
        "<3I", encode("vse32.v", 4, 10) | 1 << 25, encode("addi", 28, 0, imm=1), encode("jal", 0, imm=0)
    )
    configure(lab, E32_M1, 2)
    lab.hart.v[4] = new + bytes(24)
    for _ in range(2):
        lab.x["a0"] = code + 4
        lab.hart.pc = code
        lab.vm.run_for(3)
    assert lab.x["t3"] == 7


def test_state_is_saved_and_hashed(lab: Lab, tmp_path):
    configure(lab, E32_M1, 5)
    for i in range(32):
        lab.hart.v[i] = bytes((i, *range(31)))
    lab.csr["vstart"], lab.csr["vcsr"] = 3, 5
    before = lab.vm.state_hash()
    lab.vm.snapshot(tmp_path / "one")
    lab.hart.v[31] = bytes(32)
    assert lab.vm.state_hash() != before
    with wirt.Machine.restore(tmp_path / "one") as restored:
        hart = restored.harts[0]
        assert restored.state_hash() == before
        assert hart.v[31] == bytes((31, *range(31)))
        assert [hart.csr[name] for name in ("vl", "vtype", "vstart", "vcsr")] == [5, E32_M1, 3, 5]
