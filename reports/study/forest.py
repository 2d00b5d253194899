"""Estimates from top to bottom with their intervals, beside zero and what counts as none."""

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from analysis.estimates import Estimate
from reports.style import RunStyle, run_styles, wrapped

LETTERS = 30  # of a row's label before it is broken
ENV_COLOR = "0.45"


def forest(
    axes: Axes,
    rows: Mapping[str, Mapping[str, Estimate]],
    styles: Mapping[str, RunStyle],
    *,
    single: Mapping[str, Sequence[float]] | None = None,
    margin: float = 0.0,
) -> None:
    """One row a label, in it one estimate a series, one below the other.

    Args:
        axes: Where to draw.
        rows: Estimates by label and series, the first label at the top.
        styles: How each series is drawn.
        single: Small marks in a row, such as the values of single environments.
        margin: Half the width of the grey band around 0.
    """
    if margin:
        axes.axvspan(-margin, margin, color="0.92", linewidth=0, zorder=-1)
    axes.axvline(0, color="0.6", linewidth=0.6, zorder=0)
    for place, (label, series) in enumerate(rows.items()):
        marks = list((single or {}).get(label, ()))
        axes.plot(marks, [place + 0.38] * len(marks), "|", color=ENV_COLOR, markersize=3.5)
        shown = [name for name in styles if name in series]
        for number, name in enumerate(shown):
            y = place + 0.5 / len(shown) * (number - (len(shown) - 1) / 2)
            whisker(axes, series[name], y, styles[name])
    axes.set(ylim=(len(rows) - 0.45, -0.55))
    axes.set_yticks(range(len(rows)), [wrapped(label, LETTERS) for label in rows])
    axes.tick_params(axis="y", length=0)
    for place in range(1, len(rows)):
        axes.axhline(place - 0.5, color="0.9", linewidth=0.5, zorder=0)


def whisker(axes: Axes, found: Estimate, y: float, style: RunStyle) -> None:
    """A horizontal interval with its value; the marker is open where there is no interval."""
    axes.plot([found.low, found.high], [y, y], color=style.color, linewidth=1.2)
    face = style.color if found.has_interval else "white"
    axes.plot(found.value, y, style.marker, color=style.color, markerfacecolor=face, markersize=4)


def marks(styles: Mapping[str, RunStyle]) -> list[Line2D]:
    """Legend entries of markers without a line."""
    return [
        Line2D([], [], color=s.color, marker=s.marker, linestyle="", label=name)
        for name, s in styles.items()
    ]


def environments(label: str = "single environments") -> Line2D:
    """Legend entry of the small marks."""
    return Line2D([], [], color=ENV_COLOR, marker="|", linestyle="", label=label)


SPLIT_STYLES = {
    f"{split} difference": style
    for split, style in zip(("iid", "ood"), run_styles(["", "-"]).values(), strict=True)
}
