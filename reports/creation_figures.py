"""What fine-tuned features share with pretrained ones, by run, and over what runs differ in."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from analysis.creation_verdict import (
    AFTER,
    ALL,
    BEFORE,
    CKA,
    DIFFERENCE,
    FEATURES,
    NULL,
    R2,
    places_of,
    with_recipes,
)
from analysis.estimates import Estimate, estimate, number, ordered, select
from analysis.verdicts import controls
from core.records import Record
from reports.figures import run_names, splits
from reports.style import (
    Drawing,
    draw,
    legend,
    line_handles,
    log_ticks,
    panels,
    r2_axis,
    run_styles,
    wrapped,
)

_OFFSET = 0.17  # between what is drawn of a run


def runs_of(record: Record) -> list[str]:
    """Runs that were compared with their networks before, or were to be."""
    return list(dict.fromkeys(run for run, _ in places_of(record)))


def overview(record: Record, split: str) -> Drawing:
    """R2 and CKA, accuracies of probes and their difference; runs top to bottom."""
    names = runs_of(record)
    figure, (row,) = panels(1, 4, 0.95 + 0.42 * len(names), sharey=True)
    for at, run in enumerate(names):
        color = run_styles(names)[run].color
        null = _find(record, NULL, ALL, run, split)
        if null is not None:
            row[0].plot([null.low, null.high], [at, at], color="0.8", linewidth=7, zorder=0)
        for axes, pairs in zip(row, _PANELS.values(), strict=True):
            for place, (metric, layer, marker, face) in _side_by_side(at, pairs):
                found = _find(record, metric, layer, run, split)
                _dot(axes, found, place, marker, color, face or color)
    for axes, title in zip(row, _PANELS, strict=True):
        axes.set_xlabel(title)
        axes.tick_params(axis="y", length=0)
        axes.locator_params(axis="x", nbins=4)
    row[3].axvline(0, color="0.6", linewidth=0.6, zorder=0)
    shown = [_find(record, m, layer, run, split) for run in names for m, layer in _R2_SHOWN]
    r2_axis(row[0], [x for e in shown if e for x in (e.value, e.low, e.high)], which="x")
    row[0].set(ylim=(len(names) - 0.5, -0.5))
    row[0].set_yticks(range(len(names)), [wrapped(run_names(record)[n], 16) for n in names])
    legend(figure, _handles())
    return draw(figure, _overview_alt(record, split), split)


_R2_SHOWN = ((R2, ALL), (R2, FEATURES), (NULL, ALL))
_Mark = tuple[str, str, str, str]  # metric, layers, marker, face (empty: filled)
_PANELS: dict[str, Sequence[_Mark]] = {
    r"$R^2$ of fine-tuned $\Phi$": ((R2, ALL, "o", ""), (R2, FEATURES, "o", "white")),
    r"CKA with fine-tuned $\Phi$": ((CKA, ALL, "o", ""), (CKA, FEATURES, "o", "white")),
    "accuracy of probes": (
        (BEFORE, ALL, "o", ""),
        (BEFORE, FEATURES, "o", "white"),
        (AFTER, ALL, "D", ""),
        (AFTER, FEATURES, "D", "white"),
    ),
    "before (all) less after ($\\Phi$)": ((DIFFERENCE, ALL, "o", ""),),
}


def _side_by_side(at: float, pairs: Sequence[_Mark]) -> list[tuple[float, _Mark]]:
    middle = (len(pairs) - 1) / 2
    return [(at + _OFFSET * (i - middle), mark) for i, mark in enumerate(pairs)]


def _find(record: Record, metric: str, layer: str, run: str, split: str) -> Estimate | None:
    return estimate(record.values, metric, run=run, layer=layer, split=split, env=ALL)


def _dot(axes: Axes, found: Estimate | None, y: float, marker: str, color: Any, face: Any) -> None:  # ruff: ignore[any-type] - matplotlib's colours
    if found is None:
        return
    axes.plot([found.low, found.high], [y, y], color=color, linewidth=1)
    axes.plot(found.value, y, marker, color=color, markerfacecolor=face, markersize=3.4)


def _handles() -> list[Line2D | Patch]:
    def mark(marker: str, face: str, label: str) -> Line2D:
        return Line2D([], [], color="0.2", linestyle="", marker=marker, mfc=face, label=label)

    return [
        mark("o", "0.2", "pretrained, all layers"),
        mark("o", "white", r"pretrained $\Phi$"),
        mark("D", "0.2", "fine-tuned, all layers"),
        mark("D", "white", r"fine-tuned $\Phi$"),
        Patch(color="0.8", label="examples permuted"),
    ]


def over_recipes(record: Record, axes_names: Mapping[str, str]) -> Drawing:
    """R2 from all pretrained layers over what the runs differ in, a row per split."""
    rows, values = splits(record, R2), with_recipes(record)
    values = values.loc[~values["run"].isin(controls(record)), :]
    names = ordered(values, "run", metric=R2)
    styles = run_styles(names)
    figure, grid = panels(len(rows), len(axes_names), 0.8 + 1.6 * len(rows), sharey="row")
    for line, split in zip(grid, rows, strict=True):
        for axes, (column, title) in zip(line, axes_names.items(), strict=True):
            of = select(values, R2, layer=ALL, env=ALL, split=split)
            for run, at, value, low, high in of[
                ["run", column, "value", "low", "high"]
            ].itertuples(index=False):
                style = styles[run]
                axes.plot([at, at], [low, high], color=style.color, linewidth=1)
                axes.plot(at, value, style.marker, color=style.color, markersize=3.4)
            axes.set_xscale("log")
            places = of[column].to_numpy(float)
            log_ticks(axes.xaxis, float(places.max() / places.min()))
            axes.set_xlabel(title if line is grid[-1] else "")
        line[0].set_ylabel(f"{split}, $R^2$")
    legend(figure, line_handles(styles, run_names(record)))
    return draw(figure, f"R2 over {', '.join(axes_names.values())}. {_r2_alt(record, rows)}")


def _overview_alt(record: Record, split: str) -> str:
    said = [
        f"{run} {number(found.value)}"
        for run in runs_of(record)
        if (found := _find(record, DIFFERENCE, ALL, run, split))
    ]
    return (
        f"R2 and CKA of fine-tuned features with pretrained ones and accuracy of probes on both, "
        f"{split}. {_r2_alt(record, [split])} Accuracy before less after: {'; '.join(said)}."
    )


def _r2_alt(record: Record, rows: Sequence[str]) -> str:
    said = [
        f"{run} {split} {number(found.value)}"
        for run in runs_of(record)
        for split in rows
        if (found := _find(record, R2, ALL, run, split))
    ]
    return f"R2 from all layers: {'; '.join(said)}."
