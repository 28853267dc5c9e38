"""The disassembler against GNU objdump (Debian: binutils-riscv64-linux-gnu)."""

import random
import re
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from support.assembler import RAM_BASE, write_elf
from wirt import isa

OBJDUMP = "riscv64-linux-gnu-objdump"
ARCHITECTURE = (
    "rv64i2p1_m2p0_a2p1_f2p2_d2p2_c2p0_h1p0_zicsr2p0_zifencei2p0_zihintpause2p0_zawrs1p0_zba1p0_zbb1p0_zbs1p0_zicbom1p0_zicbop1p0"
    "_zicboz1p0_svinval1p0_zfh1p0_zfhmin1p0_zbc1p0_zbkb1p0_zbkc1p0_zbkx1p0_zknd1p0_zkne1p0_zknh1p0_v1p0_zvfh1p0"
)
# Younger than objdump 2.40; what stands for them there is in test_encodings_that_objdump_does_not_know.
YOUNG = {"zicond", "zimop", "zacas", "zabha", "zabha_zacas", "zfa", "zfa_d", "zfa_zfh", "zcb", "zcmop"}
EXTENSIONS = {row.extension for row in isa.instructions()}
# What objdump prints for compressed instructions, as the 32-bit form that is shown here.
THREE_OPERANDS = {"addi", "addiw", "slli", "srli", "srai", "andi", "sub", "xor", "or", "and", "subw", "addw", "add"}
# objdump of Debian 12 does not know these extensions; LLVM's assembler does.
IN_LLVM = {"zvbb", "zvbc", "zvkb", "zvkg", "zvkned", "zvknha"}
LLVM_FEATURES = "+v+zvbb+zvbc+zvkg+zvkned+zvknhb"
# These convert exactly, and objdump knows them with one rounding mode only.
EXACT = {"fcvt.d.w", "fcvt.d.wu", "fcvt.d.s", "fcvt.s.h", "fcvt.d.h"}


def encodings(seed: int, extensions: set[str]) -> list[int]:
    """Legal ones of every table entry of the extensions, some 30 each."""
    rng = random.Random(seed)
    found = []
    for row in isa.instructions():
        if row.extension not in extensions:
            continue
        for _ in range(30):
            raw = row.match | rng.getrandbits(32) & ~row.mask
            if row.compressed:
                raw &= 0xFFFF
            if row.name in ("fence", "fence.i"):
                raw &= 0x0FF0_707F if row.name == "fence" else 0x707F  # reserved fields
                if raw == 0x0100_000F:
                    continue
            if row.name in EXACT:
                raw &= ~(7 << 12)
            if row.format in ("CSR", "CSRI"):
                # objdump names some that this hart does not have.
                raw = raw & 0xFFFFF | rng.choice([*isa.csrs().values(), 0x0E5, 0x8C0]) << 20
            if not isa.disassemble(raw, RAM_BASE).startswith("."):
                found.append(raw)
    return found


def objdump(raws: list[int], folder: Path) -> list[str]:
    content = b"".join(struct.pack("<I" if raw & 3 == 3 else "<H", raw) for raw in raws)
    path = folder / "code.elf"
    path.write_bytes(write_elf(RAM_BASE, content, {}, ARCHITECTURE))
    result = subprocess.run([OBJDUMP, "-d", "-z", "-M", "no-aliases", path], capture_output=True, text=True, check=True)
    lines = [line.split("\t")[2:] for line in result.stdout.splitlines() if re.match(r" *[0-9a-f]+:\t", line)]
    return [" ".join(part.strip() for part in line) for line in lines]


def normalise(text: str) -> str:
    """objdump's text in the form used here."""
    text = re.sub(r" *[#<].*", "", text)
    # Shift amounts are hexadecimal there.
    text = re.sub(r"^((?:c\.)?s[lr][la]i\S*|rori\w?|b(?:clr|ext|inv|set)i|aes64ks1i) (.*),0x([0-9a-f]+)$",
                  lambda m: f"{m[1]} {m[2]},{int(m[3], 16)}", text)  # fmt: skip
    if not text.startswith("c."):
        return text
    name, _, operands = text[2:].partition(" ")
    parts = operands.split(",")
    match name:
        case "addi4spn" | "addi16sp":
            return "addi " + (operands if name == "addi4spn" else f"sp,{operands}")
        case "li":
            return f"addi {parts[0]},zero,{parts[1]}"
        case "mv":
            return f"add {parts[0]},zero,{parts[1]}"
        case "nop":
            return f"addi zero,zero,{operands or 0}"
        case "slli64" | "srli64" | "srai64":
            return f"{name[:-2]} {operands},{operands},0"
        case "j":
            return f"jal zero,{operands}"
        case "jr" | "jalr":
            return f"jalr {'zero' if name == 'jr' else 'ra'},0({operands})"
        case "beqz" | "bnez":
            return f"{name[:3]} {parts[0]},zero,{parts[1]}"
        case "lwsp" | "ldsp" | "fldsp" | "swsp" | "sdsp" | "fsdsp":
            return f"{name[:-2]} {operands}"
    if name in THREE_OPERANDS:
        return f"{name} {parts[0]},{operands}"
    return f"{name} {operands}".strip()


@pytest.mark.parametrize("seed", [1, 2])
def test_disassembles_every_instruction_as_objdump_does(seed, tmp_path):
    if shutil.which(OBJDUMP) is None:
        pytest.fail(f"{OBJDUMP} is missing: apt-get install binutils-riscv64-linux-gnu")
    raws = encodings(seed, EXTENSIONS - YOUNG - IN_LLVM)
    theirs = objdump(raws, tmp_path)
    assert len(theirs) == len(raws)
    pc = RAM_BASE
    different = []
    for raw, text in zip(raws, theirs, strict=True):
        ours = isa.disassemble(raw, pc)
        wanted = normalise(text)
        if ours.split(" ")[0] in EXACT:
            ours = ours.removesuffix(",rne")
        if ours.replace(" ", "") != wanted.replace(" ", "").replace("unknown", "0"):  # the empty set of a fence
            different.append(f"{raw:#x}: {ours!r}, objdump {text!r}")
        pc += 4 if raw & 3 == 3 else 2
    assert not different, "\n".join(different[:40])


def test_what_objdump_does_not_know_is_assembled_to_what_it_was(tmp_path):
    # The assembler does not take a destination that is a source, or the mask.
    raws = [raw for raw in encodings(4, IN_LLVM) if raw >> 7 & 31 not in (0, raw >> 15 & 31, raw >> 20 & 31)]
    source, binary = tmp_path / "code.s", tmp_path / "code.o"
    source.write_text("".join(f"{isa.disassemble(raw)}\n" for raw in raws))
    command = [sys.executable, "-m", "ziglang", "cc", "-target", "riscv64-linux-musl"]
    subprocess.run([*command, f"-mcpu=generic_rv64{LLVM_FEATURES}", "-c", source, "-o", binary], check=True)
    text = binary.read_bytes()
    assert struct.pack(f"<{len(raws)}I", *raws) in text


def test_every_table_entry_is_disassembled():
    seen = set()
    for raw in encodings(3, EXTENSIONS):
        name = isa.disassemble(raw, 0).split(" ")[0].removesuffix(".aqrl").removesuffix(".aq").removesuffix(".rl")
        # May-be-operations have numbers.
        seen.add(re.sub(r"^(mop\.rr?)\.\d+$", r"\1", name))
    assert {row.name for row in isa.instructions() if not row.compressed} <= seen


# The specification's figures: (bits 31 to 25, 24 to 20, 14 to 12, 6 to 0), None where an operand is. Of AMOs bits 26
# and 25 are aq and rl: their first field is bits 31 to 27.
OP, OP_FP, AMO, SYSTEM = 0x33, 0x53, 0x2F, 0x73
FIGURES = {
    "czero.eqz": (7, None, 5, OP),
    "czero.nez": (7, None, 7, OP),
    **{f"amocas.{size}": (5, None, width, AMO) for width, size in enumerate("bhwdq")},
    **{
        f"amo{name}.{size}": (function, None, width, AMO)
        for width, size in enumerate("bh")
        for name, function in (
            ("add", 0), ("swap", 1), ("xor", 4), ("or", 8), ("and", 12), ("min", 16), ("max", 20), ("minu", 24),
            ("maxu", 28),
        )
    },
    **{
        f"{name}.{size}": (function << 2 | width, rs2, funct3, OP_FP)
        for size, width in (("s", 0), ("d", 1), ("h", 2))
        for name, function, rs2, funct3 in (
            ("fli", 0b11110, 1, 0), ("fminm", 0b00101, None, 2), ("fmaxm", 0b00101, None, 3),
            ("fround", 0b01000, 4, None), ("froundnx", 0b01000, 5, None), ("fleq", 0b10100, None, 4),
            ("fltq", 0b10100, None, 5),
        )
    },
    "fcvtmod.w.d": (0b1100001, 8, 1, OP_FP),
}  # fmt: skip
COMPRESSED_FIGURES = {
    "c.lbu": ("100000___--__-00", "lbu a2,3(a1)", 0x81F0), "c.lhu": ("100001___0-__-00", "lhu a2,2(a1)", 0x85B0),
    "c.lh": ("100001___1-__-00", "lh a2,2(a1)", 0x85F0), "c.sb": ("100010___--__-00", "sb a2,3(a1)", 0x89F0),
    "c.sh": ("100011___0-__-00", "sh a2,2(a1)", 0x8DB0), "c.zext.b": ("100111___1100001", "andi a1,a1,255", 0x9DE1),
    "c.sext.b": ("100111___1100101", "sext.b a1,a1", 0x9DE5), "c.zext.h": ("100111___1101001", "zext.h a1,a1", 0x9DE9),
    "c.sext.h": ("100111___1101101", "sext.h a1,a1", 0x9DED),
    "c.zext.w": ("100111___1110001", "add.uw a1,a1,zero", 0x9DF1),
    "c.not": ("100111___1110101", "xori a1,a1,-1", 0x9DF5), "c.mul": ("100111___10__-01", "mul a1,a1,a2", 0x9DD1),
    "c.mop": ("01100___10000001", "addi zero,zero,0", 0x6181),
}  # fmt: skip


def test_encodings_that_objdump_does_not_know():
    rows = {row.name: row for row in isa.instructions() if row.extension in YOUNG}
    for name, (upper, rs2, funct3, opcode) in FIGURES.items():
        row = rows.pop(name)
        low, width = (27, 5) if opcode == AMO else (25, 7)
        match, mask = upper << low | opcode, (1 << width) - 1 << low | 0x7F
        for value, at, ones in ((rs2, 20, 31), (funct3, 12, 7)):
            if value is not None:
                match, mask = match | value << at, mask | ones << at
        if name == "amocas.q":  # pairs of registers
            mask |= 1 << 7 | 1 << 20
        assert (row.match, row.mask) == (match, mask), name
    for name, (figure, text, example) in COMPRESSED_FIGURES.items():
        row = rows.pop(name)
        assert row.match == int("".join("1" if bit == "1" else "0" for bit in figure), 2), name
        assert row.mask == int("".join("1" if bit in "01" else "0" for bit in figure), 2), name
        assert example & row.mask == row.match
        assert isa.disassemble(example, 0).replace(" ", "") == text.replace(" ", ""), name
    # 1-00--0111--, and 1-00--1 with a second register; N is what is left open above the operands.
    assert (rows.pop("mop.r").match, rows.pop("mop.rr").match) == (0x81C0_4073, 0x8200_4073)
    assert isa.disassemble(0x81C0_4073 | 1 << 30 | 1 << 27 | 1 << 20 | 10 << 7 | 11 << 15, 0) == "mop.r.25 a0,a1"
    assert isa.disassemble(0x8200_4073 | 1 << 30 | 1 << 26 | 10 << 7 | 11 << 15 | 12 << 20, 0) == "mop.rr.5 a0,a1,a2"
    assert not rows
    assert isa.disassemble(0xF210_0053 | 16 << 15 | 10 << 7, 0) == "fli.d fa0,16"
    assert isa.disassemble(0x2AC5_A52F, 0) == "amocas.w.rl a0,a2,(a1)"
