"""The section on training space: ordinary runs beside the linear models trained in their place.

In the report of the probe `linearity`, where a run had such counterparts.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from analysis.estimates import Estimate, estimate, number, ordered, select
from core.records import Record
from reports.document import aligned, plain
from reports.figures import run_names, splits
from reports.style import (
    Drawing,
    RunStyle,
    chunks,
    draw,
    legend,
    line_handles,
    panels,
    run_styles,
    theme,
)
from reports.tables import ARROWS, Quantity, Table, by_environment, cell

ORDINARY = "ordinary"
RUNS_PER_FIGURE = 5
METHODS = {  # in the order of the probe: what the figure and the table print
    ORDINARY: "ordinary",
    "tangent": "tangent",
    "transplanted": "transplanted",
    "linear_model_best": "model (1), best",
    "linear_model_final": "model (1), last",
    "kernel": "kernel",
}
ROWS = METHODS | {"kernel_to_tangent": "kernel, to tangent"}  # of the table
COLUMNS = {
    "accuracy": "Accuracy",
    "accuracy_difference": "Difference",
    "agreement": "Agreement",
}


def runs_of(record: Record) -> list[str]:
    """Runs that have counterparts, in the order of the record."""
    return ordered(select(record.values, f"{ORDINARY}_accuracy"), "run")


def methods_of(record: Record) -> list[str]:
    """Methods that any run was compared with, the ordinary network first."""
    return [method for method in METHODS if f"{method}_accuracy" in record.metrics]


def facts(record: Record) -> dict[str, Any] | None:
    """What the section says about how it was made; None where no run has counterparts."""
    if not runs_of(record):
        return None
    made: dict[str, Any] = record.provenance["training_space"]
    kernels = [run["kernel"] for run in made["runs"].values() if "kernel" in run]
    return {
        "samples": made["samples"],
        "intervals": made["intervals"],
        "features": sorted({kernel["features"] for kernel in kernels if "features" in kernel}),
        "images": sorted({sum(kernel["images"].values()) for kernel in kernels}),
        "methods": methods_of(record),
    }


def drawings(record: Record) -> dict[str, Sequence[Drawing]]:
    """The figure of the section by name, in parts for many runs; none without counterparts."""
    if not runs_of(record):
        return {}
    with theme():
        parts = chunks(runs_of(record), RUNS_PER_FIGURE)
        return {"training": [_figure(record, runs) for runs in parts]}


def _figure(record: Record, runs: Sequence[str]) -> Drawing:
    """A row per split: accuracies by method, and their differences to the ordinary network."""
    rows, methods = splits(record, f"{ORDINARY}_accuracy"), methods_of(record)
    names = {run: run_names(record)[run] for run in runs}
    styles = {run: run_styles(list(run_names(record)))[run] for run in runs}
    height = 0.9 + len(rows) * (0.5 + len(methods) * (0.14 + 0.07 * len(runs)))
    figure, grid = panels(len(rows), 2, height, sharex="col", sharey=True)
    for (left, right), split in zip(grid, rows, strict=True):
        _dots(left, record.values, "accuracy", split, methods, styles)
        _dots(right, record.values, "accuracy_difference", split, methods, styles)
        right.axvline(0, color="0.6", linewidth=0.6, zorder=0)
        right.tick_params(axis="y", length=0)
        left.set_title(f"{split}: accuracy")
        right.set_title(f"{split}: less the ordinary network's")
    grid[0][0].set_yticks(range(len(methods)), [METHODS[method] for method in methods])
    grid[0][0].set(ylim=(len(methods) - 0.5, -0.5))
    for axes, label in zip(grid[-1], ("accuracy", "paired difference in accuracy"), strict=True):
        axes.set_xlabel(label)
    legend(figure, line_handles(styles, names))
    part = "" if len(runs) == len(runs_of(record)) else f"runs {runs[0]} to {runs[-1]}"
    return draw(figure, _alt(record, runs), part)


def _dots(
    axes: Axes,
    values: pd.DataFrame,
    what: str,
    split: str,
    methods: Sequence[str],
    styles: dict[str, RunStyle],
) -> None:
    """Runs side by side around the line of each method, intervals as whiskers."""
    places = np.linspace(-0.3, 0.3, len(styles)) if len(styles) > 1 else np.zeros(1)
    for place, (run, style) in zip(places, styles.items(), strict=True):
        for row, method in enumerate(methods):
            found = estimate(values, f"{method}_{what}", run=run, env="all", split=split)
            if found is not None:
                y = row + place
                axes.plot([found.low, found.high], [y, y], color=style.color, linewidth=1)
                axes.plot(found.value, y, style.marker, color=style.color, markersize=3.4)
    for row in range(1, len(methods)):
        axes.axhline(row - 0.5, color="0.9", linewidth=0.5, zorder=0)


def tables_of(record: Record) -> dict[str, Table]:
    """A row per run, split and method, and one per run and environment; none without runs."""
    if not runs_of(record):
        return {}
    rows = [
        [
            run,
            split,
            ROWS[name],
            *(cell(_found(record, run, split, name, c)) for c in COLUMNS),
        ]
        for run, split, name in _places(record)
    ]
    titles = [f"{title}{ARROWS['higher']}" for title in COLUMNS.values()]
    whole = {"labels": 3, "header": ["Run", "Split", "Method", *titles], "rows": rows}
    accuracies = [Quantity(METHODS[m].capitalize(), f"{m}_accuracy") for m in methods_of(record)]
    single = by_environment(record, accuracies, f"{ORDINARY}_accuracy")
    return {"training": whole, "training_environments": single}


def lines(record: Record) -> list[str]:
    """The table as plain text, without agreements; none without counterparts."""
    rows = []
    for run, split, name in _places(record):
        found = (_found(record, run, split, name, c) for c in ("accuracy", "accuracy_difference"))
        rows.append([run, split, ROWS[name], *("" if f is None else plain(f) for f in found)])
    header = ["training", "split", "method", "accuracy [95 %]", "difference [95 %]"]
    return aligned(header, rows)


def _places(record: Record) -> list[tuple[str, str, str]]:
    """Runs, splits and rows of the table that were measured."""
    return [
        (run, split, name)
        for run in runs_of(record)
        for split in splits(record, f"{ORDINARY}_accuracy")
        for name in ROWS
        if any(_found(record, run, split, name, column) is not None for column in COLUMNS)
    ]


def _found(record: Record, run: str, split: str, method: str, what: str) -> Estimate | None:
    return estimate(record.values, f"{method}_{what}", run=run, env="all", split=split)


def _alt(record: Record, runs: Sequence[str]) -> str:
    said = [
        f"{run} {split} {ROWS[name]} {number(found.value)}"
        for run, split, name in _places(record)
        if run in runs and (found := _found(record, run, split, name, "accuracy"))
    ]
    return (
        "Accuracy of the ordinary network and of its linear counterparts with intervals, and the "
        f"paired differences to the ordinary network. Accuracies: {'; '.join(said)}."
    )
