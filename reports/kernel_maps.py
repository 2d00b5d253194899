"""The kernels themselves, before and after: heat maps of cosines.

Shapes: N examples.
"""

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import seaborn as sns
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from analysis.estimates import MINUS, number
from analysis.kernel_verdicts import DISTANCE
from core.records import Record
from reports.figures import run_names, splits
from reports.style import Drawing, chunks, draw, legend, panels, run_styles, theme, wrapped

ROWS_PER_FIGURE = 4
_MOST_LABELS, _LETTERS = 14, 12  # that fit beside a heat map
_MOST_LINES = 30
_STRIP, _STRIP_PAD = (-0.055, -0.015), 10  # where it lies, in widths of a map; its room in points

_TITLES = ("before, $K_0$", "after, $K_1$", f"after {MINUS} before")

Kernel = Float[np.ndarray, "N N"]
Row = tuple[str, str]  # run and split
Scales = tuple[ScalarMappable, ScalarMappable]  # of cosines, of their differences


def cosines(kernel: Kernel) -> Kernel:
    r"""The kernel of normalised features, :math:`K_{ij} / \sqrt{K_{ii} K_{jj}}`.

    NaN for an example whose gradient is zero.

    Example:
        >>> cosines(np.array([[4.0, 1.0], [1.0, 1.0]]))
        array([[1. , 0.5],
               [0.5, 1. ]])
    """
    size = np.sqrt(kernel.diagonal())
    with np.errstate(invalid="ignore", divide="ignore"):
        return kernel / np.outer(size, size)


def boundaries(entries: Int[np.ndarray, " N"]) -> list[int]:
    """Where runs of equal entries begin, and the end.

    Example:
        >>> boundaries(np.array([3, 3, 5, 5, 5]))
        [0, 2, 5]
    """
    return [0, *(np.flatnonzero(np.diff(entries)) + 1).tolist(), len(entries)]


def heat_maps(record: Record) -> list[Drawing]:
    """Cosines before and after and their difference, a row per run and split.

    Long lists continue on further figures.
    """
    rows = [
        (run, split)
        for split in splits(record, DISTANCE)
        for run in run_names(record)
        if f"{run}|{split}|K0" in record.arrays
    ]
    parts, scales = chunks(rows, ROWS_PER_FIGURE), _scales(record)
    with theme():
        return [_heat_maps(record, part, scales, _part(part, len(parts))) for part in parts]


def _part(rows: Sequence[Row], of: int) -> str:
    (first, first_split), (last, last_split) = rows[0], rows[-1]
    if of == 1:
        return ""
    if first_split == last_split:
        return f"{first_split} images, {first} to {last}"
    return f"{first}, {first_split} images, to {last}, {last_split} images"


def _heat_maps(record: Record, rows: Sequence[Row], scales: Scales, part: str) -> Drawing:
    names = run_names(record)
    styles = run_styles(list(names))
    figure, grid = panels(len(rows), 3, 0.95 + 2.05 * len(rows))
    for line, (run, split) in zip(grid, rows, strict=True):
        label = f"{run}|{split}"
        k0, k1 = _cosine_pair(record, label)
        for axes, kernel, scale in zip(line, (k0, k1, k1 - k0), (0, 0, 1), strict=True):
            axes.imshow(kernel, norm=scales[scale].norm, cmap=scales[scale].cmap)
            _mark(axes, record.arrays[f"{label}|labels"])
        _name_rows(line[0], record, label)
        _strip(line[0], record, label)
        name = wrapped(f"{names[run]}, {split}", 26)
        line[0].set_ylabel(name, color=styles[run].color)
    for axes, title in zip(grid[0], _TITLES, strict=True):
        axes.set_title(title)
    _colorbars(figure, grid, scales)
    _env_legend(figure, record, rows)
    return draw(figure, _maps_alt(record, rows), part)


def _cosine_pair(record: Record, label: str) -> tuple[Kernel, Kernel]:
    return cosines(record.arrays[f"{label}|K0"]), cosines(record.arrays[f"{label}|K1"])


def _scales(record: Record) -> Scales:
    """Colours of cosines and of their differences, the same in all figures of a report."""
    lowest, widest = 0.0, 0.0
    for label in [key.removesuffix("|K0") for key in record.arrays if key.endswith("|K0")]:
        k0, k1 = _cosine_pair(record, label)
        lowest = min(lowest, np.nanmin(k0), np.nanmin(k1))
        widest = max(widest, np.nanmax(np.abs(k1 - k0)))
    return (
        ScalarMappable(Normalize(lowest, 1), "mako_r"),
        ScalarMappable(Normalize(-widest, widest), "vlag"),
    )


def _mark(axes: Axes, labels: Int[np.ndarray, " N"]) -> None:
    """Thin lines between the classes, unless they would hide the map; no ticks."""
    edges = boundaries(labels)
    too_many = np.median(np.diff(edges)) < 2 or len(edges) > _MOST_LINES
    for at in () if too_many else edges[1:-1]:
        axes.axhline(at - 0.5, color="0.5", linewidth=0.25)
        axes.axvline(at - 0.5, color="0.5", linewidth=0.25)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(True)


def _name_rows(axes: Axes, record: Record, label: str) -> None:
    """Class names at the left, every second or third one where they would not fit."""
    labels, classes = record.arrays[f"{label}|labels"], record.provenance["classes"]
    edges = boundaries(labels)
    step = math.ceil((len(edges) - 1) / _MOST_LABELS)
    middles = [(a + b - 1) / 2 for a, b in pairwise(edges)]
    names = [_shortened(classes[labels[i]]) for i in edges[:-1]]
    axes.set_yticks(middles[::step], names[::step], fontsize=6.5)
    axes.tick_params(axis="y", length=0, pad=_STRIP_PAD)


def _shortened(name: str) -> str:
    return name if len(name) <= _LETTERS else f"{name[: _LETTERS - 1]}…"


def _strip(axes: Axes, record: Record, label: str) -> None:
    """The environment of every row, as a strip of colours between the names and the map."""
    envs, colors = record.arrays[f"{label}|envs"], _env_colors(record)
    for start, end in pairwise(boundaries(envs)):
        axes.fill_betweenx(
            [start - 0.5, end - 0.5],
            *_STRIP,
            color=colors[_env_names(record)[envs[start]]],
            transform=axes.get_yaxis_transform(),
            clip_on=False,
            linewidth=0,
        )


def _env_names(record: Record) -> list[str]:
    return record.provenance["kernels"]["environments"]


def _env_colors(record: Record) -> dict[str, tuple[float, float, float]]:
    """A pale colour for every environment of the data set, none of them a run's."""
    names = _env_names(record)
    return dict(zip(names, sns.color_palette("Set2", len(names)), strict=True))


def _colorbars(figure: Figure, grid: Sequence[Sequence[Axes]], scales: Scales) -> None:
    columns = (slice(0, 2), slice(2, 3))
    labels = ("cosine", "difference of the cosines")
    for scale, part, label in zip(scales, columns, labels, strict=True):
        under = [axes for row in grid for axes in row[part]]
        figure.colorbar(scale, ax=under, label=label, location="bottom", shrink=0.6, pad=0.02)


def _env_legend(figure: Figure, record: Record, rows: Sequence[Row]) -> None:
    present = np.concatenate([record.arrays[f"{run}|{split}|envs"] for run, split in rows])
    names, colors = _env_names(record), _env_colors(record)
    legend(figure, [Patch(facecolor=colors[names[i]], label=names[i]) for i in np.unique(present)])


def _maps_alt(record: Record, rows: Sequence[Row]) -> str:
    """Mean cosines inside a class and between classes, which is what the eye compares."""
    lines = []
    for run, split in rows:
        labels = record.arrays[f"{run}|{split}|labels"]
        same = labels[:, None] == labels
        apart = ~np.eye(len(labels), dtype=bool)
        means = [
            f"{number(_mean(kernel[same & apart]))} inside and "
            f"{number(_mean(kernel[~same]))} between classes {end}"
            for end, kernel in zip(
                ("before", "after"), _cosine_pair(record, f"{run}|{split}"), strict=True
            )
        ]
        lines.append(f"{run}, {split}: {', '.join(means)}")
    return f"Heat maps of the kernels' cosines. Mean cosine of {'; '.join(lines)}."


def _mean(cosines: np.ndarray) -> float:
    """NaN where there is nothing finite, such as two images of a class."""
    finite = cosines[np.isfinite(cosines)]
    return float(finite.mean()) if finite.size else math.nan
