"""I.i.d. against o.o.d. accuracy twice: as the paper draws it, and by what was really drawn.

The paper draws every way to choose one cell for each environment held out: a cloud of 1296 points
made of 72 runs, whose spread is no sampling error. The honest view shows the cells themselves and
means with hierarchical intervals.

Shapes: K cells, E environments.
"""

from collections.abc import Mapping, Sequence
from itertools import product

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from reports.study.beside import cross, fit
from reports.study.comparison import MEAN, SPLITS, Comparison, a_plate_each, frame
from reports.study.forest import marks
from reports.study.sections import Plate
from reports.study.settings import arm_name
from reports.style import Drawing, RunStyle, draw, legend, panels, run_styles

MOST = 2000  # points of a cloud; of more combinations so many are drawn at random
VIEWS = ("paper view: one cell for each environment", "honest view: cells, means, 95 % intervals")


def plates(comparisons: Sequence[Comparison], published: dict[str, pd.DataFrame]) -> list[Plate]:
    """One figure a data set.

    Args:
        comparisons: Single runs, ensembles and averages, as `settings.methods` makes them.
        published: Reference points by data set: columns method, drop_rate, iid, ood.
    """
    return a_plate_each(comparisons, lambda c, part: _plate(c, published[c.dataset], part))


def combinations(rows: pd.DataFrame, *, seed: int = 0) -> pd.DataFrame:
    """Mean accuracies of every choice of one cell for each environment, seeds averaged.

    Args:
        rows: Runs of one method.
        seed: Of the choices that are drawn where there are more than `MOST`.

    Returns:
        Columns iid and ood.

    Example:
        >>> rows = pd.DataFrame({"env": list("xxyy"), "cell": list("abab"), "iid": 0.9})
        >>> combinations(rows.assign(ood=[0.1, 0.3, 0.5, 0.9]))["ood"].round(6).tolist()
        [0.3, 0.5, 0.4, 0.6]
    """
    cells = rows.groupby(["env", "cell"]).agg(MEAN)
    by_env = [of_env.to_numpy(np.float64) for _, of_env in cells.groupby("env")]
    num = int(np.prod([float(len(of_env)) for of_env in by_env]))
    if num <= MOST:
        chosen = np.array(list(product(*(range(len(of_env)) for of_env in by_env))))
    else:
        generator = np.random.default_rng(seed)
        chosen = np.stack([generator.integers(len(one), size=MOST) for one in by_env], axis=1)
    points = [of_env[pick] for of_env, pick in zip(by_env, chosen.T, strict=True)]
    return pd.DataFrame(np.mean(points, axis=0), columns=list(SPLITS))


def _plate(comparison: Comparison, theirs: pd.DataFrame, part: str) -> Plate:
    clouds = {arm.name: combinations(arm.rows) for arm in comparison.arms}
    styles = run_styles(list(clouds))
    figure, ((paper, honest),) = panels(1, 2, 3.6, sharex=True, sharey=True)
    for arm in comparison.arms:
        _cloud(paper, clouds[arm.name], styles[arm.name])
        cells = arm.rows.groupby("cell").agg(MEAN)
        if len(cells) > 1:
            style = styles[arm.name]
            options = {"color": style.color, "markersize": 2.6, "alpha": 0.7}
            honest.plot(cells["iid"], cells["ood"], style.marker, **options)
        cross(honest, arm, styles[arm.name], 6)
    for axes, title in zip((paper, honest), VIEWS, strict=True):
        axes.set(title=title, xlabel="iid accuracy")
    paper.set_ylabel("ood accuracy")
    if len(theirs):
        _published(honest, theirs.dropna(subset=["iid"]), styles)
    fit(honest, comparison.arms, theirs.dropna(subset=["iid"]))
    star = Line2D([], [], marker="*", color="0.6", mec="black", linestyle="", label="published")
    legend(figure, [*marks(styles), *([star] if len(theirs) else [])])
    drawn = pd.concat([cloud.assign(name=name) for name, cloud in clouds.items()])
    data = pd.concat(
        [
            drawn.assign(view="paper"),
            frame(Comparison(dataset=comparison.dataset, arms=comparison.arms)).assign(
                view="honest"
            ),
            theirs.assign(view="published"),
        ]
    )
    return Plate(drawing=_finished(figure, comparison, part), data=data)


def _finished(figure: Figure, comparison: Comparison, part: str) -> Drawing:
    said = [
        f"{arm.name} iid {arm.means['iid'].estimate}, ood {arm.means['ood'].estimate}"
        for arm in comparison.arms
    ]
    alt = f"{comparison.dataset}: clouds of iid and ood accuracy. Means: {'; '.join(said)}."
    return draw(figure, alt, part)


def _cloud(axes: Axes, points: pd.DataFrame, style: RunStyle) -> None:
    """A single point, of a model over all runs, has a black edge as in the paper."""
    if len(points) == 1:
        options = {"markersize": 5.5, "markeredgecolor": "black", "zorder": 3}
        axes.plot(points["iid"], points["ood"], style.marker, color=style.color, **options)
        return
    options = {"markersize": 1.5, "alpha": 0.35, "markeredgewidth": 0, "rasterized": True}
    axes.plot(points["iid"], points["ood"], style.marker, color=style.color, **options)


def _published(axes: Axes, theirs: pd.DataFrame, styles: Mapping[str, RunStyle]) -> None:
    """Stars, in the colour of our runs of the same method and rate where there are some."""
    for point in theirs.to_dict("records"):
        name = arm_name(point["method"], point["drop_rate"])
        color = styles[name].color if name in styles else "0.6"
        options = {"markersize": 7, "markerfacecolor": color, "markeredgecolor": "black"}
        axes.plot(point["iid"], point["ood"], "*", **options, markeredgewidth=0.5)
