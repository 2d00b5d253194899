"""The look of every figure: theme, colours of the runs, axes for R2, reproducible SVG.

A run keeps its colour, dash and marker in all figures of a report. Colours are seaborn's
colour-blind palette without its two palest; dash and marker tell runs apart in grey, too.
"""

import io
import math
import textwrap
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import matplotlib as mpl
import numpy as np
import seaborn as sns
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator
from matplotlib.typing import LineStyleType

from analysis.estimates import MINUS

TEXT_WIDTH = 6.3  # inches between the margins of the page
TEXT_HEIGHT = 8.4  # leaves room for a caption on the same page
LOG_BELOW = -1.0
_NARROW = 300  # a logarithmic axis up to here needs ticks between the powers of ten
_IMAGE_DPI = 300  # of heat maps; everything else is drawn with vectors
_LETTERS, _HANDLE = 110, 8  # that fit in a line of a legend, that a line or bar takes

_COLORS = (0, 1, 2, 3, 4, 5, 9, 7)
_DASHES: tuple[LineStyleType, ...] = ("-", (0, (4, 1.5)), (0, (1, 1)), (0, (5, 1.5, 1, 1.5)))
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_THEME = {
    "font.family": "STIXGeneral",
    "mathtext.fontset": "stix",
    "font.size": 8.5,
    "axes.labelsize": 8.5,
    "axes.titlesize": 8.5,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "legend.fontsize": 8,
    "axes.linewidth": 0.6,
    "lines.linewidth": 1.1,
    "lines.markersize": 3,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "svg.hashsalt": "lazyrich",  # element names depend on the drawing only
    "svg.fonttype": "path",  # the page looks the same whichever fonts are installed
}


Entry = TypeVar("Entry")


@dataclass(frozen=True)
class RunStyle:
    """How one run is drawn, in every figure."""

    color: tuple[float, float, float]
    dash: LineStyleType
    marker: str


@dataclass(frozen=True)
class Drawing:
    """A finished figure.

    Attributes:
        svg: The picture.
        alt: What it shows, in words.
        part: Which part of several it is, empty where there is one.
        note: What its caption has to add, empty where there is nothing.
    """

    svg: bytes
    alt: str
    part: str = ""
    note: str = ""


@contextmanager
def theme() -> Generator[None, None, None]:
    """Figures made in this context look alike; the settings of the caller return after it."""
    look = {**sns.axes_style("ticks"), **sns.plotting_context("paper"), **_THEME}
    with mpl.rc_context(cast(Any, look)):
        yield


def run_styles(runs: Sequence[str]) -> dict[str, RunStyle]:
    """A style for each run; eight colours, after which dashes and markers still differ.

    Example:
        >>> styles = run_styles([f"run-{i}" for i in range(20)])
        >>> len(set(styles.values()))
        20
    """
    palette = sns.color_palette("colorblind")
    return {
        run: RunStyle(
            color=palette[_COLORS[i % len(_COLORS)]],
            dash=_DASHES[i % len(_DASHES)],
            marker=_MARKERS[i % len(_MARKERS)],
        )
        for i, run in enumerate(runs)
    }


def panels(rows: int, columns: int, height: float, **options: bool | str) -> tuple[Figure, list]:
    """A figure as wide as the text with a grid of axes, as nested lists of `Axes`."""
    figure = Figure(figsize=(TEXT_WIDTH, min(height, TEXT_HEIGHT)), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, **options)  # type: ignore[arg-type]
    return figure, grid.tolist()


def draw(figure: Figure, alt: str, part: str = "", note: str = "") -> Drawing:
    """The figure as SVG; the same figure gives the same bytes."""
    buffer = io.BytesIO()
    metadata = {"Date": None, "Creator": None}
    figure.savefig(buffer, format="svg", dpi=_IMAGE_DPI, metadata=metadata)
    return Drawing(buffer.getvalue(), alt, part, note)


def line_handles(styles: Mapping[str, RunStyle], names: Mapping[str, str]) -> list[Line2D]:
    """Legend entries of runs drawn as lines."""
    return [
        Line2D([], [], color=s.color, linestyle=s.dash, marker=s.marker, label=names[run])
        for run, s in styles.items()
    ]


def bar_handles(styles: Mapping[str, RunStyle], names: Mapping[str, str]) -> list[Patch]:
    """Legend entries of runs drawn as bars."""
    return [Patch(facecolor=style.color, label=names[run]) for run, style in styles.items()]


def legend(figure: Figure, handles: Sequence[Artist]) -> None:
    """One legend above all panels, in as few rows as its labels need."""
    letters = sum(len(str(handle.get_label())) + _HANDLE for handle in handles)
    rows = math.ceil(letters / _LETTERS)
    columns = math.ceil(len(handles) / rows)
    figure.legend(handles=list(handles), loc="outside upper center", ncols=columns)


def chunks(entries: Sequence[Entry], most: int) -> list[Sequence[Entry]]:
    """Parts of nearly equal size, none longer than `most`.

    Example:
        >>> chunks(["a", "b", "c", "d"], 3)
        [['a', 'b'], ['c', 'd']]
    """
    size = math.ceil(len(entries) / max(1, math.ceil(len(entries) / most)))
    return [entries[i : i + size] for i in range(0, len(entries), size)]


def wrapped(name: str, width: int) -> str:
    """A long name in lines of at most `width` letters, broken after punctuation if possible.

    Example:
        >>> wrapped("dropout0.9-seed0", 12).splitlines()
        ['dropout0.9-', 'seed0']
    """
    return "\n".join(textwrap.wrap(name.replace("_", "_\u200b"), width)).replace("\u200b", "")


def log_ticks(axis: Axis, ratio: float) -> None:
    """Plain numbers on a logarithmic axis whose ends have this ratio."""
    steps = (1, 2, 5) if ratio < _NARROW else (1,)
    axis.set_major_locator(LogLocator(subs=steps, numticks=8))
    axis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}".replace("-", MINUS)))
    axis.set_minor_locator(NullLocator())


def r2_axis(axes: Axes, values: Iterable[float], *, which: str) -> None:
    """An axis for R2 with lines at 0 and 1; logarithmic below -1, where R2 has no bound.

    Args:
        axes: Axes to set up.
        values: Everything that has to be visible.
        which: `x` or `y`.
    """
    finite = [v for v in values if np.isfinite(v)]
    lowest = min([0.0, *finite])
    axis, line = (axes.xaxis, axes.axvline) if which == "x" else (axes.yaxis, axes.axhline)
    if lowest < LOG_BELOW:
        set_scale = axes.set_xscale if which == "x" else axes.set_yscale
        set_scale("symlog", linthresh=-LOG_BELOW, linscale=1.2)
    bottom = lowest * 1.25 if lowest < LOG_BELOW else lowest - 0.05
    axes.set(**{f"{which}lim": (bottom, max([1.06, *finite]))})
    axis.set_major_locator(FixedLocator(_r2_ticks(lowest)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}".replace("-", MINUS)))
    for at in (0, 1):
        line(at, color="0.6", linewidth=0.6, zorder=0)


def _r2_ticks(lowest: float) -> list[float]:
    """Halves where the axis is linear, decades where it is logarithmic.

    Example:
        >>> _r2_ticks(-0.3), _r2_ticks(-5), _r2_ticks(-200)
        ([0, 0.5, 1], [-5, -2, -1, 0, 1], [-100, -10, -1, 0, 1])
    """
    if lowest >= LOG_BELOW:
        return [*([-0.5] if lowest < -0.4 else []), 0, 0.5, 1]
    steps = [-2, -5, -10] if lowest > -10 else [-(10**power) for power in range(1, 12)]
    return [*reversed([step for step in steps if step >= lowest]), -1, 0, 1]
