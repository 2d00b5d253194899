"""How alike the checkpoints are: layer by layer, and on the representation beside chance.

Shapes: A layers of the first checkpoint, B of the second, R checkpoints.
"""

from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh

from analysis.estimates import Estimate, estimate, number, ordered, select
from analysis.richness_verdicts import INIT, checkpoints, is_init, layer_of, places, split_names
from core.records import Record
from reports.heat import broken, heat_map, upright
from reports.richness_runs import by_depth, names_of, splits_with
from reports.style import Drawing, chunks, draw, panels, theme, wrapped

_MAPS_PER_ROW, _ROWS = 3, 3
_MOST_NUMBERS = 6  # layers whose numbers fit into a map
_MOST_TEXTS = 7  # checkpoints whose numbers fit into a map
_COLORS = "viridis"


class Pair(NamedTuple):
    """Two checkpoints on the examples of a split."""

    first: str
    second: str
    split: str

    @property
    def run(self) -> str:
        """How the column `run` calls them."""
        return f"{self.first} | {self.second}"


def layer_maps(record: Record) -> list[Drawing]:
    """CKA of every layer with every layer, of runs with their own init and with each other."""
    pairs = [pair for pair in shown_pairs(record) if _map(record, pair) is not None]
    with theme():
        parts = chunks(pairs, _MAPS_PER_ROW * _ROWS) if pairs else []
        return [_layer_maps(record, part, len(parts)) for part in parts]


def shown_pairs(record: Record) -> list[Pair]:
    """Runs with their own network before fine-tuning, and with each other, split by split."""
    runs = checkpoints(record)
    tuned = [run for run in runs if not is_init(run)]
    pairs = [(f"{run}{INIT}", run) for run in tuned if f"{run}{INIT}" in runs]
    pairs += combinations(tuned, 2)
    return [Pair(a, b, split) for split in split_names(record) for a, b in pairs]


def _map(record: Record, pair: Pair) -> Float[np.ndarray, "A B"] | None:
    env = places(record, pair.first).get(pair.split)
    return record.arrays.get(f"{pair.run}|{pair.split}|{env}|similarity|map")


def _layer_maps(record: Record, pairs: Sequence[Pair], of: int) -> Drawing:
    rows = -(-len(pairs) // _MAPS_PER_ROW)
    figure, grid = panels(rows, _MAPS_PER_ROW, 0.5 + 2.5 * rows)
    panel_list = [axes for row in grid for axes in row]
    for axes in panel_list[len(pairs) :]:
        axes.set_axis_off()
    meshes = [
        _layer_map(axes, record, pair) for axes, pair in zip(panel_list, pairs, strict=False)
    ]
    figure.colorbar(meshes[0], ax=panel_list, label="CKA", pad=0.01, aspect=40, shrink=0.6)
    first, last = (f"{pair.run}, {pair.split}" for pair in (pairs[0], pairs[-1]))
    return draw(figure, _layers_alt(record, pairs), "" if of == 1 else f"{first}, to {last}")


def _layer_map(axes: Axes, record: Record, pair: Pair) -> QuadMesh:
    values, rows, columns = _sorted_map(record, pair)
    small = max(values.shape) <= _MOST_NUMBERS
    texts = [[f"{x:.2f}" if small else "" for x in row] for row in values]
    ends = (0.0, 1.0)
    mesh = heat_map(axes, values, texts, rows, columns, cmap=_COLORS, ends=ends, fontsize=5.5)
    upright(axes, 20)
    axes.tick_params(labelsize=6)
    axes.set_title(pair.split, fontsize=7.5)
    axes.set_ylabel(wrapped(pair.first, 26), fontsize=7)
    axes.set_xlabel(wrapped(pair.second, 26), fontsize=7)
    return mesh


def _sorted_map(
    record: Record, pair: Pair
) -> tuple[Float[np.ndarray, "A B"], list[str], list[str]]:
    """A map with its layers from the input to the output."""
    values = _map(record, pair)
    assert values is not None
    first, second = _layers(record, pair)
    rows, columns = by_depth(first), by_depth(second)
    at = np.ix_([first.index(x) for x in rows], [second.index(x) for x in columns])
    return values[at], rows, columns


def _layers(record: Record, pair: Pair) -> tuple[list[str], list[str]]:
    """Layers of both, in the order of the probe; those they share where neither has its own."""
    shared = ordered(select(record.values, "cka", run=pair.run), "layer")
    first, second = (ordered(record.values, "layer", run=run) or shared for run in pair[:2])
    return first, second


def _layers_alt(record: Record, pairs: Sequence[Pair]) -> str:
    lines = []
    for pair in pairs:
        values = _map(record, pair)
        assert values is not None
        lines.append(f"{pair.run} {pair.split} from {values.min():.2f} to {values.max():.2f}")
    return f"Debiased CKA of every layer with every layer: {'; '.join(lines)}."


def checkpoint_map(record: Record) -> list[Drawing]:
    """CKA of the representations of all checkpoints, and below the diagonal what chance gives."""
    splits = splits_with(record, "cka", split_names(record))
    if not splits:
        return []
    with theme():
        num = len(checkpoints(record))
        figure, grid = panels(len(splits), 1, 0.3 + len(splits) * (0.6 + 0.25 * num))
        for (axes,), split in zip(grid, splits, strict=True):
            mesh = _checkpoint_map(axes, record, split)
            broken(axes)
            axes.set_title(f"{split}: CKA (above the diagonal) and its null (below)")
            figure.colorbar(mesh, ax=axes, pad=0.01, aspect=25)
        return [draw(figure, _checkpoints_alt(record, splits))]


def _checkpoint_map(axes: Axes, record: Record, split: str) -> QuadMesh:
    runs, names = checkpoints(record), list(names_of(record).values())
    values = np.full((len(runs), len(runs)), np.nan)
    texts = [["" for _ in runs] for _ in runs]
    for (i, a), (j, b) in combinations(enumerate(runs), 2):
        for (row, column), metric in (((i, j), "cka"), ((j, i), "null_cka")):
            found = _similarity(record, metric, Pair(a, b, split))
            if found is not None:
                values[row, column] = found.value
                texts[row][column] = _text(found) if len(runs) <= _MOST_TEXTS else ""
    ends = (0.0, 1.0)
    return heat_map(axes, values, texts, names, names, cmap=_COLORS, ends=ends, fontsize=6)


def _similarity(record: Record, metric: str, pair: Pair) -> Estimate | None:
    env = places(record, pair.first).get(pair.split, "")
    where = {"run": pair.run, "split": pair.split, "env": env, "layer": layer_of(record)}
    return estimate(record.values, metric, at=None, **where)


def _text(found: Estimate) -> str:
    ends = f"\n[{number(found.low)}, {number(found.high)}]" if found.has_interval else ""
    return number(found.value) + ends


def _checkpoints_alt(record: Record, splits: Sequence[str]) -> str:
    lines = [
        f"{pair.run} {split} {found}"
        for split in splits
        for a, b in combinations(checkpoints(record), 2)
        for pair in [Pair(a, b, split)]
        if (found := _similarity(record, "cka", pair)) is not None
    ]
    return f"Debiased linear CKA of the representations: {'; '.join(lines)}."
