"""Heat maps of small matrices with their numbers in the cells.

Shapes: R rows, C columns.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh

from reports.style import wrapped

_DARK = 0.5  # luminance below which text is white
_LETTERS = 15  # of a column's label before it is broken
_MISSING = "0.93"


def heat_map(
    axes: Axes,
    values: Float[np.ndarray, "R C"],
    texts: Sequence[Sequence[str]],
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    cmap: str,
    ends: tuple[float, float],
    fontsize: float = 6.5,
) -> QuadMesh:
    """Coloured cells, the first row at the top; cells without a value are grey.

    Args:
        axes: Where to draw.
        values: What the colours say.
        texts: What stands in the cells.
        rows: Labels beside the rows.
        columns: Labels below the columns.
        cmap: Colours.
        ends: Values of the first and the last colour.
        fontsize: Of the texts.
    """
    axes.set_facecolor(_MISSING)
    mesh = axes.pcolormesh(
        np.ma.masked_invalid(values),
        cmap=cmap,
        vmin=ends[0],
        vmax=ends[1],
        edgecolors="white",
        linewidth=0.8,
    )
    for i, row in enumerate(texts):
        for j, text in enumerate(row):
            value = float(values[i, j])
            color = "white" if np.isfinite(value) and _is_dark(mesh, value) else "0.1"
            options = {"ha": "center", "va": "center", "color": color}
            axes.text(j + 0.5, i + 0.5, text, fontsize=fontsize, fontdict=options)
    axes.set(ylim=(len(rows), 0), xlim=(0, len(columns)))
    axes.set_xticks(np.arange(len(columns)) + 0.5, list(columns))
    axes.set_yticks(np.arange(len(rows)) + 0.5, list(rows))
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return mesh


def _is_dark(mesh: QuadMesh, value: float) -> bool:
    red, green, blue, _ = mesh.to_rgba(value)  # type: ignore[misc]
    return 0.299 * red + 0.587 * green + 0.114 * blue < _DARK


def upright(axes: Axes, letters: int) -> None:
    """Column labels turned upright, where there are many, in lines of so many letters."""
    labels = [wrapped(label.get_text(), letters) for label in axes.get_xticklabels()]
    axes.set_xticks(axes.get_xticks(), labels, rotation=90, linespacing=0.9)


def broken(axes: Axes) -> None:
    """Column labels in several lines, where there are few."""
    labels = [wrapped(label.get_text(), _LETTERS) for label in axes.get_xticklabels()]
    axes.set_xticks(axes.get_xticks(), labels)
