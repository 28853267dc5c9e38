"""What virtualisation costs: the same kernel bare, under trap-and-emulate, and under the hypervisor extension.

A small kernel (``guest/inner``) does the same work three times: as the payload of the monitor's SBI, and as the guest
of each of the two hypervisors in ``guest/hypervisors``, which are payloads of it themselves. The kernel's image is the
same to the byte. It marks each section of work by a call of the monitor (vendor SBI extension 0x0A574952), which counts
instructions, traps by cause, page walks and TLB misses for exactly that section. Machines are deterministic: each count
is the same on every host and in every run.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from wirt import isa
from wirt.errors import StateError
from wirt.guest_image import Program, guest_image
from wirt.machine import Machine
from wirt.stats import Mark

__all__ = ["PLATFORMS", "WORKS", "Measurement", "Platform", "Sample", "measure", "run"]

Progress = Callable[[str, float], None]

_TIMEOUT_S = 600.0
# The hart of all platforms, whether they use its hypervisor extension or not.
_ISA = [isa.DEFAULT, "h"]


@dataclass(frozen=True)
class Platform:
    """What the kernel runs on.

    Attributes:
        name: ``bare``, ``trap-and-emulate`` or ``h-extension``.
        hypervisor: the program below it; None: the monitor's SBI alone.
    """

    name: str
    hypervisor: Program | None = None


PLATFORMS = (
    Platform("bare"),
    Platform("trap-and-emulate", "trap_and_emulate"),
    Platform("h-extension", "h_extension"),
)

#: What is measured, in the order in which the kernel does it, and what one operation of it is.
WORKS = {
    "compute": "a round of arithmetic",
    "system-call": "ecall of a program, and back",
    "page-fault": "a page given on demand",
    "mapping-change": "new entry, SFENCE.VMA, load",
    "tlb-miss": "a load that misses the TLB",
    "context-switch": "to another address space",
    "timer-sbi": "interrupt; the next by SBI call",
    "timer-stimecmp": "interrupt; the next by stimecmp",
    "console": "64 bytes, program to SBI",
}


@dataclass(frozen=True)
class Sample:
    """One work on one platform; all counts are of the whole section.

    Attributes:
        work: of :data:`WORKS`.
        platform: of :data:`PLATFORMS`, by name.
        operations: how often the work's operation was done.
        result: a checksum that the kernel made of what it did.
        instructions: retired, by hypervisor, kernel and user programs together.
        exits: traps into the hypervisor, by cause.
        kernel_traps: traps that the hart took straight into the kernel, by cause.
        sbi_calls: calls that reached the monitor.
        tlb_misses: accesses that the hart's TLB did not have.
        page_walks: walks that these made.
        table_reads: page table entries that the walks read.
    """

    work: str
    platform: str
    operations: int
    result: int
    instructions: int
    exits: dict[str, int]
    kernel_traps: dict[str, int]
    sbi_calls: int
    tlb_misses: int
    page_walks: int
    table_reads: int

    @property
    def total_exits(self) -> int:
        """Traps into the hypervisor."""
        return sum(self.exits.values())

    @property
    def total_kernel_traps(self) -> int:
        """Traps into the kernel without a hypervisor between."""
        return sum(self.kernel_traps.values())

    @property
    def reads_per_walk(self) -> float:
        """Page table entries a walk; 0 without one."""
        return self.table_reads / self.page_walks if self.page_walks else 0.0


@dataclass
class Measurement:
    """All works on all platforms that were asked for."""

    samples: list[Sample] = field(default_factory=list)

    def sample(self, work: str, platform: str) -> Sample:
        """One of them.

        Raises:
            KeyError: it was not measured.
        """
        for sample in self.samples:
            if (sample.work, sample.platform) == (work, platform):
                return sample
        raise KeyError((work, platform))

    @property
    def works(self) -> list[str]:
        """Those measured, in order."""
        return list(dict.fromkeys(sample.work for sample in self.samples))

    @property
    def platforms(self) -> list[str]:
        """Those measured, in order."""
        return list(dict.fromkeys(sample.platform for sample in self.samples))

    def ratio(self, sample: Sample) -> float:
        """Instructions over those of the bare machine, for the same work; 0 where that was not measured."""
        if "bare" not in self.platforms:
            return 0.0
        return sample.instructions / self.sample(sample.work, "bare").instructions

    def as_json(self) -> dict[str, Any]:
        """Everything as plain JSON values."""
        return {
            "works": {work: WORKS[work] for work in self.works},
            "platforms": self.platforms,
            "samples": [
                vars(sample)
                | {
                    "result": f"{sample.result:#x}",
                    "total_exits": sample.total_exits,
                    "total_kernel_traps": sample.total_kernel_traps,
                    "reads_per_walk": sample.reads_per_walk,
                    "instructions_ratio": self.ratio(sample),
                }
                for sample in self.samples
            ],
        }


def run(platforms: Iterable[Platform] = PLATFORMS, progress: Progress | None = None) -> Measurement:
    """Runs the benchmark.

    Args:
        platforms: of :data:`PLATFORMS`.
        progress: called with what is measured now and the fraction that is done.

    Raises:
        StateError: the kernel failed, or came to different results on different platforms.
    """
    chosen = list(platforms)
    measurement = Measurement()
    for done, platform in enumerate(chosen):
        if progress is not None:
            progress(platform.name, done / len(chosen))
        measurement.samples += measure(platform)
    results: dict[str, dict[str, tuple[int, int]]] = {}
    for sample in measurement.samples:
        results.setdefault(sample.work, {})[sample.platform] = (sample.operations, sample.result)
    for work, by_platform in results.items():
        if len(by_platform) != len(chosen) or len(set(by_platform.values())) != 1:
            raise StateError(f"{work}: the platforms do not agree: {by_platform}")
    if progress is not None:
        progress("done", 1.0)
    return measurement


def measure(platform: Platform) -> list[Sample]:
    """All works on one platform.

    Raises:
        StateError: the kernel did not end well.
    """
    inner = guest_image("inner")
    kernel, initrd = (inner, None) if platform.hypervisor is None else (guest_image(platform.hypervisor), inner)
    with Machine(kernel, initrd=initrd, memory="32M", isa=_ISA, deterministic=True) as vm:
        vm.start()
        ended = vm.wait(_TIMEOUT_S)
        output = vm.console.output
        if not ended or vm.exit_code != 0:
            raise StateError(f"{platform.name}: the kernel did not end well:\n{vm.console.tail}")
        marks = vm.take_marks()
    reports = [json.loads(text) for text in re.findall(r"WIRT-VIRT (\{.*\})", output)]
    found = {report["name"]: report for report in reports}
    if not all(report["ok"] for report in reports) or {mark.name for mark in marks} != set(found) - {"checks"}:
        raise StateError(f"{platform.name}: the kernel reports mistakes:\n{output[-4000:]}")
    return [_sample(platform, mark, int(found[mark.name]["result"], 16)) for mark in marks]


def _sample(platform: Platform, mark: Mark, result: int) -> Sample:
    (hart,) = mark.harts
    # Which mode is whose: the hypervisor's is S (HS), and the kernel's own VS, if the hart tells the two apart.
    causes: dict[str, dict[str, int]] = {"S": {}, "VS": {}}
    for trap in hart.trap_causes:
        causes[trap.mode][trap.cause] = trap.count
    hypervised = platform.hypervisor is not None
    return Sample(
        work=mark.name,
        platform=platform.name,
        operations=mark.operations,
        result=result,
        instructions=hart.instructions,
        exits=causes["S"] if hypervised else {},
        kernel_traps=causes["VS"] if hypervised else causes["S"],
        sbi_calls=mark.sbi_calls,
        tlb_misses=hart.tlb_misses,
        page_walks=hart.page_walks,
        table_reads=hart.table_reads,
    )
