"""Draws the results: for each operation how many requests a second everybody answers."""

from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from tests.bench.results import Results

_OURS, _THEIRS = "#1f6feb", "#b4bcc8"
_COLUMNS = 2


def draw(results: Results, path: Path) -> None:
    """Write `path` with the suffixes .svg and .png."""
    # The same numbers make the same file.
    mpl.rcParams["svg.hashsalt"] = "concord"
    connections = results.connections[1]
    rows = -(-len(results.operations) // _COLUMNS)
    figure = Figure(figsize=(11, 0.8 + 2.6 * rows), layout="constrained")
    axes = figure.subplots(rows, _COLUMNS, squeeze=False).flatten()
    for axis in axes[len(results.operations) :]:
        axis.set_visible(False)
    for axis, operation in zip(axes, results.operations, strict=False):
        rates = [
            (contender, rate)
            for contender in reversed(results.contenders)
            if (rate := results.rate(contender, operation, connections)) is not None
        ]
        colours = [_OURS if each is results.contenders[0] else _THEIRS for each, _ in rates]
        bars = axis.barh([each.title for each, _ in rates], [rate for _, rate in rates])
        for bar, colour in zip(bars, colours, strict=True):
            bar.set_color(colour)
        axis.bar_label(bars, labels=[f"{rate:,.0f}" for _, rate in rates], padding=3, fontsize=8)
        axis.set_title(operation.title, loc="left", fontsize=10, fontweight="bold")
        axis.spines[["top", "right", "bottom"]].set_visible(False)
        axis.tick_params(axis="y", length=0, labelsize=9)
        axis.set_xticks([])
        axis.margins(x=0.15)
    figure.suptitle(
        f"Requests a second on one core, {connections} connections: longer is better\n"
        f"{results.date:%Y-%m-%d}, {results.machine}",
        fontsize=9,
    )
    figure.savefig(path.with_suffix(".svg"), metadata={"Date": None})
    figure.savefig(path.with_suffix(".png"), dpi=120)
