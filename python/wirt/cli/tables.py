"""Tables for people."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from wirt.bench.io import Measurement, Summary
from wirt.bench.text import grouped, work_label

__all__ = ["print_io"]


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
