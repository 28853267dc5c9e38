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
    """What virtualisation costs: each work on each platform; ``causes`` adds what the traps were."""
    table = Table(
        title="The same kernel bare, under trap-and-emulate, and under the hypervisor extension",
        caption=(
            "Per operation of the work; instructions of hypervisor, kernel and programs together, over the bare "
            "machine's in the ratio. Exits are traps into the hypervisor; own traps go straight into the kernel."
        ),
        caption_justify="left",
    )
    for name in ("work", "on", "instructions", "ratio", "exits", "own traps", "TLB misses", "entries read", "a walk"):
        table.add_column(name, justify="left" if name in ("work", "on") else "right", no_wrap=name != "work")
    for work in measurement.works:
        samples = [measurement.sample(work, platform) for platform in measurement.platforms]
        for sample in samples:
            first, last = sample is samples[0], sample is samples[-1]
            table.add_row(
                f"{work}: {WORKS[work]}" if first else "",
                *_virt_cells(measurement, sample),
                end_section=last and not causes,
            )
            if causes:
                for whose, traps in (("exits", sample.exits), ("own", sample.kernel_traps)):
                    for cause, count in traps.items():
                        text = f"  {whose}: {cause} {_number(count / sample.operations)}"
                        table.add_row("", text)
                if last:
                    table.add_section()
    _print(table)


def _virt_cells(measurement: VirtMeasurement, sample: VirtSample) -> tuple[str, ...]:
    def each(count: int) -> str:
        return _number(count / sample.operations)

    return (
        sample.platform,
        each(sample.instructions),
        f"{measurement.ratio(sample):.2f}",
        each(sample.total_exits),
        each(sample.total_kernel_traps),
        each(sample.tlb_misses),
        each(sample.table_reads),
        f"{sample.reads_per_walk:.1f}",
    )


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
