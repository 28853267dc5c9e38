"""The board's device tree says what the bindings ask for, and a foreign tree is checked before it is used."""

from __future__ import annotations

import contextlib
import shutil
import struct
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from image_builders import MIB, RAM_BASE, Node, Segment, elf64, parse_dtb

import wirt

HARTS = 3
EDGES = ("start", "end")
JUMP_TO_ITSELF = b"\x6f\x00\x00\x00"


KERNEL = elf64([Segment(RAM_BASE, JUMP_TO_ITSELF)], RAM_BASE)


@pytest.fixture(scope="module")
def dtb() -> bytes:
    with wirt.Machine(kernel=KERNEL, cmdline="console=ttyS0 quiet", memory="64M", cpus=HARTS) as vm:
        return vm.dtb


@pytest.fixture(scope="module")
def tree(dtb: bytes) -> Node:
    return parse_dtb(dtb)


def soc_phandle(tree: Node, name: str) -> int:
    return tree["soc"][name].cells("phandle")[0]


def test_chosen_and_memory(tree: Node):
    assert tree["chosen"].text("bootargs") == "console=ttyS0 quiet"
    assert tree["chosen"].text("stdout-path") == "/soc/serial@10000000"
    assert len(tree["chosen"].properties["rng-seed"]) >= 32
    assert "linux,initrd-start" not in tree["chosen"].properties
    assert tree["memory@80000000"].cells("reg") == [0, RAM_BASE, 0, 64 * MIB]


def test_cpus(tree: Node):
    cpus = tree["cpus"]
    assert cpus.cells("timebase-frequency") == [10_000_000]
    for hart in range(HARTS):
        cpu = cpus[f"cpu@{hart:x}"]
        assert cpu.cells("reg") == [hart]
        assert cpu.text("riscv,isa-base") == "rv64i"
        extensions = cpu.texts("riscv,isa-extensions")
        assert {"i", "m", "a", "f", "d", "c", "zicsr", "zifencei", "sstc"} <= set(extensions)
        legacy = cpu.text("riscv,isa").split("_")
        assert legacy[0].startswith("rv64imafdc")
        assert sorted(legacy[1:]) == sorted(name for name in extensions if len(name) > 1)
        assert cpu.text("mmu-type") in {"riscv,sv39", "riscv,sv48", "riscv,sv57"}
        assert cpu["interrupt-controller"].text("compatible") == "riscv,cpu-intc"


def test_phandles_are_unique_and_references_resolve(tree: Node):
    phandles = [node.cells("phandle")[0] for node in tree.walk() if "phandle" in node.properties]
    assert len(set(phandles)) == len(phandles)
    for node in tree.walk():
        for name in ("interrupt-parent", "regmap", "cpu"):
            if name in node.properties:
                assert node.cells(name)[0] in phandles


def test_plic_contexts_are_machine_then_supervisor_of_each_hart(tree: Node):
    plic = tree["soc/plic@c000000"]
    assert plic.texts("compatible") == ["sifive,plic-1.0.0", "riscv,plic0"]
    interrupt_controllers = [
        tree["cpus"][f"cpu@{hart}"]["interrupt-controller"].cells("phandle")[0] for hart in range(HARTS)
    ]
    expected = [cell for phandle in interrupt_controllers for cell in (phandle, 11, phandle, 9)]
    assert plic.cells("interrupts-extended") == expected


def test_pcie_interrupts_are_swizzled(tree: Node):
    pci = tree["soc/pci@30000000"]
    assert pci.cells("interrupt-map-mask") == [0x1800, 0, 0, 7]
    cells = pci.cells("interrupt-map")
    entries = [cells[i : i + 6] for i in range(0, len(cells), 6)]
    plic = soc_phandle(tree, "plic@c000000")
    assert entries == [
        [device << 11, 0, 0, pin, plic, 32 + (device + pin - 1) % 4] for device in range(4) for pin in (1, 2, 3, 4)
    ]


@pytest.mark.parametrize(("firmware", "causes"), [(False, [9]), (True, [11, 9])])
@pytest.mark.parametrize("interrupts", ["aplic", "aia"])
def test_the_advanced_interrupt_architecture(interrupts: str, firmware: bool, causes: list[int]):
    image = {"firmware": JUMP_TO_ITSELF} if firmware else {"kernel": KERNEL}
    aia = interrupts == "aia"
    with wirt.Machine(**image, memory="64M", cpus=HARTS, interrupts=interrupts, guest_files=2 if aia else 0) as vm:
        tree = parse_dtb(vm.dtb)
    harts = [tree["cpus"][f"cpu@{hart}"]["interrupt-controller"].cells("phandle")[0] for hart in range(HARTS)]
    levels = {11: ("c000000", "24000000"), 9: ("d000000", "28000000")}
    soc = tree["soc"]
    controllers = {node.name for node in soc.children if node.name.startswith(("interrupt-controller", "plic"))}
    assert controllers == {f"interrupt-controller@{levels[cause][i]}" for cause in causes for i in range(1 + aia)}

    for cause in causes:
        aplic, imsic = (f"interrupt-controller@{address}" for address in levels[cause])
        domain = soc[aplic]
        assert domain.text("compatible") == "riscv,aplic"
        assert domain.cells("riscv,num-sources") == [96]
        wired = [cell for hart in harts for cell in (hart, cause)]
        if aia:
            files = soc[imsic]
            assert files.text("compatible") == "riscv,imsics"
            assert files.cells("interrupts-extended") == wired
            assert files.cells("riscv,num-ids") == [255]
            assert files.cells("reg")[3] == 0x1000 * HARTS * (4 if cause == 9 else 1)
            assert domain.cells("msi-parent") == files.cells("phandle")
        else:
            assert domain.cells("interrupts-extended") == wired
    supervisor = soc_phandle(tree, "interrupt-controller@d000000")
    if firmware:
        assert soc["interrupt-controller@c000000"].cells("riscv,delegation") == [supervisor, 1, 96]
        assert soc["interrupt-controller@c000000"].cells("riscv,children") == [supervisor]
    # Level-high (4) at the supervisor domain; a new generation is an edge (1).
    assert soc["rng@102000"].cells("interrupts") == [12, 1]
    assert soc["serial@10000000"].cells("interrupts") == [10, 4]
    assert soc["serial@10000000"].cells("interrupt-parent") == [supervisor]
    pci = soc["pci@30000000"]
    assert pci.cells("interrupt-map")[:7] == [0, 0, 0, 1, supervisor, 32, 4]
    assert ("msi-parent" in pci.properties) == aia
    assert ("smaia" in tree["cpus/cpu@0"].texts("riscv,isa-extensions")) == aia


def test_the_generation_id_follows_its_binding(tree: Node):
    node = tree["soc/rng@102000"]
    assert node.texts("compatible") == ["microsoft,vmgenid"]
    assert node.cells("reg") == [0, 0x10_2000, 0, 0x1000]
    assert node.cells("interrupts") == [12]


def test_poweroff_and_reboot_write_the_test_device(tree: Node):
    test = soc_phandle(tree, "test@100000")
    assert tree["poweroff"].cells("regmap") == tree["reboot"].cells("regmap") == [test]
    assert tree["poweroff"].cells("value") == [0x5555]
    assert tree["reboot"].cells("value") == [0x7777]


def test_the_aclint_is_shown_to_machine_mode_only(tree: Node):
    assert not any(node.name.startswith("clint") for node in tree["soc"].children)
    with wirt.Machine(firmware=JUMP_TO_ITSELF, memory="64M") as vm:
        assert parse_dtb(vm.dtb)["soc/clint@2000000"].texts("compatible") == ["sifive,clint0", "riscv,clint0"]


def test_initrd_is_in_memory_where_the_tree_says():
    content = bytes(range(256)) * 33 + b"end"
    with wirt.Machine(kernel=KERNEL, initrd=content, memory="64M") as vm:
        chosen = parse_dtb(vm.dtb)["chosen"]
        start, end = (struct.unpack(">Q", chosen.properties[f"linux,initrd-{edge}"])[0] for edge in EDGES)
        assert start % 4096 == 0
        assert vm.memory[start:end] == content


@pytest.mark.skipif(shutil.which("dtc") is None, reason="needs dtc, the device tree compiler")
def test_dtc_has_nothing_to_complain_about(dtb: bytes, tmp_path: Path):
    file = tmp_path / "board.dtb"
    file.write_bytes(dtb)
    done = subprocess.run(["dtc", "-I", "dtb", "-O", "dts", file], capture_output=True, check=True, text=True)
    assert done.stderr == ""


# --- a tree that the user supplies ---


def start_with(dtb: bytes) -> bytes:
    """Builds a machine with a given device tree; returns what the machine then shows."""
    with wirt.Machine(kernel=KERNEL, dtb=dtb, memory="16M") as vm:
        return vm.dtb


def header(dtb: bytes, **fields: int) -> bytes:
    """The blob with header fields replaced (Devicetree Specification 0.4, 5.2)."""
    names = ["magic", "totalsize", "off_dt_struct", "off_dt_strings", "off_mem_rsvmap", "version", "last_comp_version"]
    names += ["boot_cpuid_phys", "size_dt_strings", "size_dt_struct"]
    changed = bytearray(dtb)
    for name, value in fields.items():
        struct.pack_into(">I", changed, 4 * names.index(name), value)
    return bytes(changed)


def test_a_good_tree_replaces_ours(dtb: bytes):
    assert start_with(dtb) == dtb


def test_a_supplied_tree_learns_the_command_line_and_the_initrd(dtb: bytes):
    with wirt.Machine(kernel=KERNEL, dtb=dtb, cmdline="root=/dev/vda", initrd=b"initrd", memory="64M") as vm:
        tree = parse_dtb(vm.dtb)
        start, end = (struct.unpack(">Q", tree["chosen"].properties[f"linux,initrd-{edge}"])[0] for edge in EDGES)
        assert tree["chosen"].text("bootargs") == "root=/dev/vda"
        assert vm.memory[start:end] == b"initrd"
    before = parse_dtb(dtb)
    assert tree["chosen"].properties["rng-seed"] == before["chosen"].properties["rng-seed"]
    assert tree["soc"] == before["soc"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda dtb: dtb[:39], "shorter than the 40-byte header"),
        (lambda dtb: b"/dts-v1/;\n" + bytes(40), "compiled with dtc"),
        (lambda dtb: dtb[:-1], "truncated"),
        (lambda dtb: header(dtb, totalsize=39), "totalsize"),
        (lambda dtb: header(dtb, version=16), "not compatible"),
        (lambda dtb: header(dtb, last_comp_version=18), "not compatible"),
        (lambda dtb: header(dtb, off_dt_struct=0xFFFF_FFFC), "structure block lies outside"),
        (lambda dtb: header(dtb, size_dt_struct=0xFFFF_FFFF), "structure block lies outside"),
        (lambda dtb: header(dtb, off_dt_strings=len(dtb)), "strings block lies outside"),
        (lambda dtb: header(dtb, size_dt_strings=0), "name lies outside the strings block"),
        (lambda dtb: header(dtb, off_mem_rsvmap=len(dtb) - 8), "memory reservation block does not end"),
        (lambda dtb: header(dtb, off_mem_rsvmap=41), "misaligned"),
        (lambda dtb: header(dtb, size_dt_struct=4), "not terminated|ends without FDT_END"),
    ],
)
def test_a_broken_tree_is_refused(dtb: bytes, change, reason: str):
    with pytest.raises(wirt.ImageError, match=reason):
        start_with(change(dtb))


def blob(structure: list[int], strings: bytes = b"name\0") -> bytes:
    """A blob from the tokens of a structure block."""
    block = struct.pack(f">{len(structure)}I", *structure)
    size = 56 + len(block) + len(strings)
    fields = (0xD00DFEED, size, 56, 56 + len(block), 40, 17, 16, 0, len(strings), len(block))
    return struct.pack(">10I16x", *fields) + block + strings


BEGIN, END_NODE, PROP, NOP, END = 1, 2, 3, 4, 9
CHILD = [BEGIN, 0x61000000]


@pytest.mark.parametrize(
    ("structure", "reason"),
    [
        ([END], "no root"),
        ([BEGIN, 0, END], "FDT_END inside a node"),
        ([END_NODE, END], "without a node"),
        ([BEGIN, 0, END_NODE, BEGIN, 0, END_NODE, END], "more than one root"),
        ([*CHILD, END_NODE, END], "root node has a name"),
        ([BEGIN, 0, BEGIN, 0, END_NODE, END_NODE, END], "no name"),
        ([BEGIN, 0, BEGIN, 0x61616161], "not terminated"),
        ([BEGIN, 0, PROP, 5, 0, 0, END_NODE], "ends without FDT_END|runs out|unknown token"),
        ([BEGIN, 0, PROP, 0xFFFFFFFF, 0, END_NODE, END], "runs out"),
        ([BEGIN, 0, *CHILD, END_NODE, PROP, 0, 0, END_NODE, END], "behind a child"),
        ([PROP, 0, 0, END], "outside a node"),
        ([BEGIN, 0, 7, END_NODE, END], "unknown token 7"),
        ([BEGIN, 0, *CHILD * 100, *[END_NODE] * 101, END], "too deep"),
        ([NOP], "ends without FDT_END"),
    ],
)
def test_a_broken_structure_block_is_refused(structure: list[int], reason: str):
    with pytest.raises(wirt.ImageError, match=reason):
        start_with(blob(structure))


@settings(max_examples=200, deadline=None)
@given(changes=st.lists(st.tuples(st.integers(0, 1 << 16), st.integers(0, 255)), min_size=1, max_size=4))
def test_changed_bytes_are_refused_or_harmless(dtb: bytes, changes: list[tuple[int, int]]):
    changed = bytearray(dtb)
    for position, value in changes:
        changed[position % len(changed)] = value
    with contextlib.suppress(wirt.ImageError):
        start_with(bytes(changed))
