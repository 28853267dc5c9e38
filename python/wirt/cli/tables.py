"""Tables for people."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from wirt.bench.io import Comparison, Measurement, Summary
from wirt.bench.text import work_label

__all__ = ["print_io"]


def print_io(measurement: Measurement) -> None:
    """The I/O comparison: each work over the fully virtualised device, over the paravirtual one, and the ratio."""
    settings = measurement.settings
    table = Table(
        title=f"The same I/O, fully virtualised and paravirtual ({settings.storage}-backed disks)",
        caption=(
            f"Per operation; medians of {settings.repeats}, least to most in brackets. Exits are guest accesses to "
            "device registers, the interrupt controller's included. Ratios: exits full/virtio, throughput virtio/full."
        ),
        caption_justify="left",
    )
    for name in ("work", "device", "exits", "interrupts", "instructions", "copied/byte", "MiB/s", "ratio"):
        table.add_column(name, justify="left" if name in ("work", "device") else "right", no_wrap=name != "work")
    for comparison in measurement.comparisons:
        table.add_row(work_label(comparison), *_cells(comparison.full), _ratio("exits", comparison.exit_ratio))
        table.add_row(
            "",
            *_cells(comparison.paravirtual),
            _ratio("MiB/s", comparison.throughput_ratio),
            end_section=_ends_group(comparison, measurement.comparisons),
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


def _ratio(what: str, value: float) -> str:
    return f"{what} x{_number(value)}"


def _number(value: float) -> str:
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def _ends_group(comparison: Comparison, all_: list[Comparison]) -> bool:
    index = all_.index(comparison)
    return index + 1 < len(all_) and all_[index + 1].work.split("/")[0] != comparison.work.split("/")[0]
