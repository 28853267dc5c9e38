"""Random programs of vector instructions, from the tables, for comparison with an outside simulator.

The frame is that of random_programs: straight-line code in M-, S- or U-mode, a handler that logs each trap and skips
the instruction. Beside the scalar registers each chunk stores all vector registers and the vector CSRs. A third base
leads to the edge of what can be accessed (the end of memory, or a page that is not mapped), so that accesses trap in
the middle; the handler then leaves vstart behind every other time. The generator knows the vtype that is in force and
mostly draws registers that fit it, so that most instructions execute.
"""

from __future__ import annotations

from wirt import _core, isa

from .assembler import RAM_BASE, encode
from .random_programs import (
    DUMP_SIZE,
    TABLES,
    Generator,
    Program,
    interesting,
)

EXTENSIONS = ("v", "zvbb", "zvbc", "zvkb", "zvkg", "zvkned", "zvknha")
# What they stand for in an ISA string, Wirt's and Spike's.
NAMES = "v_zvfh_zvbb_zvbc_zvkng"
VLENS = (128, 256, 512, 1024)
SPIKE_ISA = "rv64imafdcv_zicsr_zifencei_zicntr_zihpm_zicclsm_zfh_zvfh_zvbb_zvbc_zvkng_zvl{}b_zba_zbb_zbs_zawrs" \
    "_zicbom_zicbop_zicboz_sstc_svinval_svadu"  # fmt: skip
WIRT_ISA = "rv64gc_zicntr_zihpm_zba_zbb_zbs_zawrs_zicbom_zicbop_zicboz_sstc_svinval_svadu_{}_zvl{}b"

MEMORY_END = RAM_BASE + (16 << 20)
VALUES = TABLES + 0x10_0000
INDICES = VALUES + 0x2000  # four tables of 0x1000: indices of each width
# Where there is translation this page is not mapped, and the edge is its beginning; else the end of memory is.
HOLE = VALUES + 0x8000
HALVES = [0, 0x8000, 0x3C00, 0xBC00, 0x7C00, 0xFC00, 0x7E00, 0x7C01, 0xFE03, 1, 0x3FF, 0x400, 0x7BFF, 0x3800, 0x6400]

LMULS = {-3: 5, -2: 6, -1: 7, 0: 0, 1: 1, 2: 2, 3: 3}


def vtype(sew: int, lmul: int, policy: int = 0) -> int:
    """The field's value; both by their logarithms, SEW in bytes."""
    return policy << 6 | sew << 3 | LMULS[lmul]


class VectorGenerator(Generator):
    """Writes one program."""

    log_entry = 48
    status = 3 << 9

    def __init__(self, seed: int, *, vlen: int, chunks: int = 24, items: int = 40, iterations: int = 2) -> None:
        super().__init__(seed, chunks=chunks, items=items, iterations=iterations)
        rng = self.rng
        self.vlen = vlen
        self.edge = rng.choice([r for r in self.free if r])
        self.free = [r for r in self.free if r != self.edge]
        self.edge_address = MEMORY_END if self.satp == "bare" else HOLE
        self.hole = HOLE
        self.isa, self.oracle_isa = WIRT_ISA.format(NAMES, vlen), SPIKE_ISA.format(vlen)
        self.rows = [row for row in isa.instructions() if row.extension in EXTENSIONS]
        # All of loads and stores together as often as the rest, or nearly.
        self.weights = [
            0.3 if row.format in ("VL", "VLS", "VLX") else 2 if row.extension.startswith("zvk") else 1
            for row in self.rows
        ]
        self.sew, self.lmul, self.known = 0, 0, False
        self.dump_size = DUMP_SIZE + 64 + 4 * vlen

    # --- vtype ---

    def configure(self, sew: int, lmul: int, multiple: int = 1) -> list[int]:
        """vtype and vl; the latter often VLMAX, sometimes 0 or more than VLMAX."""
        rng = self.rng
        self.sew, self.lmul, self.known = sew, lmul, True
        most = int(self.vlen / 8 / 2**sew * 2.0**lmul)
        kind = rng.random()
        wanted = most if kind < 0.35 else rng.randrange(most * 2 + 2) if kind < 0.4 else rng.randrange(most + 1)
        wanted -= wanted % multiple
        value = vtype(sew, lmul, rng.randrange(4))
        scratch = self.scratch()
        if kind < 0.2:
            return [encode("vsetvli", rng.choice([r for r in self.free if r]), 0) | value << 20]
        if wanted < 32 and rng.random() < 0.5:
            return [encode("vsetivli", self.destination(), wanted) | value << 20]
        code = [encode("addi", scratch, 0, imm=wanted)]
        if rng.random() < 0.3:
            other = rng.choice([r for r in self.free if r not in (0, scratch)])
            return [*code, encode("addi", other, 0, imm=value), encode("vsetvl", self.destination(), scratch, other)]
        return [*code, encode("vsetvli", self.destination(), scratch) | value << 20]

    def any_configuration(self) -> list[int]:
        rng = self.rng
        if rng.random() < 0.03:
            # Perhaps reserved; the vtype in force is then unknown, and restored by the next one.
            raw = encode("vsetvli", self.destination(), self.source()) | rng.getrandbits(11) << 20
            self.known = rng.random() < 0.7
            return [raw, *(self.any_configuration() if self.known else [])]
        if rng.random() < 0.05:
            # Keeps vl, which is legal where VLMAX stays what it is.
            up = rng.choice((-1, 0, 1))
            sew, lmul = self.sew + up, self.lmul + up
            if self.known and 0 <= sew <= 3 and -3 <= lmul <= 3 and sew <= 3 + min(lmul, 0):
                self.sew, self.lmul = sew, lmul
                return [encode("vsetvli", 0, 0) | vtype(sew, lmul, rng.randrange(4)) << 20]
        sew = rng.randrange(4)
        lmul = rng.choice([i for i in range(-3, 4) if sew <= 3 + min(i, 0)])
        return self.configure(sew, lmul, rng.choice((1, 1, 4)))

    def scratch(self) -> int:
        return self.rng.choice([r for r in self.free if r])

    # --- instructions ---

    def group(self, extra: int = 0) -> int:
        """A register, mostly one that a group of LMUL * 2^extra may begin with."""
        rng = self.rng
        step = 1 << max(0, min(3, self.lmul + extra)) if rng.random() < 0.93 else 1
        return rng.randrange(32) // step * step

    def suit(self, row: _core.InstructionInfo) -> list[int]:
        """Sometimes a vtype that the instruction executes with."""
        rng, name = self.rng, row.name
        if rng.random() < 0.25:
            return self.any_configuration()
        half = name.startswith(("vw", "vn", "vfw", "vfn")) and ".v.v" not in name
        if row.extension in ("zvkg", "zvkned", "zvknha"):
            return self.configure(rng.choice((2, 3)) if name.startswith("vsha") else 2, rng.choice((0, 1, 2, 3)), 4)
        if row.extension == "zvbc":
            return self.configure(3, rng.randrange(4))
        if name.startswith(("vf", "vmf")) and row.format != "XV2":
            sews: tuple[int, ...] = (1, 2) if half else (1, 2, 3)
        elif half:
            sews = (0, 1, 2)
        elif ".vf" in name and name.startswith(("vz", "vs")):
            sews = {"2": (1, 2, 3), "4": (2, 3), "8": (3,)}[name[-1]]
        else:
            sews = (0, 1, 2, 3)
        sew = rng.choice(sews)
        return self.configure(sew, rng.choice([i for i in range(-3, 3 if half else 4) if sew <= 3 + min(i, 0)]))

    def suit_memory(self, row: _core.InstructionInfo) -> list[int]:
        """A vtype with which the groups of all fields, and of indices, are there."""
        rng, name = self.rng, row.name
        fields = int(name[name.index("seg") + 3]) if "seg" in name else 1
        width = self.width_of(name)
        most = (8 // fields).bit_length() - 1
        fitting = [
            (sew, lmul)
            for sew in range(4)
            for lmul in range(-3, 4)
            if sew <= 3 + min(lmul, 0)
            and -3 <= width - sew + lmul <= (3 if row.format == "VLX" else most)
            and (row.format != "VLX" or lmul <= most)
        ]
        return self.configure(*rng.choice(fitting))

    @staticmethod
    def width_of(name: str) -> int:
        """The logarithm of the bytes of an element, or of an index."""
        return {"8": 0, "6": 1, "2": 2, "4": 3}.get(name.removesuffix(".v").removesuffix("ff")[-1], 0)

    def vector(self) -> list[int]:
        """One instruction of the tables."""
        rng = self.rng
        row = rng.choices(self.rows, self.weights)[0]
        kind, name = row.format, row.name
        if kind.startswith("VSET"):
            return self.any_configuration()
        raw = row.match | rng.getrandbits(32) & ~row.mask
        if kind in ("VL", "VLS", "VLX"):
            code = self.suit_memory(row) if rng.random() < 0.6 or (kind == "VLX" and not self.known) else []
            return [*code, *self.memory(row, raw)]
        code = self.suit(row) if rng.random() < 0.3 else []
        wide = name.startswith(("vw", "vfw")) and ".vs" not in name
        narrow = name.startswith(("vn", "vfn"))
        second = 1 if ".w" in name or narrow else -1 if ".vf2" in name else 0
        fields = {7: self.group(1 if wide else 0), 15: self.group(), 20: self.group(second)}
        if kind in ("XV2",):
            fields[7] = self.destination()
        if kind in ("VVX", "VVXM", "VMX", "VX"):
            fields[15] = self.source()
        if name.startswith(("vmv1r", "vmv2r", "vmv4r", "vmv8r")):
            count = int(name[3])
            fields = {low: rng.randrange(32) // count * count for low in (7, 20)}
        for low, register in fields.items():
            if row.mask >> low & 31 == 0:
                raw = raw & ~(31 << low) | register << low
        if row.mask >> 25 & 1 == 0 and rng.random() < 0.4:
            raw |= 1 << 25
        if rng.random() < 0.01:
            code.append(encode("csrrwi", 0, imm=rng.randrange(1, 8), csr="vstart"))
        return [*code, raw]

    def memory(self, row: _core.InstructionInfo, raw: int) -> list[int]:
        rng, name = self.rng, row.name
        pointer = self.scratch()
        base = rng.choice((*self.bases, *self.bases, self.edge))
        # Of a misaligned store across the edge the oracle does the part that is possible, and here nothing is done.
        aligned = base == self.edge and name.startswith("vs")
        if aligned and row.format == "VLX":
            base = self.bases[0]
        # Below the edge, so that an access goes beyond it after a while.
        offset = rng.randrange(-800, 16) if base == self.edge else rng.randrange(-2048, 2048)
        if aligned or rng.random() < 0.7:
            offset &= -8
        code = [encode("addi", pointer, base, imm=offset)]
        fields = {15: pointer, 7: self.group()}
        if row.format == "VLS":
            stride = rng.choice([r for r in self.free if r not in (0, pointer)])
            # Not far below: there lie the handler's variables.
            step = rng.choice((0, 1, 2, 4, 8, 24, rng.randrange(70)))
            if base != self.bases[0] and rng.random() < 0.3:
                step = -rng.choice((8, 8, rng.randrange(1, 8)))
            code.append(encode("addi", stride, 0, imm=step & -8 if aligned else step))
            fields[20] = stride
        elif row.format == "VLX":
            # The indices come from a table of their width.
            width = self.width_of(name)
            emul = width - self.sew + self.lmul
            count = 1 << max(0, min(3, emul))
            fields[20] = rng.randrange(32) // count * count
            table = rng.choice([r for r in self.free if r not in (0, pointer)])
            # Whole: what is left of other values would lead to devices that the oracle does not have.
            code.append(encode("csrrwi", 0, imm=0, csr="vstart"))
            code += self.address_of(table, f"indices{width}")
            code.append(encode("addi", table, table, imm=rng.randrange(0, 0x700, 8)))
            code.append(encode(f"vl{count}re8.v", fields[20], table))
        if "r" in name and name[1] in "ls" and name[2].isdigit():
            fields[7] = rng.randrange(32) // int(name[2]) * int(name[2])
        if "seg" in name and rng.random() < 0.8:
            count = int(name[name.index("seg") + 3])
            fields[7] = min(fields[7], 32 - count * (1 << max(0, self.lmul))) if self.lmul < 3 else fields[7]
            fields[7] = max(fields[7], 0)
        for low, register in fields.items():
            if row.mask >> low & 31 == 0:
                raw = raw & ~(31 << low) | register << low
        if row.mask >> 25 & 1 == 0 and rng.random() < 0.4:
            raw |= 1 << 25
        if rng.random() < 0.1:
            code.append(encode("csrrwi", 0, imm=rng.randrange(1, 8), csr="vstart"))
        return [*code, raw]

    def address_of(self, register: int, label: str) -> list[int]:
        """The address of a table, by its distance from the edge."""
        distance = self.labels[label] - self.edge_address
        low = (distance & 0xFFF ^ 0x800) - 0x800
        return [
            encode("lui", register, imm=(distance - low) >> 12),
            encode("addi", register, register, imm=low),
            encode("add", register, register, self.edge),
        ]

    @property
    def labels(self) -> dict[str, int]:
        return {f"indices{i}": INDICES + 0x1000 * i for i in range(4)}

    # --- other items ---

    def new_values(self) -> list[int]:
        """Registers of each kind get interesting values from memory."""
        rng = self.rng
        count = rng.choice((1, 2, 4, 8))
        pointer = self.scratch()
        code = [
            encode("addi", pointer, rng.choice(self.bases), imm=rng.randrange(-2048, 1024) & -8),
            encode(f"vl{count}re8.v", rng.randrange(32) // count * count, pointer),
        ]
        return code + (self.refill() if rng.random() < 0.7 else [])

    def mode_of_rounding(self) -> list[int]:
        rng = self.rng
        csr = rng.choice(("vxrm", "vcsr", "vxsat", "frm", "frm", "fflags", "vstart"))
        if csr == "vstart":
            return [encode("csrrwi", self.destination(), imm=rng.choice((0, 0, 1, 5)), csr=csr)]
        value = rng.choice((0, 1, 2, 3, 4)) if csr == "frm" and rng.random() < 0.9 else rng.randrange(8)
        return [encode("csrrwi", self.destination(), imm=value, csr=csr)]

    def read_csr(self) -> list[int]:
        name = self.rng.choice(("vl", "vtype", "vlenb", "vstart", "vxsat", "vcsr", "vxrm"))
        form = self.rng.choice(("csrrs", "csrrs", "csrrs", "csrrw"))
        # csrrw of those that are read-only traps; of the others it writes what is there.
        return [encode(form, self.destination(), 0, csr=name)]

    def vector_off(self) -> list[int]:
        """VS = Off for a few instructions; in S- and M-mode only, elsewhere the CSR traps as well."""
        csr = "mstatus" if self.mode == "M" else "sstatus"
        register = self.scratch()
        body = [*self.read_csr(), *self.plain_vector(), *self.plain_vector()]
        value = [encode("addi", register, 0, imm=0x600)]
        return [*value, encode("csrrc", 0, register, csr=csr), *body, *value, encode("csrrs", 0, register, csr=csr)]

    def plain_vector(self) -> list[int]:
        """An instruction with nothing in front, which may not write a scalar register that matters."""
        row = self.rng.choice([row for row in self.rows if row.format in ("VVV", "VVI", "V2", "VMV")])
        return [row.match | self.rng.getrandbits(32) & ~row.mask]

    def scalar_item(self) -> list[int]:
        names = ("add", "sub", "xor", "sll", "mul")
        return [encode(self.rng.choice(names), self.destination(), self.source(), self.source())]

    def item(self) -> list[int]:
        choices = [
            (60, self.vector), (8, self.new_values), (3, self.any_configuration), (2.5, self.mode_of_rounding),
            (2, self.read_csr), (3, self.scalar_item), (0.3, self.vector_off), (0.2, self.float_off),
        ]  # fmt: skip
        return self.rng.choices([item for _, item in choices], [weight for weight, _ in choices])[0]()

    def plain(self) -> list[int]:
        return self.vector()

    # --- the program ---

    def _bases(self) -> None:
        super()._bases()
        self.asm.la(self.edge, "edge")

    def _init_more(self) -> None:
        self.asm.csrw("vcsr", 0)
        self.asm.la(1, "vector_values")
        for i in range(4):
            self.asm.op("vl8re8.v", 8 * i, 1)
            self.asm.op("addi", 1, 1, imm=1024)

    def _dump(self, chunk: int) -> None:
        super()._dump(chunk)
        asm = self.asm
        first, second = self._dump_place(chunk)
        asm.op("addi", first, first, imm=DUMP_SIZE)
        for i, csr in enumerate(("vl", "vtype", "vcsr", "vstart", "fcsr")):
            asm.csrr(second, csr)
            asm.op("sd", 0, first, second, imm=8 * i)
        # Whole, whatever an access before has left in vstart.
        asm.csrw("vstart", 0)
        asm.op("addi", first, first, imm=64)
        for i in range(4):
            asm.op("vs8r.v", 8 * i, first)
            asm.op("addi", first, first, imm=self.vlen // 2)
            asm.op("addi", first, first, imm=self.vlen // 2)
        self._bases()

    def _log_more(self, log: int, scratch: int, mepc: int) -> None:
        """vstart, which after every other instruction becomes 0, and vl; not where VS is Off."""
        asm = self.asm
        asm.csrr(scratch, "mstatus")
        asm.op("andi", scratch, scratch, imm=0x600)
        asm.op("beq", 0, scratch, 0, imm=32)
        asm.csrr(scratch, "vl")
        asm.op("sd", 0, log, scratch, imm=40)
        asm.csrr(scratch, "vstart")
        asm.op("sd", 0, log, scratch, imm=32)
        asm.op("andi", scratch, mepc, imm=4)
        asm.op("beq", 0, scratch, 0, imm=8)
        asm.csrw("vstart", 0)

    def _data(self) -> None:
        asm, rng = self.asm, self.rng
        asm.labels["edge"] = self.edge_address
        super()._data()
        words = [
            interesting(rng) if rng.random() < 0.7 else sum(rng.choice(HALVES) << 16 * k for k in range(4))
            for _ in range(512)
        ]
        asm.org(VALUES)
        asm.label("vector_values")
        asm.data(*words)
        asm.org(INDICES)
        for width in range(4):
            for _ in range(0x1000 >> width):
                value = rng.randrange(0x100 if width == 0 else 0xE00)
                if rng.random() < 0.002:
                    # Elsewhere, but not into a device's registers.
                    value = rng.getrandbits(8 << width) & 0x0FFF_FFFF
                asm.content += value.to_bytes(1 << width, "little")


def generate(seed: int, vlen: int, **size: int) -> Program:
    """The program of a seed."""
    return VectorGenerator(seed, vlen=vlen, **size).build()
