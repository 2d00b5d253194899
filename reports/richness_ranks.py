"""How the checkpoints rank by every measure, and where measures disagree about it.

Shapes: R checkpoints, M measures.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh

from analysis.agreement import (
    LEAST_CHECKPOINTS,
    Concordance,
    Order,
    concordance,
    kendall_tau,
    order,
    ranks,
)
from analysis.estimates import Estimate
from analysis.richness_verdicts import (
    MEASURES,
    TRANSFER_MEASURES,
    Measure,
    checkpoints,
    look_up,
    places,
    same_environments,
    split_names,
    voting,
)
from core.records import Record
from reports.heat import heat_map, upright
from reports.richness_runs import names_of
from reports.style import Drawing, draw, panels, theme

_LETTERS = 20  # of a label in one line


@dataclass(frozen=True)
class Ranking:
    """The order of the checkpoints by every measure, on the examples of one split."""

    split: str
    runs: tuple[str, ...]
    measures: tuple[Measure, ...]
    orders: tuple[Order, ...]

    @property
    def ranks(self) -> Float[np.ndarray, "M R"]:
        """One for the richest."""
        return np.array([ranks(signs) for signs in self.orders])

    @property
    def taus(self) -> Float[np.ndarray, "M M"]:
        """Agreement of every two measures; NaN for one that ties all checkpoints."""
        return np.array([[kendall_tau(a, b) for b in self.orders] for a in self.orders])

    def concordance(self, seed: int) -> Concordance:
        """Agreement of all measures."""
        return concordance(self.ranks, seed=seed)


def rankings(record: Record, transfer: Record | None) -> list[Ranking]:
    """One for each split on which there are two checkpoints and measures with a direction."""
    records = [(record, MEASURES), *([(transfer, TRANSFER_MEASURES)] if transfer else [])]
    sources = [(r, m) for r, measures in records for m in voting(r, measures)]
    found = [_ranking(sources, distinct(record, s), s) for s in split_names(record)]
    return [ranking for ranking in found if ranking.measures and len(ranking.runs) > 1]


def distinct(record: Record, split: str) -> dict[str, str]:
    """Checkpoints with names; those whose representations measure the same share one entry.

    Those whose split holds other environments than the first one's are left out.
    """
    names, measures = names_of(record), voting(record)
    having = [run for run in checkpoints(record) if split in places(record, run)]
    alike = [run for run in having if same_environments(record, having[0], run, split)]
    shown: dict[str, str] = {}
    first: dict[tuple[Estimate | None, ...], str] = {}
    for run in alike:
        found = tuple(look_up(record, run, split, m.metric, m.at) for m in measures)
        kept = first.setdefault(found, run)
        shown[kept] = names[run] if kept == run else f"{shown[kept]}, {names[run]}"
    return shown


def _ranking(
    sources: Sequence[tuple[Record, Measure]], runs: dict[str, str], split: str
) -> Ranking:
    """By the measures that every checkpoint has."""
    measures, orders = [], []
    for record, measure in sources:
        found = [look_up(record, run, split, measure.metric, measure.at) for run in runs]
        known = [e for e in found if e is not None]
        if len(known) == len(found):
            higher = record.metrics[measure.metric].direction == "higher"
            measures.append(measure)
            orders.append(order(known, higher_is_better=higher))
    return Ranking(split, tuple(runs.values()), tuple(measures), tuple(orders))


def rank_maps(found: Sequence[Ranking]) -> list[Drawing]:
    """Ranks by measure and checkpoint, the splits beside each other."""
    if not found:
        return []
    with theme():
        rows = _all_measures(found)
        figure, (row,) = panels(1, len(found), 1.3 + 0.155 * len(rows), sharey=True)
        for axes, ranking in zip(row, found, strict=True):
            _rank_map(axes, ranking, rows)
        return [draw(figure, _ranks_alt(found))]


def _all_measures(found: Sequence[Ranking]) -> list[Measure]:
    """Those of any split, family by family."""
    present = {measure for ranking in found for measure in ranking.measures}
    return [measure for measure in (*MEASURES, *TRANSFER_MEASURES) if measure in present]


def _rank_map(axes: Axes, ranking: Ranking, rows: Sequence[Measure]) -> None:
    values, num = _spread(ranking.ranks, ranking, rows), len(ranking.runs)
    texts = [["" if np.isnan(rank) else f"{rank:g}" for rank in row] for row in values]
    names = [measure.name for measure in rows]
    heat_map(axes, values, texts, names, ranking.runs, cmap="cividis_r", ends=(1, num))
    upright(axes, _LETTERS)
    axes.set_title(ranking.split)
    _family_lines(axes, rows)


def _spread(values: np.ndarray, ranking: Ranking, rows: Sequence[Measure]) -> np.ndarray:
    """Rows of a ranking where all splits have them; NaN where this one lacks a measure."""
    spread = np.full((len(rows), *values.shape[1:]), np.nan)
    spread[[rows.index(measure) for measure in ranking.measures]] = values
    return spread


def _family_lines(axes: Axes, measures: Sequence[Measure]) -> None:
    at = 0
    for _, group in groupby(measures, key=lambda measure: measure.family):
        at += len(list(group))
        axes.axhline(at, color="0.1", linewidth=0.9 if at < len(measures) else 0)


def tau_maps(found: Sequence[Ranking]) -> list[Drawing]:
    """Kendall's tau of every two measures, a map per split; none where nothing can be said."""
    shown = [r for r in found if len(r.runs) >= LEAST_CHECKPOINTS and len(r.measures) > 1]
    if not shown:
        return []
    with theme():
        rows = _all_measures(shown)
        figure, (row,) = panels(1, len(shown), 1.1 + 0.075 * len(rows), sharey=True)
        meshes = [_tau_map(axes, r, rows) for axes, r in zip(row, shown, strict=True)]
        figure.colorbar(meshes[0], ax=row, label=r"$\tau$", pad=0.01, aspect=25)
        return [draw(figure, _taus_alt(shown))]


def _tau_map(axes: Axes, ranking: Ranking, rows: Sequence[Measure]) -> QuadMesh:
    half = _spread(ranking.taus, ranking, rows)
    taus, names = _spread(half.T, ranking, rows), [measure.name for measure in rows]
    texts = [["" for _ in rows] for _ in rows]
    mesh = heat_map(axes, taus, texts, names, names, cmap="RdBu", ends=(-1, 1))
    upright(axes, 2 * _LETTERS)
    axes.tick_params(labelsize=5.2)
    axes.set_title(ranking.split)
    _family_lines(axes, rows)
    return mesh


def _ranks_alt(found: Sequence[Ranking]) -> str:
    lines = []
    for ranking in found:
        means = zip(ranking.runs, ranking.ranks.mean(0), strict=True)
        lines.append(f"{ranking.split} {', '.join(f'{run} {mean:.2f}' for run, mean in means)}")
    return f"Ranks of the checkpoints by every measure; on average {'; '.join(lines)}."


def _taus_alt(found: Sequence[Ranking]) -> str:
    lines = []
    for ranking in found:
        above = ranking.taus[np.triu_indices(len(ranking.measures), 1)]
        known = above[np.isfinite(above)]
        ends = f"{known.min():.2f} to {known.max():.2f}" if len(known) else "not defined"
        lines.append(f"{ranking.split} {ends}")
    return f"Kendall's tau of every two measures: {'; '.join(lines)}."
