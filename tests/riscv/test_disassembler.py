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
    "_zicboz1p0_svinval1p0_v1p0_zvfh1p0"
)
# What objdump prints for compressed instructions, as the 32-bit form that is shown here.
THREE_OPERANDS = {"addi", "addiw", "slli", "srli", "srai", "andi", "sub", "xor", "or", "and", "subw", "addw", "add"}
# objdump of Debian 12 does not know these extensions; LLVM's assembler does.
UNKNOWN = {"zvbb", "zvbc", "zvkb", "zvkg", "zvkned", "zvknha"}
LLVM_FEATURES = "+v+zvbb+zvbc+zvkg+zvkned+zvknhb"
# These convert exactly, and objdump knows them with one rounding mode only.
EXACT = {"fcvt.d.w", "fcvt.d.wu", "fcvt.d.s"}


def encodings(seed: int, *, of_unknown: bool) -> list[int]:
    """Legal ones of every table entry that objdump knows, or does not; some 30 each."""
    rng = random.Random(seed)
    found = []
    for row in isa.instructions():
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
            if (row.extension in UNKNOWN) != of_unknown:
                continue
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
    text = re.sub(r"^((?:c\.)?s[lr][la]i\S*|rori\w?|b(?:clr|ext|inv|set)i) (.*),0x([0-9a-f]+)$",
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
    raws = encodings(seed, of_unknown=False)
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
    raws = [raw for raw in encodings(4, of_unknown=True) if raw >> 7 & 31 not in (0, raw >> 15 & 31, raw >> 20 & 31)]
    source, binary = tmp_path / "code.s", tmp_path / "code.o"
    source.write_text("".join(f"{isa.disassemble(raw)}\n" for raw in raws))
    command = [sys.executable, "-m", "ziglang", "cc", "-target", "riscv64-linux-musl"]
    subprocess.run([*command, f"-mcpu=generic_rv64{LLVM_FEATURES}", "-c", source, "-o", binary], check=True)
    text = binary.read_bytes()
    assert struct.pack(f"<{len(raws)}I", *raws) in text


def test_every_table_entry_is_disassembled():
    seen = set()
    for raw in encodings(3, of_unknown=False) + encodings(3, of_unknown=True):
        name = isa.disassemble(raw, 0).split(" ")[0].removesuffix(".aqrl").removesuffix(".aq").removesuffix(".rl")
        seen.add(name)
    assert {row.name for row in isa.instructions() if not row.compressed} <= seen
