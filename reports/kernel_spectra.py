"""Spectra of the kernels before and after a fine-tuning, beside a random move of the same size."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from analysis.estimates import Estimate, estimate
from analysis.kernel_verdicts import DISTANCE, kernel_layer
from analysis.verdicts import UNKNOWN
from core.records import Record
from reports.figures import run_names, splits
from reports.style import (
    Drawing,
    RunStyle,
    chunks,
    draw,
    legend,
    panels,
    run_styles,
    theme,
    wrapped,
)

COLUMNS_PER_FIGURE = 3
_SMALLEST_SHARE = 1e-5  # less would be lost in a kernel of single precision


def spectra(record: Record) -> list[Drawing]:
    """Eigenvalues of the centred kernels as shares: a column per run, a row per split."""
    runs = list(run_names(record))
    with theme():
        return [_spectra(record, chunk) for chunk in chunks(runs, COLUMNS_PER_FIGURE)]


def _spectra(record: Record, runs: Sequence[str]) -> Drawing:
    names, rows = run_names(record), splits(record, DISTANCE)
    figure, grid = panels(len(rows), len(runs), 0.9 + 1.75 * len(rows), sharex=True, sharey=True)
    for row, split in zip(grid, rows, strict=True):
        for axes, run in zip(row, runs, strict=True):
            _spectrum_panel(axes, record, run, split)
        row[0].set_ylabel(f"{split}, share of the trace")
    grid[0][0].set_ylim(_lowest(record) / 2, 1)
    for axes, run in zip(grid[0], runs, strict=True):
        axes.set_title(wrapped(names[run], 24), color=_style(record, run).color)
    for axes in grid[-1]:
        axes.set_xlabel("rank of the eigenvalue")
    legend(figure, _spectrum_handles())
    part = "" if len(runs) == len(names) else f"runs {runs[0]} to {runs[-1]}"
    return draw(figure, _spectra_alt(record, runs), part)


def _spectrum_panel(axes: Axes, record: Record, run: str, split: str) -> None:
    label = f"{run}|{split}"
    if f"{label}|spectrum0" not in record.arrays:
        axes.set_axis_off()
        return
    before, after, random = (record.arrays[f"{label}|spectrum{x}"] for x in ("0", "1", "_random"))
    rank = np.arange(1, len(before))  # the last eigenvalue of a centred kernel is zero
    axes.loglog(rank, before[:-1], color="0.2", linestyle=(0, (3, 1.5)))
    axes.loglog(rank, after[:-1], color=_style(record, run).color)
    axes.loglog(rank, random[:, :-1].T, color="0.6", linewidth=0.7)
    ranks = [_effective_rank(record, run, split, at) for at in (0.0, 1.0)]
    axes.text(
        0.04,
        0.04,
        f"effective rank\nbefore {ranks[0]}\nafter {ranks[1]}",
        transform=axes.transAxes,
        fontsize=6.5,
    )


def _effective_rank(record: Record, run: str, split: str, at: float) -> Estimate:
    where = {"run": run, "split": split, "env": "all", "layer": kernel_layer(record)}
    found = estimate(record.values, "effective_rank_centred", at=at, **where)
    return found or UNKNOWN


def _spectrum_handles() -> list[Line2D]:
    return [
        Line2D([], [], color="0.2", linestyle=(0, (3, 1.5)), label="before"),
        Line2D([], [], color="0.2", label="after (colour)"),
        Line2D([], [], color="0.6", linewidth=0.7, label="after a random move"),
    ]


def _lowest(record: Record) -> float:
    """The smallest share in any panel, so that all figures have the same axis."""
    spectra = [array for name, array in record.arrays.items() if "|spectrum" in name]
    return max(_SMALLEST_SHARE, min(array[..., :-1].min() for array in spectra))


def _style(record: Record, run: str) -> RunStyle:
    return run_styles(list(run_names(record)))[run]


def _spectra_alt(record: Record, runs: Sequence[str]) -> str:
    lines = [
        f"{run} {split} {_effective_rank(record, run, split, 0.0)} before and "
        f"{_effective_rank(record, run, split, 1.0)} after"
        for run in runs
        for split in splits(record, DISTANCE)
    ]
    return (
        "Normalised eigenvalues of the centred kernels against their rank, before, after and "
        f"after a random move. Effective rank of {'; '.join(lines)}."
    )
