"""Draws the results: how many requests a second everybody answers, at the most connections.

`python tests/bench/chart.py PATH` draws PATH.svg and PATH.png from what `compare.py` wrote last.
"""

# ruff: noqa: E402 - as a script it has to say first where the repository is.
import argparse
import sys
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from tests.bench.operations import MeasuredOperation
from tests.bench.results import Results

_OURS, _THEIRS, _TEXT = "#1f6feb", "#b4bcc8", "#1f2328"
_COLUMNS = 2
_ROW_INCHES = 0.24


def draw(results: Results, path: Path) -> None:
    """Write `path` with the suffixes .svg and .png.

    The background is white in both, so that they can be read on a dark page too.
    """
    colours = dict.fromkeys(("text.color", "axes.labelcolor", "xtick.color", "ytick.color"), _TEXT)
    # The same numbers make the same file, in which letters stay letters, to be found and read out.
    written = {"svg.hashsalt": "concord", "svg.fonttype": "none", "font.family": "sans-serif"}
    with mpl.rc_context({**colours, **written}):
        figure = _figure(results)
        figure.savefig(path.with_suffix(".svg"), metadata={"Date": None})
        figure.savefig(path.with_suffix(".png"), dpi=150)


def _figure(results: Results) -> Figure:
    operations = [each for each in results.operations if not each.is_rare]
    rows = -(-len(operations) // _COLUMNS)
    height = 0.9 + rows * (0.5 + _ROW_INCHES * len(results.contenders))
    figure = Figure(figsize=(11, height), layout="constrained", facecolor="white")
    axes = figure.subplots(rows, _COLUMNS, squeeze=False).flatten()
    for axis in axes[len(operations) :]:
        axis.set_visible(False)
    for axis, operation in zip(axes, operations, strict=False):
        _fill(axis, results, operation)
    figure.suptitle(
        f"Requests a second on one core, {results.connections[-1]} connections: longer is better "
        "(in brackets: Concord's to theirs)",
        fontsize=11,
    )
    figure.supxlabel(f"{results.date:%Y-%m-%d}, {results.machine}", fontsize=8)
    return figure


def _fill(axis: Axes, results: Results, operation: MeasuredOperation) -> None:
    """One bar for each contender, Concord's on top."""
    connections = results.connections[-1]
    rates = [
        (contender, rate)
        for contender in reversed(results.contenders)
        if (rate := results.rate(contender, operation, connections)) is not None
    ]
    labels = []
    for contender, rate in rates:
        ratio = results.ratio(contender, operation, connections)
        is_ours = contender is results.contenders[0]
        labels.append(f"{rate:,.0f}" if is_ours or ratio is None else f"{rate:,.0f}  ({ratio:.1f})")
    colours = [_OURS if each is results.contenders[0] else _THEIRS for each, _ in rates]
    bars = axis.barh([each.title for each, _ in rates], [rate for _, rate in rates], color=colours)
    axis.bar_label(bars, labels=labels, padding=4, fontsize=8.5)
    axis.set_title(operation.title, loc="left", fontsize=10.5, fontweight="bold")
    axis.spines[["top", "right", "bottom"]].set_visible(False)
    axis.tick_params(axis="y", length=0, labelsize=9)
    axis.set_xticks([])
    # Room for the figure beside the longest bar.
    axis.margins(x=0.2)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("path", type=Path, help="where to draw to, without .svg and .png")
    parser.add_argument("--json", type=Path, default=ROOT / "var" / "bench" / "compare.json")
    arguments = parser.parse_args()
    draw(Results.read(arguments.json), arguments.path)


if __name__ == "__main__":
    main()
