"""Tables for people."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from wirt.bench.io import Measurement, Summary
from wirt.bench.text import grouped, work_label
from wirt.bench.virt import WORKS
from wirt.bench.virt import Measurement as VirtMeasurement
from wirt.bench.virt import Sample as VirtSample

__all__ = ["print_io", "print_virt"]


def print_io(measurement: Measurement) -> None:
    """The I/O comparison: each work over the fully virtualised device, over the paravirtual one, and the ratio."""
    settings = measurement.settings
    table = Table(
        title=f"The same I/O, fully virtualised and paravirtual ({settings.storage}-backed disks)",
        caption=(
            f"Per operation; medians of {settings.repeats}, least to most in brackets. Exits are guest accesses to "
            "device registers, the interrupt controller's included. Ratios are to the first device of a group: its "
            "exits over these, this rate over its. "
            + (f"An exit by itself takes {measurement.exit_ns:.0f} ns here." if measurement.exit_ns else "")
        ),
        caption_justify="left",
    )
    for name in ("work", "device", "exits", "interrupts", "instructions", "copied/byte", "MiB/s", "ratio"):
        table.add_column(name, justify="left" if name in ("work", "device") else "right", no_wrap=name != "work")
    for comparisons in grouped(measurement.comparisons):
        table.add_row(work_label(comparisons[0]), *_cells(comparisons[0].baseline), "")
        for comparison in comparisons:
            table.add_row(
                "",
                *_cells(comparison.other),
                f"exits {_number(comparison.exit_ratio)}, rate {_number(comparison.throughput_ratio)}",
                end_section=comparison is comparisons[-1],
            )
    _print(table)


def print_virt(measurement: VirtMeasurement, *, causes: bool = False) -> None:
    """What virtualisation costs: each work on each platform; ``causes`` adds a table of what the traps were."""
    table = Table(
        title="The same kernel bare, under trap-and-emulate, and under the hypervisor extension",
        caption=(
            "Per operation of the work. Instructions are the hypervisor's, the kernel's and the programs' together; "
            "the ratio is to the bare machine's. Exits are traps into the hypervisor; own traps go straight into the "
            "kernel. What a walk reads is page table entries."
        ),
        caption_justify="left",
    )
    for name in ("work", "on", "instructions", "ratio", "exits", "own traps", "TLB misses", "entries read", "a walk"):
        table.add_column(name, justify="left" if name in ("work", "on") else "right", no_wrap=True)
    for work in measurement.works:
        samples = [measurement.sample(work, platform) for platform in measurement.platforms]
        for sample, label in zip(samples, (work, f"  {WORKS[work]}", ""), strict=False):
            table.add_row(label, *_virt_cells(measurement, sample), end_section=sample is samples[-1])
    _print(table)
    if not causes:
        return
    table = Table(title="Traps by cause, per operation")
    for name in ("work", "on", "into", "cause", "traps"):
        table.add_column(name, justify="right" if name == "traps" else "left", no_wrap=True)
    for work in measurement.works:
        for platform in measurement.platforms:
            sample = measurement.sample(work, platform)
            for into, traps in (("hypervisor", sample.exits), ("kernel", sample.kernel_traps)):
                for cause, count in traps.items():
                    if count < sample.operations / 200:
                        continue  # on the way to the work, not part of it
                    table.add_row(work, platform, into, cause, _each(count, sample))
        table.add_section()
    _print(table)


def _virt_cells(measurement: VirtMeasurement, sample: VirtSample) -> tuple[str, ...]:
    return (
        sample.platform,
        _each(sample.instructions, sample),
        f"{measurement.ratio(sample):.2f}" if "bare" in measurement.platforms else "",
        _each(sample.total_exits, sample),
        _each(sample.total_kernel_traps, sample),
        _each(sample.tlb_misses, sample),
        _each(sample.table_reads, sample),
        f"{sample.reads_per_walk:.1f}" if sample.page_walks else "",
    )


def _each(count: int, sample: VirtSample) -> str:
    value = count / sample.operations
    return "0" if count == 0 else f"{value:,.0f}" if value >= 100 else f"{value:.2f}"


def _print(table: Table) -> None:
    # A table that is read by a pipe or a log is not to be cut to 80 columns.
    console = Console()
    if not console.is_terminal:
        console = Console(width=150)
    console.print(table)


def _cells(summary: Summary) -> tuple[str, ...]:
    median, least, most = (rate / 2**20 for rate in summary.throughput)
    return (
        summary.name.split("/")[1],
        _number(summary.exits_per_operation),
        _number(summary.interrupts_per_operation),
        f"{summary.instructions_per_operation:,.0f}",
        f"{summary.copied_per_byte:.2f}",
        f"{_number(median)} ({_number(least)}..{_number(most)})",
    )


def _number(value: float) -> str:
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"
