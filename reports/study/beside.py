"""A comparison drawn twice: i.i.d. against o.o.d. accuracy, and what lies between the arms."""

import math
from collections.abc import Mapping, Sequence

import pandas as pd
from matplotlib.axes import Axes

from analysis.equivalence import MARGIN
from reports.study.comparison import MEAN, SPLITS, Arm, Comparison, a_plate_each, frame
from reports.study.forest import SPLIT_STYLES, environments, forest, marks
from reports.study.sections import Plate
from reports.style import Drawing, RunStyle, draw, legend, panels, run_styles

_ROW = 0.36  # inches of a difference
_BEYOND, _LEAST, _EDGE = 0.6, 0.01, 0.04  # of the range of the points that panels show beyond it


def plates(comparisons: Sequence[Comparison]) -> list[Plate]:
    """One figure a data set: accuracies on the left, paired differences on the right."""
    return a_plate_each(comparisons, _plate)


def _plate(comparison: Comparison, part: str) -> Plate:
    return Plate(drawing=_drawing(comparison, part), data=frame(comparison))


def _drawing(comparison: Comparison, part: str) -> Drawing:
    styles = run_styles([arm.name for arm in comparison.arms])
    height = 0.9 + max(2.3, _ROW * len(comparison.differences))
    figure, ((left, right),) = panels(1, 2, height)
    for arm in comparison.arms:
        scatter(left, arm, styles[arm.name])
    left.set(xlabel="iid accuracy", ylabel="ood accuracy")
    fit(left, comparison.arms)
    rows = {
        d.name: {f"{split} difference": d.means[split].estimate for split in SPLITS}
        for d in comparison.differences
    }
    single = {d.name: list(d.means["ood"].by_env.values()) for d in comparison.differences}
    forest(right, rows, SPLIT_STYLES, single=single, margin=MARGIN)
    right.set_xlabel("paired difference of accuracy")
    legend(figure, [*marks(styles), *marks(SPLIT_STYLES), environments("ood, an environment")])
    return draw(figure, _alt(comparison), part)


def scatter(axes: Axes, arm: Arm, style: RunStyle) -> None:
    """Cells as small dots, the mean as a large marker with its interval in both directions."""
    cells = arm.rows.groupby("cell").agg(MEAN)
    if len(cells) > 1:
        axes.plot(
            cells["iid"], cells["ood"], style.marker, color=style.color, markersize=2, alpha=0.6
        )
    cross(axes, arm, style)


def cross(axes: Axes, arm: Arm, style: RunStyle, size: float = 5) -> None:
    """The mean of an arm with its intervals."""
    iid, ood = (arm.means[split].estimate for split in SPLITS)
    axes.plot([iid.low, iid.high], [ood.value] * 2, color=style.color, linewidth=0.9)
    axes.plot([iid.value] * 2, [ood.low, ood.high], color=style.color, linewidth=0.9)
    face = style.color if ood.has_interval else "white"
    edge: Mapping[str, object] = {"markerfacecolor": face, "markersize": size}
    axes.plot(iid.value, ood.value, style.marker, color=style.color, **edge)  # type: ignore[arg-type]


def fit(axes: Axes, arms: Sequence[Arm], more: pd.DataFrame | None = None) -> None:
    """Limits around means, cells and further points; wide intervals run out of the panel.

    Args:
        axes: Panel of i.i.d. against o.o.d. accuracy.
        arms: What is drawn.
        more: Further points, with columns iid and ood.
    """
    for split, limit in zip(SPLITS, (axes.set_xlim, axes.set_ylim), strict=True):
        cells = [arm.rows.groupby("cell").agg(MEAN)[split].tolist() for arm in arms]
        points = [x for of_arm in cells for x in of_arm]
        points += [arm.means[split].value for arm in arms]
        points += [] if more is None else more[split].tolist()
        ends = [e for arm in arms for e in arm.means[split].interval() if not math.isnan(e)]
        beyond = _BEYOND * max(max(points) - min(points), _LEAST)
        low = max(min([*points, *ends]), min(points) - beyond, 0)
        high = min(max([*points, *ends]), max(points) + beyond, 1)
        edge = _EDGE * max(high - low, _LEAST)
        limit(low - edge, high + edge)


def _alt(comparison: Comparison) -> str:
    arms = [f"{arm.name} {arm.means['ood'].estimate}" for arm in comparison.arms]
    found = [f"{d.name} {d.means['ood'].estimate}" for d in comparison.differences]
    return (
        f"{comparison.dataset}: iid against ood accuracy, and paired differences. Accuracy ood: "
        f"{'; '.join(arms)}. Differences ood: {'; '.join(found)}."
    )
