"""A comparison drawn as a heat map: groups from top to bottom, positions from left to right."""

from collections.abc import Sequence

import numpy as np

from analysis.estimates import Estimate, number
from reports.heat import heat_map
from reports.study.comparison import Comparison, a_plate_each, frame
from reports.study.sections import Plate
from reports.style import Drawing, draw, panels

_CMAP = "PuOr"  # diverging, and safe for the colour blind


def plates(comparisons: Sequence[Comparison]) -> list[Plate]:
    """One figure a data set: paired differences of o.o.d. accuracy with their intervals."""
    return a_plate_each(comparisons, _plate)


def _plate(comparison: Comparison, part: str) -> Plate:
    return Plate(drawing=_drawing(comparison, part), data=frame(comparison))


def _drawing(comparison: Comparison, part: str) -> Drawing:
    found = {(d.a.group, d.a.at): d.means["ood"].estimate for d in comparison.differences}
    rows = list(dict.fromkeys(group for group, _ in found))
    columns = sorted({at for _, at in found})
    cells = [[found.get((row, at), Estimate(np.nan)) for at in columns] for row in rows]
    values = np.array([[one.value for one in line] for line in cells])
    figure, ((axes,),) = panels(1, 1, 0.9 + 0.42 * len(rows))
    most = float(np.nanmax(np.abs(values)))
    mesh = heat_map(
        axes,
        values,
        [[_text(one) for one in line] for line in cells],
        rows,
        [f"{at:g}" for at in columns],
        cmap=_CMAP,
        ends=(-most, most),
    )
    axes.set_xlabel("dropout rate")
    bar = figure.colorbar(mesh, ax=axes, pad=0.02)
    bar.outline.set_visible(False)  # type: ignore[operator]
    bar.set_label("ood less no dropout", fontsize=7)
    said = [f"{row} at {at:g} {one}" for (row, at), one in found.items()]
    alt = f"{comparison.dataset}: difference of ood accuracy to no dropout. {'; '.join(said)}."
    return draw(figure, alt, part)


def _text(found: Estimate) -> str:
    if np.isnan(found.value):
        return ""
    if not found.has_interval:
        return f"{number(found.value)}\nno interval"
    return f"{number(found.value)}\n[{number(found.low)}, {number(found.high)}]"
