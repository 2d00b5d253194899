"""How much of the accuracy is left on a part of the units, and what checkpoints add up to."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from jaxtyping import Float
from matplotlib.axes import Axes

from analysis.estimates import Estimate, estimate, select
from analysis.richness_verdicts import checkpoints, layer_of, look_up, places, split_names
from core.records import Record
from reports.heat import broken, heat_map
from reports.richness_runs import (
    curve,
    curve_rows,
    dot,
    handles,
    names_of,
    splits_with,
    styles_of,
)
from reports.style import Drawing, draw, legend, log_ticks, panels, theme

CURVES = {  # metric: title
    "subset_accuracy": "random units",
    "top_components_accuracy": "top components",
    "bottom_components_accuracy": "bottom components",
    "random_projection_accuracy": "random projections",
}
GAINS = {  # metric: what it is over
    "concatenation_gain": "over the first alone",
    "concatenation_gain_over_width": "over the first beside as many random features of it",
}
_MASKED, _REDUNDANCY = "masked_accuracy", "diffused_redundancy"
_MOST_TEXTS = 7  # checkpoints beside each other whose numbers fit into a map


def redundancy(record: Record) -> list[Drawing]:
    """Accuracy over the share of units, of all kinds of parts; a figure per split."""
    with theme():
        splits = splits_with(record, "subset_accuracy", split_names(record))
        return [_redundancy(record, split) for split in splits]


def _redundancy(record: Record, split: str) -> Drawing:
    figure, grid = panels(2, 3, 4.2)
    axes = [panel for row in grid for panel in row]
    for panel, (metric, title) in zip(axes, CURVES.items(), strict=False):
        for run, style in styles_of(record).items():
            curve(panel, curve_rows(record, run, split, metric), run, style)
        panel.set(title=title, xlabel="fraction of dimensions")
    _masked(axes[4], record, split)
    _diffused(axes[5], record, split)
    _share_axes([panel for panel in axes[:5] if panel.has_data()])
    for panel in axes:
        if not panel.has_data():
            panel.set_visible(False)
    for row in grid:
        row[0].set_ylabel("accuracy")
    legend(figure, handles(record))
    return draw(figure, _redundancy_alt(record, split), f"{split} images")


def _share_axes(curves: Sequence[Axes]) -> None:
    """Fractions on a logarithmic axis, and the same accuracies everywhere."""
    lows, tops = zip(*(panel.get_ylim() for panel in curves), strict=True)
    for panel in curves:
        panel.set(xscale="log", ylim=(max(0.0, min(lows)), max(tops)))
        log_ticks(panel.xaxis, 1e3)


def _masked(axes: Axes, record: Record, split: str) -> None:
    """The trained head on masked features, over the share of units that is left on average."""
    for run, style in styles_of(record).items():
        rows = curve_rows(record, run, split, _MASKED)
        curve(axes, rows.assign(at=1 - rows["at"].to_numpy(float)), run, style)
    axes.set(title="trained head, units masked", xlabel="share of units left")


def _diffused(axes: Axes, record: Record, split: str) -> None:
    styles = styles_of(record)
    for at, (run, style) in enumerate(styles.items()):
        dot(axes, look_up(record, run, split, _REDUNDANCY), at, run, style)
    axes.set(title="diffused redundancy", xlabel=r"$DR$", yticks=[], xlim=(-0.02, 1.03))
    axes.set_ylim(len(styles) - 0.5, -0.5)


def _redundancy_alt(record: Record, split: str) -> str:
    lines = [
        f"{run} {found}"
        for run in checkpoints(record)
        if (found := look_up(record, run, split, _REDUNDANCY)) is not None
    ]
    return (
        f"Accuracy of {', '.join(CURVES.values())} against their fraction, and of the trained "
        f"head on masked units, {split}. Diffused redundancy of {'; '.join(lines)}."
    )


def concatenation(record: Record) -> list[Drawing]:
    """What the column's checkpoint adds to the row's, a map per split; a figure per baseline."""
    with theme():
        return [
            _gains(record, metric, splits, of)
            for metric, of in GAINS.items()
            if (splits := splits_with(record, metric, split_names(record)))
        ]


def _gains(record: Record, metric: str, splits: Sequence[str], of: str) -> Drawing:
    names = list(names_of(record).values())
    figure, grid = panels(len(splits), 1, 0.4 + len(splits) * (0.55 + 0.22 * len(names)))
    largest = float(np.abs(select(record.values, metric)["value"].to_numpy()).max())
    for (axes,), split in zip(grid, splits, strict=True):
        found, ends = _all_gains(record, metric, split), (-largest, largest)
        values, texts = _values(found), _texts(found)
        mesh = heat_map(axes, values, texts, names, names, cmap="RdBu_r", ends=ends, fontsize=5.8)
        broken(axes)
        axes.set_title(f"{split}: accuracy gained when the column is added to the row")
        figure.colorbar(mesh, ax=axes, pad=0.01, aspect=25)
    return draw(figure, _gains_alt(record, metric, splits), of)


Gains = list[list[Estimate | None]]


def _all_gains(record: Record, metric: str, split: str) -> Gains:
    runs = checkpoints(record)
    return [[_gain(record, metric, a, b, split) for b in runs] for a in runs]


def _gain(record: Record, metric: str, first: str, second: str, split: str) -> Estimate | None:
    env = places(record, first).get(split, "")
    where = {"run": f"{first} | {second}", "split": split, "env": env, "layer": layer_of(record)}
    return estimate(record.values, metric, at=None, **where)


def _values(found: Gains) -> Float[np.ndarray, "R R"]:
    return np.array([[np.nan if e is None else e.value for e in row] for row in found])


def _texts(found: Gains) -> list[list[str]]:
    """Values with their intervals, or, where these do not fit, a star where zero is outside."""
    short = len(found) > _MOST_TEXTS
    return [["" if e is None else _star(e) if short else _text(e) for e in row] for row in found]


def _text(found: Estimate) -> str:
    return f"{found.value:+.3f}\n[{found.low:+.3f}, {found.high:+.3f}]".replace("-", "\u2212")


def _star(found: Estimate) -> str:
    return "*" if found.low > 0 or found.high < 0 else ""


def _gains_alt(record: Record, metric: str, splits: Sequence[str]) -> str:
    rows = [select(record.values, metric, split=split) for split in splits]
    found: pd.DataFrame = pd.concat(rows)
    largest = found.iloc[int(np.nanargmax(found["value"].to_numpy(float)))]
    return (
        f"{record.metrics[metric].title} for all ordered pairs of checkpoints, on "
        f"{', '.join(splits)}; largest: {largest['run']} {largest['value']:.3f}."
    )
