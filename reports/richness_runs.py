"""How the reports on features name and draw checkpoints, and where on a page they stand."""

from collections.abc import Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from analysis.estimates import Estimate, ordered, select
from analysis.richness_verdicts import (
    ALL,
    INIT,
    checkpoints,
    is_init,
    layer_of,
    places,
)
from core.records import Record
from reports.style import RunStyle, run_styles

_BEFORE = (0, (3, 1.5))  # dashes of a network before its fine-tuning
_LAST = ("features", "logits")  # behind all blocks


def names_of(record: Record) -> dict[str, str]:
    """Checkpoints and what figures and tables print for them."""
    scratch = {e["run"] for e in record.provenance["runs"] if e.get("from_scratch")}
    return {
        run: f"{run} (control)" if run in scratch and not is_init(run) else run
        for run in checkpoints(record)
    }


def styles_of(record: Record) -> dict[str, RunStyle]:
    """A colour and a marker per run; a network before fine-tuning has its run's, and is dashed."""
    runs = checkpoints(record)
    bases = run_styles(list(dict.fromkeys(run.removesuffix(INIT) for run in runs)))
    return {run: _style(bases[run.removesuffix(INIT)], before=is_init(run)) for run in runs}


def _style(base: RunStyle, *, before: bool) -> RunStyle:
    return RunStyle(base.color, _BEFORE if before else "-", base.marker)


def handles(record: Record) -> list[Line2D]:
    """Legend entries; markers of networks before fine-tuning are open."""
    names = names_of(record)
    return [
        Line2D([], [], linestyle=s.dash, label=names[run], **marks(run, s))
        for run, s in styles_of(record).items()
    ]


def marks(run: str, style: RunStyle) -> dict[str, Any]:
    """Options of the markers of a checkpoint."""
    face = "white" if is_init(run) else style.color
    return {
        "color": style.color,
        "marker": style.marker,
        "markerfacecolor": face,
        "markeredgewidth": 0.8,
    }


def curve(axes: Axes, rows: pd.DataFrame, run: str, style: RunStyle) -> None:
    """Values over the column `at` with whiskers to the ends of their intervals."""
    if rows.empty:
        return
    rows = rows.sort_values("at")
    axes.vlines(rows["at"], rows["low"], rows["high"], color=style.color, linewidth=0.8)
    axes.plot(rows["at"], rows["value"], linestyle=style.dash, **marks(run, style))  # type: ignore[arg-type]


def curve_rows(record: Record, run: str, split: str, metric: str) -> pd.DataFrame:
    """A metric with a coordinate, of all examples of a split at the layer that is judged."""
    where = {"run": run, "split": split, "env": places(record, run).get(split, "")}
    return select(record.values, metric, at=None, layer=layer_of(record), **where)


def splits_with(record: Record, metric: str, splits: Sequence[str]) -> list[str]:
    """Those of the splits that have the metric."""
    found = ordered(select(record.values, metric), "split")
    return [split for split in splits if split in found]


def layers_of(record: Record, metric: str) -> list[str]:
    """Single layers that have the metric, from the input to the output."""
    found = ordered(select(record.values, metric), "layer")
    return by_depth([layer for layer in found if layer != ALL])


def by_depth(layers: Sequence[str]) -> list[str]:
    """Layers from the input to the output, blocks as they come.

    Example:
        >>> by_depth(["features", "layer1", "layer2"])
        ['layer1', 'layer2', 'features']
    """
    blocks = [layer for layer in layers if layer not in _LAST]
    return blocks + [layer for layer in _LAST if layer in layers]


def dot(axes: Axes, found: Estimate | None, at: float, run: str, style: RunStyle) -> None:
    """A value on the x axis with its interval, at a height; nothing where there is none."""
    if found is None:
        return
    axes.hlines(at, found.low, found.high, color=style.color, linewidth=0.9)
    axes.plot(found.value, at, linestyle="", markersize=4, **marks(run, style))  # type: ignore[arg-type]
