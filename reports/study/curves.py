"""A comparison drawn as curves: accuracies, and differences, along a rate or a size."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from analysis.bootstrap import Mean
from analysis.claims.rows import SINGLE
from analysis.equivalence import MARGIN
from reports.study.comparison import Comparison, a_plate_each, frame
from reports.study.sections import Plate
from reports.style import Drawing, RunStyle, draw, legend, line_handles, panels, run_styles

_SPREAD = 0.3  # share of the distance between positions that curves take beside each other
_EDGE = 0.01
PUBLISHED = "published"
Points = dict[float, Mean]


def plates(
    comparisons: Sequence[Comparison],
    *,
    axis: str,
    less: str = "",
    published: Mapping[str, pd.DataFrame] = MappingProxyType({}),
) -> list[Plate]:
    """One figure a data set, a curve a group, positions at equal distances.

    Args:
        comparisons: Arms with `group` and `at`.
        axis: What `at` is.
        less: What differences are to; there is no such panel where it is empty.
        published: Reference points by data set: columns method, drop_rate, iid, ood.
    """

    def plate(comparison: Comparison, part: str) -> Plate:
        theirs = published.get(comparison.dataset, pd.DataFrame())
        shown = [frame(comparison), *([theirs.assign(name=PUBLISHED)] if len(theirs) else [])]
        drawing = _drawing(comparison, part, axis, less, theirs)
        return Plate(drawing=drawing, data=pd.concat(shown))

    return a_plate_each(comparisons, plate)


def _drawing(
    comparison: Comparison, part: str, axis: str, less: str, theirs: pd.DataFrame
) -> Drawing:
    groups = list(dict.fromkeys(arm.group for arm in comparison.arms))
    styles = run_styles(groups)
    positions = sorted({arm.at for arm in comparison.arms})
    titles = ["iid accuracy", "ood accuracy", *([f"ood less {less}"] if less else [])]
    figure, (row,) = panels(1, len(titles), 2.5 + 0.1 * (len(groups) > 1))
    offsets = np.linspace(-_SPREAD, _SPREAD, len(groups)) if len(groups) > 1 else np.zeros(1)
    for axes, title in zip(row, titles, strict=True):
        for group, offset in zip(groups, offsets, strict=True):
            curve = _points(comparison, group, title)
            _curve(axes, curve, positions, float(offset), styles[group])
        axes.set(title=title, xlabel=axis, xlim=(-0.5, len(positions) - 0.5))
        axes.set_xticks(range(len(positions)), [f"{at:g}" for at in positions])
        if title.endswith("accuracy"):  # which no interval takes out of its bounds
            low, high = axes.get_ylim()
            axes.set_ylim(max(low, -_EDGE), min(high, 1 + _EDGE))
    if less:
        row[-1].axhspan(-MARGIN, MARGIN, color="0.92", linewidth=0, zorder=-1)
        row[-1].axhline(0, color="0.6", linewidth=0.6, zorder=0)
    for axes, split in zip(row, ("iid", "ood"), strict=False):
        _reference(axes, theirs, split, positions)
    handles = line_handles(styles, {g: g for g in groups}) if len(groups) > 1 else []
    handles += [_mark(PUBLISHED)] if len(theirs) else []
    if handles:
        legend(figure, handles)
    return draw(figure, _alt(comparison), part)


def _points(comparison: Comparison, group: str, title: str) -> Points:
    if title.endswith("accuracy"):
        arms = [arm for arm in comparison.arms if arm.group == group]
        return {arm.at: arm.means[title.split()[0]] for arm in arms}
    return {d.a.at: d.means["ood"] for d in comparison.differences if d.a.group == group}


def _curve(
    axes: Axes, curve: Points, positions: Sequence[float], offset: float, style: RunStyle
) -> None:
    """Means joined by a line, with intervals; open markers where there is none."""
    at = sorted(curve)
    x = [positions.index(one) + offset for one in at]
    values = [curve[one].value for one in at]
    axes.plot(x, values, color=style.color, linestyle=style.dash, linewidth=0.9)
    for place, one in zip(x, at, strict=True):
        found = curve[one].estimate
        axes.plot([place] * 2, [found.low, found.high], color=style.color, linewidth=1.1)
        face = style.color if found.has_interval else "white"
        axes.plot(place, found.value, style.marker, color=style.color, markerfacecolor=face)


def _reference(axes: Axes, theirs: pd.DataFrame, split: str, positions: Sequence[float]) -> None:
    """Published means at the rates that are on the axis."""
    for point in theirs.to_dict("records"):
        if point["method"] not in SINGLE:
            continue
        near = [i for i, at in enumerate(positions) if np.isclose(at, point["drop_rate"])]
        axes.plot(near, [point[split]] * len(near), "*", color="0.1", markerfacecolor="white")


def _mark(label: str) -> Line2D:
    return Line2D([], [], marker="*", color="0.1", mfc="white", linestyle="", label=label)


def _alt(comparison: Comparison) -> str:
    arms = [f"{arm.name} {arm.means['ood'].estimate}" for arm in comparison.arms]
    found = [f"{d.name} {d.means['ood'].estimate}" for d in comparison.differences]
    ending = f" Differences ood: {'; '.join(found)}." if found else ""
    return f"{comparison.dataset}: curves of accuracy. Accuracy ood: {'; '.join(arms)}.{ending}"
