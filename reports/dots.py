"""Single numbers beside their neighbours: dots and bars with intervals, runs top to bottom."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from numpy.typing import ArrayLike

from analysis.estimates import Estimate, estimate, number, ordered, select
from analysis.verdicts import Verdict, controls, linearity_verdicts
from core.records import Record
from reports.figures import run_names, splits
from reports.style import (
    Drawing,
    RunStyle,
    bar_handles,
    draw,
    legend,
    log_ticks,
    panels,
    r2_axis,
    run_styles,
    theme,
    wrapped,
)

_NULLS = {"random displacement": "D", "permuted displacement": "s"}
_BLOCK_PANELS = {  # metric: title
    "explained_displacement": r"$R^2$ of the block's own output",
    "block_explained_displacement": r"$R^2$ of $\Phi$, block moved alone",
    "block_share": r"share of $\Vert J_0\delta\Vert^2$",
}


def neighbours(record: Record) -> Drawing:
    """R2 at the fine-tuned weights between 0 and 1, beside the nulls and the control."""
    verdicts, names, columns = linearity_verdicts(record), run_names(record), splits(record)
    with theme():
        height = 0.85 + 0.3 * len(names)
        figure, grid = panels(1, len(columns), height, sharex=True, sharey=True)
        for axes, split in zip(grid[0], columns, strict=True):
            of_split = [verdict for verdict in verdicts if verdict.split == split]
            for verdict in of_split:
                _beside_neighbours(axes, verdict, names, record.values)
            axes.set(title=split, xlabel="$R^2$ of the representation at $\\alpha = 1$")
        r2_axis(grid[0][0], _all_values(verdicts, record.values), which="x")
        _lines_at_ends(grid[0][1:])
        _run_axis(grid[0], names)
        legend(figure, _neighbour_handles(len(controls(record)) > 0))
        return draw(figure, _neighbours_alt(verdicts))


def _beside_neighbours(
    axes: Axes, verdict: Verdict, names: Mapping[str, str], values: pd.DataFrame
) -> None:
    row, style = list(names).index(verdict.run), run_styles(list(names))[verdict.run]
    single = _by_environment(values, "explained_displacement", verdict, at=1.0)
    axes.plot(single["value"], np.full(len(single), row + 0.3), "|", color="0.45", markersize=4)
    for name, other in verdict.neighbours.items():
        if name.startswith("control"):
            axes.fill_betweenx(
                [row - 0.42, row + 0.42], other.low, other.high, color="0.8", linewidth=0
            )
    for name, marker in _NULLS.items():
        _dot(axes, verdict.neighbours[name], row - 0.22, "0.35", marker, filled=False)
    _dot(axes, verdict.estimate, row, style.color, style.marker, filled=True)


def _dot(axes: Axes, x: Estimate, y: float, color: object, marker: str, *, filled: bool) -> None:
    """A marker with its interval as a whisker; the whisker is absent where the interval is."""
    axes.plot([x.low, x.high], [y, y], color=color, linewidth=1)  # type: ignore[arg-type]
    face = color if filled else "white"
    size = 4.2 if filled else 2.8
    axes.plot(
        x.value, y, marker, color=color, markerfacecolor=face, markersize=size, markeredgewidth=0.7
    )  # type: ignore[arg-type]


def _by_environment(
    values: pd.DataFrame, metric: str, verdict: Verdict, *, at: float | None = None
) -> pd.DataFrame:
    where = {"run": verdict.run, "split": verdict.split, "layer": "features"}
    rows = select(values, metric, at=at, **where)
    return rows.loc[rows["env"] != "all", :]


def _all_values(verdicts: Sequence[Verdict], values: pd.DataFrame) -> list[float]:
    estimates = [e for v in verdicts for e in (v.estimate, *v.neighbours.values())]
    single = select(values, "explained_displacement", at=1.0, layer="features")["value"]
    return [x for e in estimates for x in (e.value, e.low, e.high)] + single.tolist()


def _lines_at_ends(row: Sequence[Axes]) -> None:
    for axes in row:
        for at in (0, 1):
            axes.axvline(at, color="0.6", linewidth=0.6, zorder=0)


def _run_axis(row: Sequence[Axes], names: Mapping[str, str]) -> None:
    """Runs on the y axis, the first one at the top, tick labels in place of a legend."""
    row[0].set(ylim=(len(names) - 0.5, -0.5))
    row[0].set_yticks(range(len(names)), [wrapped(name, 24) for name in names.values()])
    for axes in row:
        axes.tick_params(axis="y", length=0)


def _neighbour_handles(with_control: bool) -> list[Line2D | Patch]:
    def mark(marker: str, face: str, label: str) -> Line2D:
        return Line2D([], [], color="0.2", linestyle="", marker=marker, mfc=face, label=label)

    return [
        mark("o", "0.2", "run"),
        mark("|", "0.45", "its environments"),
        *(mark(marker, "white", name.split()[0]) for name, marker in _NULLS.items()),
        *([Patch(color="0.8", label="control's interval")] if with_control else []),
    ]


def curvature(record: Record) -> Drawing:
    """The lazy radius on a logarithmic axis; the curvature ratio is its reciprocal, above."""
    verdicts, names, columns = linearity_verdicts(record), run_names(record), splits(record)
    styles = run_styles(list(names))
    with theme():
        figure, grid = panels(1, len(columns), 0.95 + 0.24 * len(names), sharex=True, sharey=True)
        for axes, split in zip(grid[0], columns, strict=True):
            for verdict in [v for v in verdicts if v.split == split]:
                row, style = list(names).index(verdict.run), styles[verdict.run]
                single = _by_environment(record.values, "lazy_radius", verdict)
                at = np.full(len(single), row + 0.28)
                axes.plot(single["value"], at, "|", color="0.45", markersize=4)
                _dot(axes, verdict.lazy_radius, row, style.color, style.marker, filled=True)
            axes.set_xlabel(rf"{split}: lazy radius $\alpha^*$")
        for axes in grid[0]:
            _reciprocal_axes(axes)
        _run_axis(grid[0], names)
        return draw(figure, _curvature_alt(verdicts))


def _reciprocal_axes(axes: Axes) -> None:
    """Logarithmic, with the line at 1 in sight and the reciprocal above."""
    axes.set_xscale("log")
    axes.axvline(1, color="0.6", linewidth=0.6, zorder=0)
    low, high = axes.get_xlim()
    axes.set_xlim(min(low, 0.5), max(high, 2))
    above = axes.secondary_xaxis("top", functions=(_reciprocal, _reciprocal))
    above.set_xlabel(r"curvature ratio $\kappa = 1/\alpha^*$")
    for axis in (axes.xaxis, above.xaxis):
        log_ticks(axis, high / low)


def _reciprocal(x: ArrayLike) -> np.ndarray:
    with np.errstate(divide="ignore"):  # matplotlib tries the limit 0 before it sees the data
        return 1 / np.asarray(x, dtype=float)


def blocks(record: Record) -> list[Drawing]:
    """How linear each block is and how much of the displacement it causes; a figure per split.

    There is none where no block moved, such as when the classifier alone was trained.
    """
    moved = weight_group_names(record)
    with theme():
        return [_blocks(record, split) for split in splits(record)] if moved else []


def _blocks(record: Record, split: str) -> Drawing:
    names, layers = run_names(record), weight_group_names(record)
    styles = run_styles(list(names))
    row_height = max(0.19, 0.035 + 0.07 * len(names))
    figure, grid = panels(1, 3, 0.95 + row_height * len(layers), sharey=True)
    for axes, (metric, title) in zip(grid[0], _BLOCK_PANELS.items(), strict=True):
        drawn = bars(axes, record.values, metric, split, layers, styles)
        axes.set_title(title)
        if metric != "block_share":
            r2_axis(axes, drawn, which="x")
    grid[0][0].set_yticks(range(len(layers)), layers)
    for axes in grid[0][1:]:
        axes.tick_params(axis="y", length=0)
    grid[0][0].set(ylim=(len(layers) - 0.5, -0.5))
    legend(figure, bar_handles(styles, names))
    return draw(figure, _blocks_alt(record, split, layers), f"{split} images")


def weight_group_names(record: Record) -> list[str]:
    """Stem, blocks and neck in the order of the network, as the record lists them."""
    return ordered(select(record.values, "block_share"), "layer")


def bars(
    axes: Axes,
    values: pd.DataFrame,
    metric: str,
    split: str,
    layers: Sequence[str],
    styles: Mapping[str, RunStyle],
) -> list[float]:
    """Bars from 0 with whiskers, runs side by side; returns everything that must be visible."""
    width = 0.8 / len(styles)
    at = 1.0 if metric == "explained_displacement" else None
    shown: list[float] = []
    for index, (run, style) in enumerate(styles.items()):
        rows = select(values, metric, at=at, run=run, env="all", split=split)
        rows = rows.set_index("layer").reindex(list(layers))[["value", "low", "high"]]
        y = np.arange(len(layers)) - 0.4 + (index + 0.5) * width
        axes.barh(y, rows["value"], height=0.85 * width, color=style.color, linewidth=0)
        axes.hlines(y, rows["low"], rows["high"], color="0.15", linewidth=0.6)
        shown += rows.to_numpy().ravel().tolist()
    return shown


def _neighbours_alt(verdicts: Sequence[Verdict]) -> str:
    lines = [
        f"{v.run} {v.split} {v.estimate}, random "
        f"{number(v.neighbours['random displacement'].value)}, permuted "
        f"{number(v.neighbours['permuted displacement'].value)}"
        for v in verdicts
    ]
    return f"Explained displacement beside its neighbours: {'; '.join(lines)}."


def _curvature_alt(verdicts: Sequence[Verdict]) -> str:
    lines = [f"{v.run} {v.split} {v.lazy_radius}" for v in verdicts]
    return f"Lazy radius with its interval: {'; '.join(lines)}."


def _blocks_alt(record: Record, split: str, layers: Sequence[str]) -> str:
    where = {"layer": layers[-1], "env": "all", "split": split}
    last = [
        f"{run} {number(r2.value)}"
        for run in run_names(record)
        if (r2 := estimate(record.values, "explained_displacement", at=1.0, run=run, **where))
    ]
    return (
        f"Bars per block from {layers[0]} to {layers[-1]}, {split}: explained displacement of its "
        "output, of the representation when it moves alone, and its share. "
        f"Explained displacement of the last of them: {'; '.join(last)}."
    )
