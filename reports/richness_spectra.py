"""Spectra of the representations beside those of permuted units, and measures by layer."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from analysis.estimates import Estimate, number, ordered, select
from analysis.richness_verdicts import checkpoints, layer_of, look_up, places, split_names
from core.records import Record
from reports.richness_runs import handles, layers_of, marks, names_of, splits_with, styles_of
from reports.style import Drawing, chunks, draw, legend, panels, theme

PROFILES = {  # metric: title
    "effective_rank_centred": "effective rank, centred",
    "nc1": "NC1",
    "cdnv": "CDNV",
}
_COLUMNS = 3
_SMALLEST_SHARE = 1e-8  # below it, float32 features hold rounding


def spectra(record: Record) -> list[Drawing]:
    """Eigenvalues as shares of their sum, a panel per split; none where they were not measured."""
    splits = [s for s in split_names(record) if any(_names(record, s))]
    if not splits:
        return []
    with theme():
        figure, (row,) = panels(1, len(splits), 2.6, sharex=True, sharey=True)
        for axes, split in zip(row, splits, strict=True):
            for run, name in _names(record, split):
                _spectrum(axes, record, run, name)
            axes.set(title=split, xlabel="rank of the eigenvalue", xscale="log", yscale="log")
        row[0].set(ylabel="share of the variance", ylim=(_lowest(record, splits) / 2, 1))
        legend(figure, handles(record))
        return [draw(figure, _alt(record, splits))]


def _names(record: Record, split: str) -> list[tuple[str, str]]:
    """Checkpoints with a spectrum on a split, and the beginning of its name."""
    names = [
        (run, f"{run}|{layer_of(record)}|{split}|{places(record, run).get(split)}")
        for run in checkpoints(record)
    ]
    return [(run, name) for run, name in names if f"{name}|spectrum" in record.arrays]


def _spectrum(axes: Axes, record: Record, run: str, name: str) -> None:
    style = styles_of(record)[run]
    own, null = record.arrays[f"{name}|spectrum"], record.arrays[f"{name}|null_spectrum"]
    own = own[own > 0]
    ends = np.stack([null.min(0), null.max(0)])[:, (null > 0).all(0)]
    band = np.arange(1, ends.shape[1] + 1)
    axes.fill_between(band, *ends, color=style.color, alpha=0.25, linewidth=0.4)
    axes.plot(np.arange(1, len(own) + 1), own, color=style.color, linestyle=style.dash)


def _lowest(record: Record, splits: Sequence[str]) -> float:
    names = [name for split in splits for _, name in _names(record, split)]
    spectra = [record.arrays[f"{name}|spectrum"] for name in names]
    return max(_SMALLEST_SHARE, min(float(s[s > 0].min()) for s in spectra))


def _alt(record: Record, splits: Sequence[str]) -> str:
    lines = [
        f"{run} {split} {rank}"
        for split in splits
        for run in checkpoints(record)
        if (rank := look_up(record, run, split, "effective_rank_centred")) is not None
    ]
    return (
        "Eigenvalues of the centred features as shares of their sum, against their rank, beside "
        f"those of permuted units. Effective rank of {'; '.join(lines)}."
    )


def profiles(record: Record) -> list[Drawing]:
    """Measures layer by layer, a row per split; none where one layer was measured."""
    metrics = [m for m in PROFILES if len(layers_of(record, m)) > 1]
    if not metrics:
        return []
    with theme():
        rows = splits_with(record, metrics[0], split_names(record))
        return [_profiles(record, metrics, part, len(rows)) for part in chunks(rows, _COLUMNS)]


def _profiles(record: Record, metrics: Sequence[str], rows: Sequence[str], of: int) -> Drawing:
    figure, grid = panels(len(rows), len(metrics), 1.4 + 1.6 * len(rows), sharex=True)
    for line, split in zip(grid, rows, strict=True):
        for axes, metric in zip(line, metrics, strict=True):
            by_layer(axes, record, metric, split)
            axes.set(title=PROFILES[metric] if line is grid[0] else "", yscale="log")
        line[0].set_ylabel(split)
    legend(figure, handles(record))
    alt = f"{', '.join(PROFILES[m] for m in metrics)} by layer, {', '.join(rows)}: {_last(record)}"
    return draw(figure, alt, "" if len(rows) == of else ", ".join(rows))


def by_layer(axes: Axes, record: Record, metric: str, split: str) -> None:
    """A metric over the layers of the network, with intervals."""
    layers, styles = layers_of(record, metric), styles_of(record)
    for run, style in styles.items():
        env = places(record, run).get(split, "")
        rows = select(record.values, metric, run=run, split=split, env=env)
        rows = rows.set_index("layer").reindex(layers)[["value", "low", "high"]]
        at = np.arange(len(layers))
        axes.vlines(at, rows["low"], rows["high"], color=style.color, linewidth=0.8)
        axes.plot(at, rows["value"], linestyle=style.dash, **marks(run, style))  # type: ignore[arg-type]
    axes.set_xticks(range(len(layers)), layers, rotation=60, ha="right")


def _last(record: Record) -> str:
    split = ordered(record.values, "split")[-1]
    lines = [
        f"{names_of(record)[run]} {number((found or Estimate(float('nan'))).value)}"
        for run in checkpoints(record)
        for found in [look_up(record, run, split, "effective_rank_centred")]
    ]
    return f"effective rank of the last layer on {split} {'; '.join(lines)}."
