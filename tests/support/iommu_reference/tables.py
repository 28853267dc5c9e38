"""Memory under construction: page tables of both stages, and how each kind of word is best damaged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .cases import BUDGET, FIRST_FREE, PAGE, RAM, SCRATCH, Capabilities, Random, mask


@dataclass
class Word:
    """A word in memory that some request may meet, and what it is."""

    address: int
    role: str
    damage: Callable[[Random, int], int]
    # In bytes; and whether it lies in memory with its most significant byte first.
    size: int = 8
    big: bool = False
    # What it belongs to: an address space or a device; and for a page-table entry an address that it maps.
    owner: object = None
    maps: int = 0


def flip(*positions: int) -> Callable[[Random, int], int]:
    return lambda rng, value: value ^ 1 << rng.choice(list(positions))


def beyond(low: int) -> Callable[[Random, int], int]:
    """A PPN field at bit `low` that points out of RAM, a little or far, or beyond the physical address."""

    def damage(rng: Random, value: int) -> int:
        number = rng.choice([0x7FFF0, 0xFFFFF, rng.bits(44), rng.bits(43) | 1 << 43, 0x10])
        return value & ~(mask(44) << low) | number << low

    return damage


def _mode(rng: Random, value: int) -> int:
    return value & mask(60) | rng.below(16) << 60


def one_of(*ways: Callable[[Random, int], int]) -> Callable[[Random, int], int]:
    return lambda rng, value: rng.choice(list(ways))(rng, value)


def _msi_mode(rng: Random, value: int) -> int:
    return value & ~6 | rng.below(4) << 1


V = flip(0)
NON_LEAF_DIRECTORY = one_of(V, V, flip(*range(1, 10), *range(54, 64)), beyond(10))
LEAF = one_of(V, flip(1, 2, 3), flip(4), flip(4), flip(6, 7), flip(6, 7), flip(5, 8, 9), flip(*range(54, 61)),
              flip(61, 62), flip(63), flip(*range(10, 20)), flip(*range(10, 54)), beyond(10))  # fmt: skip
POINTER = one_of(V, V, flip(1, 2, 3), flip(4, 6, 7), flip(5, 8, 9), flip(*range(54, 64)), beyond(10), beyond(10))
DEVICE_CONTROL = one_of(V, V, flip(*range(1, 12)), flip(*range(1, 12)), flip(*range(12, 24), *range(32, 64)),
                        flip(*range(24, 32)))  # fmt: skip
ROOT = one_of(_mode, flip(*range(44, 60)), beyond(0), flip(0, 1))
MSI_TABLE = one_of(ROOT, beyond(0), beyond(0), beyond(0))
ATTRIBUTES = one_of(flip(*range(12)), flip(*range(32, 64)), flip(*range(12, 32)))
PROCESS_ATTRIBUTES = one_of(V, V, flip(1), flip(2), flip(*range(3, 12), *range(32, 64)), flip(*range(12, 32)))
PROCESS_ROOT = one_of(_mode, flip(*range(44, 60)), beyond(0))
PATTERN = flip(*range(64))
MSI_LOW = one_of(V, V, _msi_mode, flip(63), flip(*range(3, 10), *range(54, 63)), beyond(10))
MSI_HIGH = flip(*range(64))
# Sv32 and Sv32x4: 22 bits of PPN, and neither N nor memory types.
SMALL_LEAF = one_of(V, flip(1, 2, 3), flip(4), flip(6, 7), flip(5, 8, 9), flip(*range(10, 20)), flip(*range(10, 32)))
SMALL_POINTER = one_of(V, V, flip(1, 2, 3), flip(4, 6, 7), flip(5, 8, 9), flip(*range(20, 32)))


def weight(role: str) -> int:
    context = role.startswith(("device", "MSI")) and "entry" not in role
    return {"MSI entry": 8, "MSI table": 4}.get(role, 1 if context else 4)


@dataclass(frozen=True)
class Format:
    """A scheme of page tables: how many levels of how many bits, and the size of an entry."""

    levels: int
    index_bits: int
    entry: int
    # The second stage's root is four times as large.
    wide: bool

    @property
    def address_bits(self) -> int:
        return 12 + self.levels * self.index_bits + 2 * self.wide

    @property
    def ppn_bits(self) -> int:
        return 22 if self.entry == 4 else 44

    def index(self, address: int, level: int) -> int:
        bits = self.index_bits + 2 * (self.wide and level == self.levels - 1)
        return address >> 12 + self.index_bits * level & mask(bits)

    def size(self, level: int) -> int:
        """Of a page that an entry at this level maps."""
        return PAGE << self.index_bits * level

    @property
    def leaf(self) -> Callable[[Random, int], int]:
        return SMALL_LEAF if self.entry == 4 else LEAF

    @property
    def pointer(self) -> Callable[[Random, int], int]:
        return SMALL_POINTER if self.entry == 4 else POINTER


def scheme(mode: int, small: bool, wide: bool) -> Format:
    """Of iosatp.MODE or iohgatp.MODE (`wide`), under SXL or GXL when `small`; mode 0 is Bare."""
    if mode == 0:
        return Format(0, 9, 8, wide)
    return Format(2, 10, 4, wide) if small else Format(mode - 5, 9, 8, wide)


class Builder:
    """Memory under construction."""

    def __init__(self, rng: Random, capabilities: Capabilities) -> None:
        self.rng = rng
        self.capabilities = capabilities
        self.words: dict[int, int] = {}
        self.reachable: dict[int, Word] = {}
        self.next_page = FIRST_FREE
        # DC.tc.SBE of the device whose structures are being built.
        self.guest_big = capabilities.big

    def pages(self, count: int = 1) -> int:
        """The PPN of `count` fresh pages, aligned to their number."""
        self.next_page = -(-self.next_page // count) * count
        page = self.next_page
        self.next_page += count
        return (RAM >> 12) + page

    def room(self) -> int:
        return BUDGET - self.next_page

    def put(self, address: int, value: int, role: str, damage: Callable[[Random, int], int], owner: object = None,
            maps: int = 0, size: int = 8) -> None:  # fmt: skip
        # Section 3: SBE is the order of what the guest keeps, fctl.BE that of the rest.
        big = self.guest_big if role.startswith(("first-stage", "process")) else self.capabilities.big
        self.reachable.setdefault(address, Word(address, role, damage, size, big, owner, maps))
        self.words[address] = value & mask(8 * size)

    def image(self, address: int, value: int) -> bytes:
        """A word as it lies in memory."""
        word = self.reachable[address]
        return value.to_bytes(word.size, "big" if word.big else "little")

    def images(self) -> dict[int, bytes]:
        return {address: self.image(address, value) for address, value in self.words.items()}

    def second_stage(self) -> frozenset[int]:
        """Where the entries of second-stage page tables lie."""
        return frozenset(at for at, word in self.reachable.items() if word.role.startswith("second-stage"))

    def physical_page(self, bits: int = 44) -> int:
        """Where data may lie: a page that need not be memory, since a translation does not touch it."""
        rng = self.rng
        return rng.choice([(RAM >> 12) + SCRATCH, rng.bits(bits), rng.bits(20)])

    def leaf_bits(self, user: int, form: Format) -> int:
        """A leaf's permissions and memory type: mostly all that a request may ask for."""
        rng = self.rng
        bits = 0xC1 | (0xE if rng.chance(60) else rng.choice([2, 4, 6, 8, 10, 14, 6, 14]) & 0xE) | user
        if bits & 6 == 4 and rng.chance(80):
            bits |= 2  # write without read is reserved
        if rng.chance(25):
            bits &= ~rng.choice([0x40, 0x80, 0xC0])
        if rng.chance(15):
            bits |= 1 << rng.choice([5, 8, 9])
        if form.entry == 8:
            if self.capabilities.svpbmt and rng.chance(20):
                bits |= rng.choice([1, 2]) << 61
            if self.capabilities.svrsw60t59b and rng.chance(10):
                bits |= 1 << rng.choice([59, 60])
        return bits


class SecondStage:
    """A guest's physical address space: Bare, or behind a second-stage page table (section 3.1.3.2)."""

    def __init__(self, build: Builder, mode: int, gscid: int, sxl: bool) -> None:
        self.build = build
        self.mode = mode
        self.gscid = gscid
        self.format = form = scheme(mode, build.capabilities.gxl, True)
        # What a page-table entry can point at, 56 bits, is less than Sv57x4 can translate; and SXL leaves 34.
        self.bits = min(form.address_bits, 34 if sxl else 56)
        self.table_bits = min(self.bits - 12, 22 if sxl else 44)
        self.root = build.pages(4) if mode else 0
        self.window: int | None = None
        if mode and build.rng.chance(30):
            self._map_window()

    @property
    def iohgatp(self) -> int:
        return self.mode << 60 | (self.gscid << 44 if self.mode else 0) | self.root

    def _map_window(self) -> None:
        """All of the case's memory, in one superpage of guest-physical addresses."""
        build = self.build
        # Small enough to leave room for others.
        levels = [i for i in range(1, self.format.levels) if self.format.size(i) <= 1 << self.bits - 2]
        level = build.rng.choice(levels)
        size = self.format.size(level)
        start = build.rng.bits(self.bits) & -size
        region = RAM & -size
        self.window = start - region
        self._leaf(start, region >> 12, level, build.leaf_bits(0x10, self.format) | 0xDE, "tables")

    def _leaf(self, gpa: int, page: int, level: int, bits: int, holds: str = "data") -> bool:
        """Maps a page or superpage; False when something is mapped there already."""
        build, form = self.build, self.format
        table, at = self.root, form.levels - 1
        while True:
            address = (table << 12) + form.entry * form.index(gpa, at)
            word = build.words.get(address)
            if at == level:
                if word is not None:
                    return False
                role = f"second-stage {holds}, level {level}"
                build.put(address, page << 10 | bits, role, form.leaf, self, gpa, form.entry)
                return True
            if word is None:
                word = build.pages() << 10 | 1
                build.put(address, word, "second-stage pointer", form.pointer, self, 0, form.entry)
            elif word & 0xE:
                return False
            table, at = word >> 10 & mask(44), at - 1

    def table_page(self) -> tuple[int, int]:
        """A fresh page for a structure that the guest keeps: its guest-physical and its physical PPN."""
        build = self.build
        page = build.pages()
        if self.mode == 0:
            return page, page
        if self.window is not None and build.rng.chance(80):
            return ((page << 12) + self.window & mask(self.bits)) >> 12, page
        while True:
            guest = build.rng.bits(self.table_bits)
            bits = 0xDF if build.rng.chance(85) else build.leaf_bits(0x10, self.format)
            if self._leaf(guest << 12, page, 0, bits, "tables"):
                return guest, page

    def data_page(self, size: int, ppn_bits: int = 44) -> int:
        """The guest-physical address of a mapped page of data, for a first-stage leaf of `size` bytes."""
        build, form = self.build, self.format
        rng = build.rng
        if self.mode == 0:
            return (build.physical_page(ppn_bits) << 12) & -size | rng.bits(40) & (size - 1) & -PAGE
        bits = min(self.bits, ppn_bits + 12)
        for _ in range(8):
            gpa = rng.bits(bits) & -PAGE
            level = rng.below(form.levels) if rng.chance(40) else 0
            page = build.physical_page(form.ppn_bits) & -(form.size(level) >> 12)
            flags = build.leaf_bits(0x10, form)
            if level == 0 and form.entry == 8 and rng.chance(12):
                page, flags = page & ~0xF | 8, flags | 1 << 63
            if self._leaf(gpa, page, level, flags):
                return gpa
        return rng.bits(bits) & -PAGE


class FirstStage:
    """An address space of a device's process, in its guest's memory (section 3.1.3.4)."""

    def __init__(self, build: Builder, second: SecondStage, mode: int, pscid: int, sxl: bool) -> None:
        self.build = build
        self.second = second
        self.pscid = pscid
        self.mode = mode
        self.format = scheme(mode, sxl, False)
        # Guest-physical and physical PPN of each table.
        self.root = second.table_page() if mode else (0, 0)
        self.tables = {self.root[0]: self.root[1]}
        self.addresses: list[int] = []

    @property
    def iosatp(self) -> int:
        return self.mode << 60 | self.root[0]

    def canonical(self, address: int) -> int:
        """As a request gives it: Sv39 and wider extend the sign."""
        width = self.format.address_bits
        extend = self.format.entry == 8 and address >> width - 1 & 1
        return (address | -1 << width if extend else address) & mask(64)

    def add(self, target: int | None = None) -> None:
        """Maps one more page, to `target` when given, and remembers an address in it."""
        build, form = self.build, self.format
        rng = build.rng
        level = rng.below(form.levels) if self.mode and rng.chance(35) else 0
        size = form.size(level)
        gpa = self.second.data_page(size, form.ppn_bits) if target is None else target
        if self.mode == 0:
            self.addresses.append(gpa)
            return
        address = rng.bits(form.address_bits) & -size | gpa & (size - 1)
        bits = build.leaf_bits(0x10 if rng.chance(70) else 0, form)
        page = gpa >> 12 & -(size >> 12)
        if level == 0 and form.entry == 8 and rng.chance(10):
            # The page's low bits come from the address (Svnapot): they agree with where it should lead.
            address = address & ~0xF000 | gpa & 0xF000
            page, bits = page & ~0xF | 8, bits | 1 << 63
        if self._leaf(address, page, level, bits):
            self.addresses.append(self.canonical(address))

    def _leaf(self, address: int, page: int, level: int, bits: int) -> bool:
        build, form = self.build, self.format
        table, at = self.root[1], form.levels - 1
        while True:
            slot = (table << 12) + form.entry * form.index(address, at)
            word = build.words.get(slot)
            if at == level:
                if word is not None:
                    return False
                word = (page & mask(form.ppn_bits)) << 10 | bits
                build.put(slot, word, f"first-stage data, level {level}", form.leaf, self, address, form.entry)
                return True
            if word is None:
                guest, physical = self.second.table_page()
                self.tables[guest] = physical
                word = guest << 10 | 1 | (0x20 if build.rng.chance(5) else 0)
                build.put(slot, word, "first-stage pointer", form.pointer, self, 0, form.entry)
            elif word & 0xE or word >> 10 & mask(44) not in self.tables:
                return False
            table, at = self.tables[word >> 10 & mask(44)], at - 1
