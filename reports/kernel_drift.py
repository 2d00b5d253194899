"""How far the kernel moved: block by block beside a random move, and along the checkpoints."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from analysis.estimates import number, ordered, select
from analysis.kernel_verdicts import DISTANCE, kernel_layer, kernel_verdicts
from core.records import Record
from reports.dots import bars
from reports.figures import run_names, splits
from reports.style import (
    Drawing,
    RunStyle,
    bar_handles,
    draw,
    legend,
    line_handles,
    log_ticks,
    panels,
    run_styles,
    theme,
)


def drift(record: Record) -> list[Drawing]:
    """Distance of the kernel and of every block's, and the blocks' shares; a figure per split."""
    with theme():
        return [_drift(record, split) for split in splits(record, DISTANCE)]


def block_names(record: Record) -> list[str]:
    """Blocks that have a part in the kernel, in the order of the network."""
    return ordered(select(record.values, "block_trace_share"), "layer")


def _drift(record: Record, split: str) -> Drawing:
    names, layers = run_names(record), [kernel_layer(record), *block_names(record)]
    styles = run_styles(list(names))
    row_height = max(0.19, 0.035 + 0.07 * len(names))
    figure, (row,) = panels(1, 2, 0.95 + row_height * len(layers), sharey=True)
    bars(row[0], record.values, DISTANCE, split, layers, styles)
    _random_moves(row[0], record.values, split, layers, styles)
    bars(row[1], record.values, "block_trace_share", split, layers, styles)
    row[0].set_xlabel(r"kernel distance $1 - \cos(K_0, K_1)$")
    row[1].set_xlabel(r"share of the trace of $K_0$")
    row[0].set_yticks(range(len(layers)), ["whole kernel", *layers[1:]])
    row[0].set(xlim=(0, None), ylim=(len(layers) - 0.5, -0.5))
    row[1].set(xlim=(0, None))
    for axes in row:
        axes.axhline(0.5, color="0.6", linewidth=0.6)
        axes.tick_params(axis="y", length=0)
    legend(figure, [*bar_handles(styles, names), _random_handle()])
    return draw(figure, _drift_alt(record, split), f"{split} images")


def _random_moves(
    axes: Axes,
    values: pd.DataFrame,
    split: str,
    layers: Sequence[str],
    styles: Mapping[str, RunStyle],
) -> None:
    """The distance after a random move as an open diamond with its interval, over each bar."""
    width = 0.8 / len(styles)
    for index, run in enumerate(styles):
        rows = select(values, "random_kernel_distance", run=run, env="all", split=split)
        rows = rows.set_index("layer").reindex(list(layers))
        y = np.arange(len(layers)) - 0.4 + (index + 0.5) * width
        axes.hlines(y, rows["low"], rows["high"], color="0.45", linewidth=0.6)
        axes.plot(rows["value"], y, "D", mfc="white", mec="0.2", mew=0.6, markersize=2.6)


def _random_handle() -> Line2D:
    return Line2D(
        [], [], linestyle="", marker="D", mfc="white", mec="0.2", label="random move, same size"
    )


def velocity(record: Record) -> list[Drawing]:
    """Distance per step between checkpoints, a panel per split; none without checkpoints."""
    runs = ordered(select(record.values, "kernel_velocity"), "run")
    if not runs:
        return []
    names, columns = run_names(record), splits(record, DISTANCE)
    styles = run_styles(list(names))
    with theme():
        figure, (row,) = panels(1, len(columns), 2.3, sharex=True, sharey=True)
        for axes, split in zip(row, columns, strict=True):
            for place, run in zip(_places(len(runs)), runs, strict=True):
                _steps(axes, _velocities(record.values, run, split), styles[run], place)
            axes.set(title=split, xlabel="training step", yscale="log")
        low, high = row[0].get_ylim()
        log_ticks(row[0].yaxis, high / low)
        row[0].set_ylabel("kernel distance per step")
        legend(figure, line_handles({run: styles[run] for run in runs}, names))
        return [draw(figure, _velocity_alt(record, runs))]


def _velocities(values: pd.DataFrame, run: str, split: str) -> pd.DataFrame:
    rows = select(values, "kernel_velocity", run=run, split=split, env="all")
    return rows.sort_values("at")


def _places(num: int) -> list[float]:
    """Where the markers of several runs stand between two checkpoints, as shares of the way.

    Example:
        >>> _places(1), _places(3)
        ([0.5], [0.25, 0.5, 0.75])
    """
    return [(i + 1) / (num + 1) for i in range(num)]


def _steps(axes: Axes, rows: pd.DataFrame, style: RunStyle, place: float) -> None:
    """A velocity holds from one checkpoint to the next; the first interval begins at step 0."""
    edges = np.array([0.0, *rows["at"]])
    at = edges[:-1] + place * np.diff(edges)
    value, low, high = (rows[name].to_numpy(float) for name in ("value", "low", "high"))
    seen = np.maximum(low, value / 10)  # a logarithmic axis has no place for 0 and less
    axes.hlines(value, edges[:-1], edges[1:], color=style.color, linewidth=1.4)
    axes.plot(at, value, style.marker, color=style.color)
    axes.vlines(at, seen, high, color=style.color, linewidth=0.8)


def _drift_alt(record: Record, split: str) -> str:
    whole = [
        f"{verdict.run} {verdict.estimate}, random move {verdict.neighbours['random move']}"
        for verdict in kernel_verdicts(record)
        if verdict.split == split
    ]
    return (
        f"Bars of the kernel distance per block from {block_names(record)[0]} to "
        f"{block_names(record)[-1]}, {split}, beside a random move, and of each block's share of "
        f"the trace. Whole kernel: {'; '.join(whole)}."
    )


def _velocity_alt(record: Record, runs: Sequence[str]) -> str:
    ends = []
    for run in runs:
        rows = _velocities(record.values, run, splits(record, DISTANCE)[0])
        first, last = (rows["value"].iloc[i] for i in (0, -1))
        ends.append(f"{run} from {number(first)} to {number(last)}")
    return f"Kernel distance per training step between checkpoints: {'; '.join(ends)}."
