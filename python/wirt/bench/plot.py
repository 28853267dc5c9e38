"""Draws the I/O comparison (needs matplotlib: ``pip install wirt[plot]``)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from wirt.bench.io import Measurement
from wirt.bench.text import grouped, work_label
from wirt.errors import ConfigError

__all__ = ["check_plot_path", "plot"]

# By device: real hardware's interface in red, virtio in blues, and greys for what stands behind an IOMMU.
_COLOURS = {"virtio-console": "#4c72b0", "virtio-blk": "#4c72b0", "virtio-net": "#4c72b0"}
_FULL, _OVER_PCI, _BYPASSED, _STRICT = "#c44e52", "#8da9d4", "#b0b0b0", "#606060"
# What lectures say that virtualisation with hardware assistance costs I/O, in percent of its time.
_TEXTBOOK = (("full, textbook: 1 to 5 %", 1.0, 5.0, _FULL), ("paravirtual, textbook: 0 to 2 %", 0.0, 2.0, "#4c72b0"))


def check_plot_path(path: Path) -> None:
    """Says before a long measurement, rather than after it, that the chart could not be drawn.

    Raises:
        ConfigError: matplotlib is missing, or the file's ending is not known.
    """
    if path.suffix.lower() not in {".png", ".svg", ".pdf"}:
        raise ConfigError(f"{path}: name a file that ends in .png, .svg or .pdf")
    if not path.parent.is_dir():
        raise ConfigError(f"{path}: there is no directory {path.parent}")
    try:
        import matplotlib  # noqa: F401 - only whether it is there
    except ImportError as error:
        raise ConfigError("charts need matplotlib: pip install 'wirt[plot]'") from error


def plot(measurement: Measurement, path: Path) -> None:
    """Writes a chart: exits per operation, throughput, and the share of time that goes into exits.

    Args:
        measurement: what was measured.
        path: a file that ends in .png, .svg or .pdf.

    Raises:
        ConfigError: matplotlib is missing, or the file's ending is not known.
    """
    check_plot_path(path)
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    groups = grouped(measurement.comparisons)
    rows = [[group[0].baseline, *(comparison.other for comparison in group)] for group in groups]
    figure = Figure(figsize=(16, 1.6 + 0.5 * len(groups)), layout="constrained")
    FigureCanvasAgg(figure)
    exits, throughput, price = figure.subplots(1, 3, sharey=True)
    exit_ns = measurement.exit_ns
    for place, row in enumerate(rows):
        height = 0.8 / len(row)
        for index, summary in enumerate(row):
            at = place - 0.4 + height * (index + 0.5)
            colour = _colour(summary.name)
            median, least, most = (rate / 2**20 for rate in summary.throughput)
            exits.barh(at, summary.exits_per_operation, height, color=colour)
            throughput.barh(
                at,
                median,
                height,
                color=colour,
                xerr=[[max(median - least, 0)], [max(most - median, 0)]],
                error_kw={"lw": 1, "capsize": 2},
            )
            share = summary.exits_per_operation * exit_ns * summary.operations_per_second / 1e9
            price.barh(at, 100 * share, height, color=colour)
    _finish(exits, "exits per operation")
    _finish(throughput, "throughput, MiB/s (median, min to max)")
    for name, least, most, colour in _TEXTBOOK:
        price.axvspan(max(least, 0.01), most, color=colour, alpha=0.15, label=name)
    _finish(price, f"time that goes into exits, % (one takes {exit_ns:.0f} ns here)")
    price.legend(loc="lower right", fontsize="small")
    exits.set_yticks(range(len(groups)), [work_label(group[0]) for group in groups])
    exits.invert_yaxis()
    devices = dict.fromkeys(summary.name.split("/")[1] for row in rows for summary in row)
    handles = [Patch(color=_colour(f"/{device}/"), label=device) for device in devices]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False)
    storage = measurement.settings.storage
    figure.suptitle(f"Wirt: the same I/O over real hardware's interface and over virtio ({storage}-backed disks)")
    figure.savefig(path, dpi=150)


def _colour(name: str) -> str:
    device = name.split("/")[1]
    if "+" in device:
        return _STRICT if device.endswith("+strict") else _BYPASSED
    return _OVER_PCI if device.endswith("-pci") else _COLOURS.get(device, _FULL)


def _finish(axes: Any, label: str) -> None:  # noqa: ANN401 - matplotlib is not typed here
    axes.set_xscale("log")
    axes.set_xlabel(label)
    axes.grid(axis="x", which="major", alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
