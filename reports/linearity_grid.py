"""Where does linearity end? R2 and the price of linear training over rate, steps and set size.

Shapes: N runs of a grid.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from analysis.estimates import Estimate, estimate, number, ordered
from core.records import Record
from reports.style import Drawing, RunStyle, draw, legend, panels, r2_axis, run_styles, theme
from reports.tables import Table, cell

SCRATCH = "scratch"
_SPREAD = 0.32


@dataclass(frozen=True)
class Shown:
    """A row of panels: what is drawn of every run.

    Attributes:
        title: Of the axis.
        metric: In the record.
        split: `iid` or `ood`.
        at: Position on the path, where it has one.
        layer: Of which it is, where it is of one.
    """

    title: str
    metric: str
    split: str
    at: float | None = None
    layer: str | None = None

    def find(self, values: pd.DataFrame, run: str) -> Estimate | None:
        """The number of a run, over all environments of the split."""
        where = {} if self.layer is None else {"layer": self.layer}
        where |= {"run": run, "split": self.split, "env": "all"}
        return estimate(values, self.metric, at=self.at, **where)


ROWS = (
    Shown("$R^2$ of $\\Phi$, iid", "explained_displacement", "iid", 1.0, "features"),
    Shown("tangent less\nnetwork, iid", "tangent_accuracy_difference", "iid"),
    Shown("tangent less\nnetwork, ood", "tangent_accuracy_difference", "ood"),
)
COLUMNS = {
    "R² of Φ, iid": ROWS[0],
    "Accuracy, iid": Shown("", "weight_accuracy", "iid", at=1.0),
    "Tangent less it": ROWS[1],
    "Accuracy, ood": Shown("", "weight_accuracy", "ood", at=1.0),
    "Tangent less it, ood": ROWS[2],
}


def drawing(grid: pd.DataFrame, record: Record) -> Drawing:
    """A column of panels per set size, learning rates from left to right, scratch at the end.

    Args:
        grid: The runs frame of the grid.
        record: The record that holds its numbers.
    """
    runs = ordinary(grid)
    sizes = sorted(runs["train_size"].unique())
    styles = run_styles([f"{steps} steps" for steps in sorted(runs["steps"].unique())])
    with theme():
        figure, axes = panels(len(ROWS), len(sizes), 0.8 + 1.45 * len(ROWS), sharey="row")
        for shown, line in zip(ROWS, axes, strict=True):
            for size, panel in zip(sizes, line, strict=True):
                of_size = runs.loc[runs["train_size"] == size, :]
                _panel(panel, of_size, shown, record.values, styles, _places(runs))
            line[0].set_ylabel(shown.title)
        r2_axis(axes[0][0], _all_values(runs, ROWS[0], record.values), which="y")
        for size, panel in zip(sizes, axes[0], strict=True):
            panel.set_title(f"{size} training images")
        for panel in axes[-1]:
            panel.set_xlabel("learning rate")
        legend(figure, _handles(styles))
        return draw(figure, _alt(runs, record.values))


def table(grid: pd.DataFrame, record: Record) -> Table:
    """One row a run, by learning rate, steps, set size and seed."""
    rows = [
        [
            SCRATCH if run["from_scratch"] else "pretrained",
            f"{run['lr']:g}",
            str(run["steps"]),
            str(run["train_size"]),
            str(run["seed"]),
            *(cell(shown.find(record.values, str(run["run"]))) for shown in COLUMNS.values()),
        ]
        for run in ordinary(grid).to_dict("records")
    ]
    header = ["Start", "Rate", "Steps", "Images", "Seed", *COLUMNS]
    return {"labels": 5, "header": header, "rows": rows}


def ordinary(grid: pd.DataFrame) -> pd.DataFrame:
    """The runs that the numbers are of, after their last step; the scratch ones last."""
    of = (grid["selection"] == "final") & grid["method"].isin(["erm", "dropout"])
    order = ["from_scratch", "train_size", "steps", "lr", "seed"]
    return grid.loc[of, :].sort_values(order)


def _all_values(runs: pd.DataFrame, shown: Shown, values: pd.DataFrame) -> list[float]:
    found = [shown.find(values, run) for run in ordered(runs, "run")]
    return [end for one in found if one for end in (one.value, one.low, one.high)]


def _places(runs: pd.DataFrame) -> dict[str, float]:
    """Where learning rates stand on the horizontal axis, and scratch behind them."""
    tuned = runs.loc[~runs["from_scratch"], :]
    names = [f"{lr:g}" for lr in sorted(tuned["lr"].unique())]
    if len(tuned) < len(runs):
        names.append(SCRATCH)
    return {name: float(i) for i, name in enumerate(names)}


def _panel(
    axes: Axes,
    runs: pd.DataFrame,
    shown: Shown,
    values: pd.DataFrame,
    styles: Mapping[str, RunStyle],
    places: Mapping[str, float],
) -> None:
    keys = [(name, seed) for name in styles for seed in sorted(runs["seed"].unique())]
    offsets = np.linspace(-_SPREAD, _SPREAD, len(keys)) if len(keys) > 1 else np.zeros(1)
    axes.axhline(0, color="0.6", linewidth=0.6, zorder=0)
    for run in runs.to_dict("records"):
        found = shown.find(values, str(run["run"]))
        if found is None:
            continue
        name = f"{run['steps']} steps"
        style = styles[name]
        at = SCRATCH if run["from_scratch"] else f"{run['lr']:g}"
        x = places[at] + offsets[keys.index((name, run["seed"]))]
        axes.plot([x, x], [found.low, found.high], color=style.color, linewidth=1)
        face = "white" if run["from_scratch"] else style.color
        axes.plot(
            x, found.value, style.marker, color=style.color, markerfacecolor=face, markersize=3
        )
    axes.set_xticks(list(places.values()), list(places))
    axes.set_xlim(-0.5, len(places) - 0.5)


def _handles(styles: Mapping[str, RunStyle]) -> Sequence[Line2D]:
    tuned = [
        Line2D([], [], color=s.color, marker=s.marker, linestyle="", label=name)
        for name, s in styles.items()
    ]
    scratch = Line2D(
        [],
        [],
        color="0.4",
        marker="o",
        markerfacecolor="white",
        linestyle="",
        label="from scratch",
    )
    return [*tuned, scratch]


def _alt(runs: pd.DataFrame, values: pd.DataFrame) -> str:
    said = [
        f"{run} {number(found.value)}"
        for run in ordered(runs, "run")
        if (found := ROWS[0].find(values, run))
    ]
    return (
        "R2 of the representation, and accuracy of the tangent model less that of the network, "
        "over learning rate, steps and number of training images, with intervals; from scratch "
        f"at the right. R2: {'; '.join(said)}."
    )
