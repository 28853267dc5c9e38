"""The Bochs display: what a driver does by hand, what a hostile one does, and how harts reach video memory."""

from __future__ import annotations

import random

import pytest
from ahci_driver import CI, CLB, CMD, FB, HBFS, PORT0, PXIS, config_address, wait_for

import wirt
from support.assembler import RAM_BASE, Assembler
from support.firmware import SPIN

SLOT = 3
VRAM, MMIO = 0x5000_0000, 0x4000_0000
DISPI, QEXT, ENDIAN = MMIO + 0x500, MMIO + 0x600, MMIO + 0x604
ID, XRES, YRES, BPP, ENABLE, BANK, VIRT_WIDTH, VIRT_HEIGHT, X_OFFSET, Y_OFFSET, MEMORY_64K = range(11)
LITTLE, BIG = 0x1E1E1E1E, 0xBEBEBEBE


class Driver:
    def __init__(self, vm: wirt.Machine) -> None:
        self.vm, self.bus = vm, vm.bus
        self.place(VRAM)
        self.bus.write(config_address(SLOT, 0x18), 4, MMIO)
        self.bus.write(config_address(SLOT, 0x04), 2, 2)

    def place(self, address: int) -> None:
        self.bus.write(config_address(SLOT, 0x10), 4, address & 0xFFFF_FFFF)
        self.bus.write(config_address(SLOT, 0x14), 4, address >> 32)

    def get(self, index: int) -> int:
        return self.bus.read(DISPI + 2 * index, 2)

    def set(self, **registers: int) -> None:
        for name, value in registers.items():
            self.bus.write(DISPI + 2 * globals()[name], 2, value)

    def mode(self, width: int, height: int, bits: int = 32) -> None:
        self.set(ENABLE=0, BPP=bits, XRES=width, YRES=height, VIRT_WIDTH=width, X_OFFSET=0, Y_OFFSET=0)
        self.set(ENABLE=0x41)


@pytest.fixture
def vm():
    with wirt.Machine(memory="16M", display="bochs", resolution=(640, 480)) as machine:
        yield machine


@pytest.fixture
def display(vm):
    return Driver(vm)


def test_it_is_found_as_a_display_without_vga(vm):
    assert vm.bus.read(config_address(SLOT), 4) == 0x1111_1234
    assert vm.bus.read(config_address(SLOT, 8), 4) == 0x0380_0002
    assert vm.bus.read(config_address(SLOT, 0x2C), 4) == 0x1100_1AF4


def test_video_memory_holds_the_largest_mode():
    for resolution, memory in (((1024, 768), 16), ((3840, 2160), 32)):
        with wirt.Machine(memory="16M", display="bochs", resolution=resolution) as vm:
            display = Driver(vm)
            assert display.get(MEMORY_64K) * 65536 == memory << 20
            vm.bus.write(config_address(SLOT, 0x10), 4, 0xFFFF_FFFF)
            assert vm.bus.read(config_address(SLOT, 0x10), 4) & ~15 == -(memory << 20) & 0xFFFF_FFFF


@pytest.mark.parametrize("resolution", [(319, 480), (640, 199), (3841, 480), (640, 2161), (0, 0)])
def test_sizes_that_no_display_has_are_refused(resolution):
    with pytest.raises(wirt.ConfigError, match="320x200 to 3840x2160"):
        wirt.Machine(memory="16M", display="bochs", resolution=resolution)


def test_the_edid_names_the_resolution(vm, display):
    edid = bytes(vm.bus.read(MMIO + i, 1) for i in range(0x400))
    assert edid[:8] == b"\0\xff\xff\xff\xff\xff\xff\0"
    assert sum(edid[:128]) % 256 == 0
    assert not any(edid[128:])
    timing = edid[54:72]
    width, height = timing[2] | (timing[4] >> 4) << 8, timing[5] | (timing[7] >> 4) << 8
    assert (width, height) == (640, 480)
    h_blank, v_blank = timing[3] | (timing[4] & 15) << 8, timing[6] | (timing[7] & 15) << 8
    clock = int.from_bytes(timing[:2], "little") * 10_000
    assert 59 < clock / (width + h_blank) / (height + v_blank) <= 60


def test_it_is_black_until_a_mode_is_set(vm, display):
    assert vm.screenshot().shape == (480, 640, 3)
    assert not vm.screenshot().any()
    vm.bus.write(VRAM, 8, 0x00FF_FFFF_00FF_FFFF)
    assert not vm.screenshot().any()
    display.mode(320, 200)
    assert vm.screenshot().shape == (200, 320, 3)
    assert vm.screenshot()[0, :3].tolist() == [[255] * 3, [255] * 3, [0] * 3]


@pytest.mark.parametrize(
    ("bits", "endian", "stored", "shown"),
    [
        (32, LITTLE, b"\x30\x20\x10\xff", (0x10, 0x20, 0x30)),
        (32, BIG, b"\xff\x10\x20\x30", (0x10, 0x20, 0x30)),
        (24, LITTLE, b"\x30\x20\x10", (0x10, 0x20, 0x30)),
        (24, BIG, b"\x10\x20\x30", (0x10, 0x20, 0x30)),
        (16, LITTLE, b"\xe0\xff", (0xFF, 0xFF, 0)),
        (16, BIG, b"\x00\x1f", (0, 0, 0xFF)),
    ],
)
def test_pixels_of_each_kind(vm, display, bits, endian, stored, shown):
    display.mode(320, 200, bits)
    vm.bus.write(ENDIAN, 4, endian)
    for i, byte in enumerate(stored):
        vm.bus.write(VRAM + (320 * 7 + 5) * bits // 8 + i, 1, byte)
    assert tuple(vm.screenshot()[7, 5]) == shown
    assert vm.screenshot().astype(int).sum() == sum(shown)


def test_a_part_of_a_larger_picture_is_shown(vm, display):
    display.mode(320, 200)
    display.set(VIRT_WIDTH=1000, X_OFFSET=100, Y_OFFSET=300)
    vm.bus.write(VRAM + (1000 * (300 + 2) + 100 + 3) * 4, 4, 0x0012_3456)
    assert vm.screenshot()[2, 3].tolist() == [0x12, 0x34, 0x56]


def test_registers(vm, display):
    assert display.get(ID) == 0xB0C5
    assert vm.bus.read(QEXT, 4) == 8
    display.set(ID=7, MEMORY_64K=7, BANK=9)
    assert (display.get(ID), display.get(MEMORY_64K), display.get(BANK)) == (0xB0C5, 256, 9)
    vm.bus.write(DISPI + 2 * YRES, 4, 0x0020_00C8)  # two at once
    assert (display.get(YRES), display.get(BPP)) == (200, 32)
    vm.bus.write(DISPI + 2 * YRES, 1, 0xFF)  # not a register's width
    assert display.get(YRES) == 200
    vm.bus.write(ENDIAN, 4, 1)
    assert vm.bus.read(ENDIAN, 4) == LITTLE
    vm.bus.write(ENDIAN, 4, BIG)
    assert vm.bus.read(ENDIAN, 4) == BIG


@pytest.mark.parametrize("size", [1, 2, 4, 8])
def test_every_access_of_every_width_is_defined(vm, display, size):
    for offset in range(0, 0x1000, size):
        vm.bus.write(MMIO + offset, size, (1 << 8 * size) - 1)
        assert 0 <= vm.bus.read(MMIO + offset, size) < 1 << 8 * size
    vm.screenshot()
    for offset in (0, 8, (16 << 20) - size):
        vm.bus.write(VRAM + offset, size, (1 << 8 * size) - 2)
        assert vm.bus.read(VRAM + offset, size) == (1 << 8 * size) - 2


def test_modes_beyond_video_memory_show_nothing(vm, display):
    for i in range(0, 16 << 20, 1 << 16):
        vm.bus.write(VRAM + i, 8, (1 << 64) - 1)
    edges = (0, 1, 15, 320, 2047, 2048, 0x7FFF, 0x8000, 0xFFFF)
    chance = random.Random(7)
    for _ in range(300):
        values = {name: chance.choice(edges) for name in ("XRES", "YRES", "VIRT_WIDTH", "X_OFFSET", "Y_OFFSET")}
        display.set(**values, BPP=chance.choice((0, 1, 8, 15, 16, 24, 32, 0xFFFF)), ENABLE=1)
        height, width, _ = vm.screenshot().shape
        assert (width, height) in ((values["XRES"], values["YRES"]), (640, 480))
    # The last pixel just fits, and then does not.
    display.mode(2048, 2048)
    vm.bus.write(VRAM + (16 << 20) - 4, 4, 0xFF)
    assert vm.screenshot()[2047, 2047].tolist() == [0, 0, 255]
    display.set(X_OFFSET=1)
    assert vm.screenshot().shape == (480, 640, 3)


def test_reset_and_state(vm, display):
    display.mode(320, 200)
    before = vm.state_hash()
    vm.bus.write(VRAM + 0x1234, 1, 5)
    changed = vm.state_hash()
    assert changed != before
    vm.bus.write(VRAM + 0x1234, 1, 0)
    assert vm.state_hash() == before


# --- how harts reach video memory ---

T0, T1, T2, A0 = 5, 6, 7, 10


def run(vm: wirt.Machine, asm: Assembler, count: int = 100) -> None:
    """Runs a program at 0x80000000 in M-mode until it stands in `j .`, where traps lead as well."""
    end = asm.label("end")
    asm.jump("end")
    image = asm.assemble()
    vm.memory[RAM_BASE : RAM_BASE + len(image)] = image
    vm.harts[0].csr["mtvec"] = end
    vm.harts[0].pc = RAM_BASE
    vm.step(count)


@pytest.fixture
def bare():
    with wirt.Machine(memory="16M", display="bochs", firmware=SPIN) as machine:
        yield machine


def test_stores_and_loads_of_every_width_exit_nowhere(bare):
    Driver(bare)
    exits = bare.stats().total_exits
    asm = Assembler()
    asm.li(T0, VRAM)
    asm.li(T1, 0x8182_8384_8586_8788)
    stores = (("sb", 0), ("sh", 2), ("sw", 4), ("sd", 8), ("sd", 7), ("sw", 21))
    for name, offset in stores:
        asm.op(name, rs1=T0, rs2=T1, imm=offset)
    asm.li(T0, VRAM + 0xFFC)
    asm.op("sd", rs1=T0, rs2=T1)  # crosses a page
    asm.op("ld", rd=A0, rs1=T0)
    run(bare, asm)
    assert bare.harts[0].x[A0] == 0x8182_8384_8586_8788
    assert bare.stats().total_exits == exits
    expected = bytearray(0x1004)
    value = (0x8182_8384_8586_8788).to_bytes(8, "little")
    for (_, offset), size in zip((*stores, ("sd", 0xFFC)), (1, 2, 4, 8, 8, 4, 8), strict=True):
        expected[offset : offset + size] = value[:size]
    assert bytes(bare.bus.read(VRAM + i, 1) for i in range(len(expected))) == bytes(expected)


@pytest.mark.parametrize("warm", [False, True])
@pytest.mark.parametrize(("name", "cause"), [("amoadd.w", 7), ("lr.w", 5), ("sc.w", 7)])
def test_atomics_do_not_work_on_it(bare, name, cause, warm):
    Driver(bare)
    asm = Assembler()
    asm.li(T0, VRAM)
    if warm:  # the page is in the TLB
        asm.op("sw", rs1=T0, rs2=0)
        asm.op("lw", rd=A0, rs1=T0)
    asm.op(name, rd=A0, rs1=T0, **({} if name == "lr.w" else {"rs2": T0}))
    run(bare, asm)
    assert bare.harts[0].csr["mcause"] == cause
    assert bare.harts[0].csr["mtval"] == VRAM


def test_nothing_is_fetched_from_it(bare):
    Driver(bare)
    bare.bus.write(VRAM, 4, 0x13)
    bare.harts[0].csr["mtvec"] = RAM_BASE
    bare.harts[0].pc = VRAM
    bare.step()
    assert bare.harts[0].csr["mcause"] == 1


def test_a_bar_that_moves_takes_its_memory_along(bare):
    display = Driver(bare)
    asm = Assembler()
    asm.li(T0, VRAM)
    asm.li(T1, 0x11)
    asm.op("sw", rs1=T0, rs2=T1)
    asm.op("lw", rd=T2, rs1=T0)
    run(bare, asm)
    # The harts have seen the page; it now answers elsewhere, and then nowhere.
    display.place(0x6000_0000)
    assert bare.bus.read(0x6000_0000, 4) == 0x11
    asm = Assembler()
    asm.li(T0, VRAM)
    asm.op("lw", rd=T2, rs1=T0)
    run(bare, asm)
    assert bare.harts[0].x[7] == 0xFFFF_FFFF_FFFF_FFFF, "nobody claims the old address: all ones, sign extended"
    bare.bus.write(config_address(SLOT, 4), 2, 0)
    assert bare.bus.read(0x6000_0000, 4) == 0xFFFF_FFFF


def test_dma_does_not_reach_it():
    """An AHCI controller that is told to read its command list from video memory finds nothing there."""
    with wirt.Machine(memory="64M", display="bochs", disks=[wirt.Disk.memory("1M", bus="ahci")]) as vm:
        bus = vm.bus
        ahci = 0x4800_0000
        Driver(vm)
        bus.write(config_address(1, 0x24), 4, ahci)
        bus.write(config_address(1, 0x04), 2, 6)
        for offset, value in ((CLB, VRAM), (FB, VRAM + 0x1000), (CMD, 1 << 4), (CMD, 1 << 4 | 1)):
            bus.write(ahci + PORT0 + offset, 4, value)
        vram = [bus.read(VRAM + 0x1000 + i, 8) for i in range(0, 0x100, 8)]
        bus.write(ahci + PORT0 + CI, 4, 1)
        wait_for(lambda: bus.read(ahci + PORT0 + PXIS, 4) & HBFS, "the host bus error")
        assert [bus.read(VRAM + 0x1000 + i, 8) for i in range(0, 0x100, 8)] == vram
