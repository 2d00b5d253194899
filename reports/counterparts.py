"""Figure and table of linear counterparts against the network, over environments and seeds."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from analysis.estimates import DASH, number
from analysis.linear_counterparts import CHOSEN, ORDINARY, TITLES, Contrast
from reports.style import Drawing, RunStyle, draw, legend, panels, run_styles, theme
from reports.tables import Table, cell

NETWORK = "network"
_LABELS = {"best": "best", "final": "last"}
_MEAN = "0.1"  # colour
_TICKS = 5  # of differences, whose labels are long

Place = tuple[str, str]  # method and selection


def drawings(runs: pd.DataFrame, contrasts: Sequence[Contrast]) -> list[Drawing]:
    """Accuracies by environment on the left, paired differences to the network on the right.

    Args:
        runs: The runs frame that the contrasts rest on.
        contrasts: As `analysis.linear_counterparts.contrasts` returns them.

    Returns:
        A figure for i.i.d. and one for o.o.d. accuracy, with a row of panels per dropout rate.
    """
    with theme():
        return [
            _drawing(runs, [c for c in contrasts if c.split == split], split)
            for split in ("iid", "ood")
        ]


def _drawing(runs: pd.DataFrame, contrasts: Sequence[Contrast], split: str) -> Drawing:
    styles = run_styles(sorted(runs["env"].unique()))
    rates = sorted({c.drop_rate for c in contrasts})
    places = [(NETWORK, s) for s in _LABELS] + _places(contrasts)
    height = 0.8 + len(rates) * (0.3 + 0.17 * len(places))
    figure, grid = panels(len(rates), 2, height, sharex="col", sharey=True)
    for (left, right), rate in zip(grid, rates, strict=True):
        _accuracies(left, _of_rate(runs, rate), places, split, styles)
        found = {(c.method, c.selection): c for c in contrasts if c.drop_rate == rate}
        _differences(right, found, places, styles)
        left.set_title(f"{split}, dropout {rate:g}: accuracy")
        right.set_title("less the network's")
    grid[0][0].set_yticks(range(len(places)), [_name(place) for place in places])
    grid[0][0].set(ylim=(len(places) - 0.5, -0.5))
    for axes, label in zip(grid[-1], ("accuracy", "paired difference"), strict=True):
        axes.set_xlabel(label)
    legend(figure, _handles(styles))
    return draw(figure, _alt(contrasts), f"{split} accuracy")


def table(contrasts: Sequence[Contrast]) -> Table:
    """Every difference with its 95 % interval, the 90 % one of the two tests, and their word."""
    rows = [
        [
            TITLES[c.method],
            _LABELS[c.selection],
            f"{c.drop_rate:g}",
            c.split,
            cell(c.mean.estimate),
            f"{number(c.test.low)}, {number(c.test.high)}" if c.mean.has_error else DASH,
            c.test.word,
            f"{c.mean.same_sign} of {len(c.mean.by_env)}",
            str(c.mean.num),
        ]
        for c in contrasts
    ]
    header = [
        "Method",
        "Step",
        "Dropout",
        "Split",
        "Difference",
        "90 %",
        "Word",
        "Same sign",
        "Pairs",
    ]
    return {"labels": 4, "header": header, "rows": rows}


def lines(contrasts: Sequence[Contrast]) -> list[str]:
    """One line a contrast, for a terminal."""
    return [
        f"{TITLES[c.method]} {CHOSEN[c.selection]}, dropout {c.drop_rate:g}, {c.split}: "
        f"{c.mean.estimate} {c.test.word}"
        for c in contrasts
    ]


def _places(contrasts: Sequence[Contrast]) -> list[Place]:
    return list(dict.fromkeys((c.method, c.selection) for c in contrasts))


def _name(place: Place) -> str:
    method, selection = place
    shown = TITLES.get(method, method)
    return shown if method == "kernel" else f"{shown}, {_LABELS[selection]}"


def _of_rate(runs: pd.DataFrame, rate: float) -> pd.DataFrame:
    at_rate = runs.loc[runs["drop_rate"] == rate, :]
    return at_rate.assign(method=at_rate["method"].replace(dict.fromkeys(ORDINARY, NETWORK)))


def _accuracies(
    axes: Axes,
    runs: pd.DataFrame,
    places: Sequence[Place],
    split: str,
    styles: Mapping[str, RunStyle],
) -> None:
    """Every run a marker in the colour of its environment."""
    for row, (method, selection) in enumerate(places):
        of = (runs["method"] == method) & (runs["selection"] == selection)
        for place, (env, style) in zip(_beside(styles), styles.items(), strict=True):
            values = runs.loc[of & (runs["env"] == env), split].to_numpy(float)
            y = np.full(len(values), row + place)
            axes.plot(values, y, style.marker, color=style.color, markersize=2.8, alpha=0.8)
    _between_rows(axes, len(places))


def _differences(
    axes: Axes,
    found: Mapping[Place, Contrast],
    places: Sequence[Place],
    styles: Mapping[str, RunStyle],
) -> None:
    """The mean with its interval in black, the mean of every environment in its colour."""
    axes.axvline(0, color="0.6", linewidth=0.6, zorder=0)
    for place, contrast in found.items():
        row = places.index(place)
        for env, value in contrast.mean.by_env.items():
            style = styles[env]
            axes.plot(value, row + 0.22, style.marker, color=style.color, markersize=2.4)
        low, high = contrast.mean.interval()
        axes.plot([low, high], [row - 0.12] * 2, color=_MEAN, linewidth=1.2)
        axes.plot(contrast.mean.value, row - 0.12, "o", color=_MEAN, markersize=4)
    axes.tick_params(axis="y", length=0)
    axes.xaxis.set_major_locator(MaxNLocator(_TICKS))
    _between_rows(axes, len(places))


def _beside(styles: Mapping[str, RunStyle]) -> np.ndarray:
    return np.linspace(-0.28, 0.28, len(styles)) if len(styles) > 1 else np.zeros(1)


def _between_rows(axes: Axes, num: int) -> None:
    for row in range(1, num):
        axes.axhline(row - 0.5, color="0.9", linewidth=0.5, zorder=0)


def _handles(styles: Mapping[str, RunStyle]) -> list[Line2D]:
    envs = [
        Line2D([], [], color=s.color, marker=s.marker, linestyle="", label=f"{env} held out")
        for env, s in styles.items()
    ]
    return [*envs, Line2D([], [], color=_MEAN, marker="o", label="mean and 95 % interval")]


def _alt(contrasts: Sequence[Contrast]) -> str:
    return (
        "Accuracy of the network and of its linear counterparts for every environment held out, "
        f"and paired differences to the network. Differences: {'; '.join(lines(contrasts))}."
    )
