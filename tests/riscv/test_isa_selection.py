"""Harts that have not every extension: what is absent traps, and software is told what is there."""

from __future__ import annotations

import pytest

import wirt
from support.assembler import encode
from support.firmware import SPIN
from support.lab import ILLEGAL, Lab
from wirt import ConfigError, Privilege, isa

FS = 3 << 13
LEAST = {"i", "c", "zicsr", "zifencei", "privileged"}


def machine(text: str | list[str] | None) -> wirt.Machine:
    return wirt.Machine(firmware=SPIN, memory="16M", isa=text)


@pytest.mark.parametrize("row", [row for row in isa.instructions() if not row.compressed], ids=lambda row: row.name)
def test_an_instruction_needs_its_extension(row, least: Lab):
    least.csr["mstatus"] = FS
    if row.extension not in LEAST and row.name != "pause":
        # The operands are those of the match: x0 and zeroes, which no instruction minds before it is executed.
        assert least.run(row.match) == ILLEGAL
        assert least.csr["mtval"] == row.match


@pytest.fixture(scope="module")
def least():
    with machine("rv64ic") as vm:
        yield Lab(vm)


def test_pause_without_its_extension_is_a_fence(least: Lab):
    assert least.run(0x0100000F) is None


@pytest.mark.parametrize(("text", "compressed"), [("rv64ifc", 0x2000), ("rv64imac", 0x2000), ("rv64imac", 0xA000)])
def test_compressed_forms_need_what_they_stand_for(text: str, compressed: int):
    with machine(text) as vm:
        lab = Lab(vm)
        lab.csr["mstatus"] = FS
        assert lab.run(compressed) == ILLEGAL  # c.fld, c.fsd


def test_misa_and_the_fields_that_extensions_bring():
    def letters(lab: Lab) -> str:
        return "".join(chr(97 + bit) for bit in range(26) if lab.csr["misa"] >> bit & 1)

    with machine("rv64imac") as vm:
        lab = Lab(vm)
        assert letters(lab) == "acimsu"
        lab.csr["mstatus"] = FS
        assert lab.csr["mstatus"] & FS == 0
        assert lab.illegal("fcsr")
        lab.csr["menvcfg"] = (1 << 64) - 1
        assert lab.csr["menvcfg"] == 1  # FIOM
        assert lab.illegal("cycle")
        assert lab.illegal("stimecmp")
    with machine("rv64gcb_zicbom_zicboz_zicntr_sstc_svadu") as vm:
        lab = Lab(vm)
        assert letters(lab) == "abcdfimsu"
        lab.csr["menvcfg"] = (1 << 64) - 1
        assert lab.csr["menvcfg"] == 1 << 63 | 1 << 61 | 0xF1
        assert not lab.illegal("cycle")
        assert not lab.illegal("stimecmp")
        assert lab.illegal("hpmcounter3")


def test_the_device_tree_names_what_there_is():
    with machine(["rv64gc", "zbb", "sstc"]) as vm:
        assert b"i\0m\0a\0f\0d\0c\0zicsr\0zifencei\0zbb\0sstc\0" in vm.dtb
        assert b"rv64imafdc_zicsr_zifencei_zbb_sstc\0" in vm.dtb


def test_the_monitors_sbi_keeps_time_for_a_guest_without_sstc():
    from wirt.guest_image import guest_image

    with wirt.Machine(guest_image(), cmdline="echo", memory="64M", isa="rv64gc_zicntr") as vm:
        vm.start()
        vm.console.expect("echo ready", timeout=120)


def test_a_clone_and_a_restored_machine_have_the_same(tmp_path):
    with machine("rv64ic") as vm:
        vm.step()
        vm.snapshot(tmp_path / "one")
        with wirt.Machine.restore(tmp_path / "one") as restored:
            assert Lab(restored).run(encode("mul", 5, 6, 7), Privilege.machine) == ILLEGAL


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("rv64g", "every hart here has c"),
        ("rv64mac", "followed by i or g"),
        ("rv32gc", "does not begin with rv64"),
        ("rv64gc_zfoo", "no extension zfoo"),
        ("rv64gcq", "no extension q"),
        ("rv64gc_privileged", "no extension privileged"),
        ("", "does not begin"),
        ([], "does not begin"),
        ([1], "give a text"),
    ],
)
def test_no_such_hart(text, says: str):
    with pytest.raises(ConfigError, match=says):
        machine(text)
