"""Runs a program on Wirt and on Spike and says where they part."""

from __future__ import annotations

import collections
import itertools
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import wirt
from wirt import _core, isa

from . import spike
from .random_programs import Program


@dataclass
class Tally:
    """What was compared."""

    programs: int = 0
    instructions: int = 0
    by_name: collections.Counter[str] = field(default_factory=collections.Counter)

    def add(self, other: Tally) -> None:
        self.programs += other.programs
        self.instructions += other.instructions
        self.by_name += other.by_name

    def by_extension(self) -> dict[str, int]:
        extensions = {row.name: row.extension for row in isa.instructions()}
        counts: collections.Counter[str] = collections.Counter()
        for name, count in self.by_name.items():
            counts[extensions[name]] += count
        return dict(counts)


TRAPS = {"ecall", "ebreak", "c.ebreak"}
READS_OF_TRAP_INSTRUCTION = {0x34A02073, 0x64A02073}  # csrr of mtinst and htinst, rd aside


class Mismatch(AssertionError):
    """Wirt and the oracle disagree."""


class _Identifier:
    """Names instructions by mask and match, remembering what it has seen."""

    def __init__(self) -> None:
        self._seen: dict[int, str] = {}
        rows = isa.instructions()
        self._wide = [row for row in rows if not row.compressed]
        # Of two that match, the one that fixes more bits.
        self._narrow = sorted((row for row in rows if row.compressed), key=lambda row: -row.mask.bit_count())

    def __call__(self, raw: int) -> str:
        name = self._seen.get(raw)
        if name is None:
            rows = self._wide if raw & 3 == 3 else self._narrow
            name = next((row.name for row in rows if raw & row.mask == row.match), "?")
            self._seen[raw] = name
        return name


def machine(program: Program) -> wirt.Machine:
    interrupts: Literal["plic", "aia"] = "aia" if program.aia else "plic"
    text = program.isa or (isa.DEFAULT + "_h" if program.hypervisor else None)
    return wirt.Machine(firmware=program.elf, memory=spike.MEMORY, deterministic=True, interrupts=interrupts, isa=text)


def oracle_isa(program: Program) -> str:
    if program.oracle_isa is not None:
        return program.oracle_isa
    if program.aia:
        return spike.ISA_WITH_AIA
    return spike.ISA_WITH_H if program.hypervisor else spike.ISA


def run_to(vm: wirt.Machine, end: int, limit: int = 50_000_000) -> None:
    """Runs a machine until its hart stands at `end`."""
    vm.add_breakpoint(end)
    vm.run_for(limit)
    if vm.harts[0].pc != end:
        raise Mismatch(f"Wirt does not reach the end: pc {vm.harts[0].pc:#x}, {_state(vm.harts[0])}")


def compare(program: Program, tally: Tally | None = None, *, trace: bool = True) -> None:
    """Raises Mismatch unless both simulators agree on the program.

    The program runs in one go, and the memory that it leaves is compared. With `trace`, every instruction is also
    executed alone, and the registers that the oracle says it wrote are compared one by one. Without it a tally is of
    what the oracle executed.
    """
    with tempfile.TemporaryDirectory() as folder:
        elf = Path(folder) / "program.elf"
        elf.write_bytes(program.elf)
        log = Path(folder) / "commits" if trace or tally is not None else None
        expected = spike.run(elf, log=log, isa=oracle_isa(program), triggers=program.triggers)
        if log is not None and trace:
            _follow(program, log, tally)
        elif log is not None and tally is not None:
            _count(log, tally)
    begin, end = program.signature
    with machine(program) as vm:
        run_to(vm, program.end)
        found = bytes(vm.memory[begin:end])
    for i in range(0, len(found), 8):
        ours, theirs = found[i : i + 8][::-1].hex(), expected[i : i + 8][::-1].hex()
        if ours != theirs:
            raise Mismatch(f"{program.name}: memory at {begin + i:#x}: Wirt {ours}, Spike {theirs}")
    if tally is not None:
        tally.programs += 1


def _count(log: Path, tally: Tally) -> None:
    identify = _Identifier()
    counts: collections.Counter[str] = collections.Counter()
    # The log also has a vector access that trapped in the middle: the handler comes next.
    for commit, after in itertools.pairwise(spike.parse_commits(log)):
        name = identify(commit.raw)
        if not name.startswith("v") or after.pc == commit.pc + 4:
            counts[name] += 1
    counts.pop("?", None)
    tally.instructions += counts.total()
    tally.by_name += counts


def _follow(program: Program, log: Path, tally: Tally | None) -> None:
    """Executes instruction by instruction beside the oracle's log."""
    identify = _Identifier()
    counts: collections.Counter[str] = collections.Counter()
    recent: collections.deque[spike.Commit] = collections.deque(maxlen=6)
    with machine(program) as vm:
        hart = vm.harts[0]
        step = vm._core.step  # without the checks of Machine.step, a million times
        # Spike's own boot code comes first.
        commits = itertools.dropwhile(lambda commit: commit.pc != hart.pc, spike.parse_commits(log))
        for commit in commits:
            if commit.pc == program.end:
                break
            if hart.pc == commit.pc:
                step(0, 1)
            else:
                # Wirt stands at an instruction that has to trap, which is a step of its own there and no commit in
                # Spike. An interrupt is taken together with the first instruction of its handler.
                trapped, retired = hart.pc, hart.instructions
                found_there = hart.disassemble(1, trapped) if tally is not None else []
                step(0, 1)
                if hart.instructions == retired:
                    # These do nothing but trap.
                    counts.update(identify(row.raw) for row in found_there if identify(row.raw) in TRAPS)
                    if hart.pc != commit.pc:
                        raise Mismatch(
                            f"{program.name}: Spike goes on at {commit.pc:#x}; Wirt trapped at {trapped:#x} "
                            f"{_disassemble(vm, trapped)} and is at {hart.pc:#x}\n{_context(hart, recent)}"
                        )
                    step(0, 1)
            counts[identify(commit.raw)] += 1
            for name, value in commit.writes:
                found = _read(hart, name)
                if (
                    found is not None
                    and found & 1
                    and value == 0
                    and commit.raw & ~(31 << 7) in READS_OF_TRAP_INSTRUCTION
                ):
                    # Spike writes zero where it might write a transformed instruction: from here, so does Wirt.
                    hart.x[int(name[1:])] = 0
                    continue
                if found is not None and found != value:
                    raise Mismatch(
                        f"{program.name}: {_show(commit)} writes {name}: Wirt {found:#x}, Spike {value:#x}\n"
                        f"{_context(hart, recent)}"
                    )
            recent.append(commit)
        else:
            raise Mismatch(f"{program.name}: Spike's log ends before the program does")
    if tally is not None:
        tally.instructions += counts.total()
        tally.by_name += counts


def _read(hart: _core.Hart, name: str) -> int | None:
    """A register by its name in Spike's log; None for the CSRs that the programs read themselves."""
    if name[1:].isdigit():
        if name[0] == "v":
            return int.from_bytes(hart.v[int(name[1:])], "little")
        return (hart.x if name[0] == "x" else hart.f)[int(name[1:])]
    return hart.csr[name] if name in ("fflags", "frm") else None


def _show(commit: spike.Commit) -> str:
    return f"{commit.pc:#x} {isa.disassemble(commit.raw, commit.pc)} ({commit.raw:#x})"


def _context(hart: _core.Hart, recent: Iterable[spike.Commit]) -> str:
    before = [f"  {_show(commit)} {[(name, hex(value)) for name, value in commit.writes]}" for commit in recent]
    return "\n".join([_state(hart), "before it:", *before])


def _state(hart: _core.Hart) -> str:
    names = ("mcause", "mepc", "mtval", "mstatus", "satp", "medeleg", "mideleg", "mie", "mip", "menvcfg", "pmpcfg0")
    registers = ", ".join(f"{name} {hart.csr[name]:#x}" for name in names)
    return f"{registers}, {hart.privilege!r}, a0 {hart.x[10]:#x}, a1 {hart.x[11]:#x}"


def _disassemble(vm: wirt.Machine, address: int) -> str:
    found = vm.harts[0].disassemble(1, address)
    return f"{found[0].text} ({found[0].raw:#x})" if found else "(no code)"
