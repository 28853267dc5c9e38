"""Draws the I/O comparison (needs matplotlib: ``pip install wirt[plot]``)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from wirt.bench.io import Measurement
from wirt.bench.text import work_label
from wirt.errors import ConfigError

__all__ = ["check_plot_path", "plot"]

_FULL = "#c44e52"
_PARAVIRTUAL = "#4c72b0"


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
    """Writes a chart: exits per operation and throughput, both devices side by side.

    Args:
        measurement: what was measured.
        path: a file that ends in .png, .svg or .pdf.

    Raises:
        ConfigError: matplotlib is missing, or the file's ending is not known.
    """
    check_plot_path(path)
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    comparisons = measurement.comparisons
    labels = [work_label(comparison) for comparison in comparisons]
    figure = Figure(figsize=(12, 1.2 + 0.42 * len(labels)), layout="constrained")
    FigureCanvasAgg(figure)
    exits, throughput = figure.subplots(1, 2, sharey=True)
    rows = range(len(labels))
    sides = (("fully virtualised", _FULL, -0.2, "full"), ("paravirtual (virtio)", _PARAVIRTUAL, 0.2, "paravirtual"))
    for name, colour, offset, side in sides:
        summaries = [getattr(comparison, side) for comparison in comparisons]
        places = [row + offset for row in rows]
        exits.barh(places, [s.exits_per_operation for s in summaries], 0.38, color=colour, label=name)
        medians = [s.throughput[0] / 2**20 for s in summaries]
        spread = [
            [max(s.throughput[0] - s.throughput[1], 0) / 2**20 for s in summaries],
            [max(s.throughput[2] - s.throughput[0], 0) / 2**20 for s in summaries],
        ]
        throughput.barh(places, medians, 0.38, color=colour, xerr=spread, error_kw={"lw": 1, "capsize": 2}, label=name)
    _finish(exits, "exits per operation")
    _finish(throughput, "throughput, MiB/s (median, min to max)")
    exits.set_yticks(list(rows), labels)
    exits.invert_yaxis()
    figure.legend(*throughput.get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False)
    storage = measurement.settings.storage
    figure.suptitle(f"Wirt: the same I/O over real hardware's interface and over virtio ({storage}-backed disks)")
    figure.savefig(path, dpi=150)


def _finish(axes: Any, label: str) -> None:  # noqa: ANN401 - matplotlib is not typed here
    axes.set_xscale("log")
    axes.set_xlabel(label)
    axes.grid(axis="x", which="major", alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
