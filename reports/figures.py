"""Curves along the path from the pretrained (alpha = 0) to the fine-tuned weights (alpha = 1).

Bands and whiskers are the intervals of the record; nothing is estimated here.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from analysis.estimates import Estimate, estimate, number, ordered, select
from analysis.verdicts import controls
from core.records import Record
from reports.style import (
    TEXT_WIDTH,
    Drawing,
    RunStyle,
    chunks,
    draw,
    legend,
    line_handles,
    panels,
    r2_axis,
    run_styles,
    theme,
    wrapped,
)

ROWS_PER_FIGURE = 8
LEFT_OUT = (
    "Points without a finite value are left out, such as those beyond the fine-tuned weights "
    "where an extrapolated running variance is negative."
)
_PATHS = {  # title of the panel: metric, layer
    r"representation $\Phi$, expanded at $\theta_0$": ("explained_displacement", "features"),
    r"logits $f$, expanded at $\theta_0$": ("explained_displacement", "logits"),
    r"representation $\Phi$, expanded at $\theta_1$": ("explained_displacement_end", "features"),
}
_FRACTION = {
    "explained_displacement": r"position $\alpha$",
    "explained_displacement_end": r"fraction walked back $\beta$",
}


def run_names(record: Record) -> dict[str, str]:
    """Runs in the order of the record and what figures and tables print for them."""
    scratch = controls(record)
    runs = [entry["run"] for entry in record.provenance["runs"]]
    return {run: f"{run} (control)" if run in scratch else run for run in runs}


def splits(record: Record, metric: str = "explained_displacement") -> list[str]:
    """The splits that a metric was measured on, `iid` before `ood`."""
    return sorted(ordered(record.values, "split", metric=metric))


def environments(record: Record, metric: str = "weight_accuracy") -> list[str]:
    """Single environments, those inside the distribution of the first run first."""
    rows = select(record.values, metric)
    rows = rows.loc[rows["env"] != "all", :].sort_values(by="split", kind="stable")
    return ordered(rows, "env")


def interpolation(record: Record) -> list[Drawing]:
    """Weight against representation interpolation: a row per run, a column per environment.

    Long lists of runs continue on further figures.
    """
    parts = chunks(list(run_names(record)), ROWS_PER_FIGURE)
    with theme():
        return [_interpolation(record, part) for part in parts]


def _interpolation(record: Record, runs: Sequence[str]) -> Drawing:
    envs, styles = environments(record), run_styles(list(run_names(record)))
    row_height = min(2.2, max(1.12, 0.5 * TEXT_WIDTH / len(envs)))
    height = 0.55 + row_height * len(runs)
    figure, grid = panels(len(runs), len(envs), height, sharex=True, sharey=True)
    for row, run in zip(grid, runs, strict=True):
        for axes, env in zip(row, envs, strict=True):
            _two_curves(axes, record.values, run, env, styles[run])
        row[0].set_ylabel(wrapped(run_names(record)[run], 15), color=styles[run].color)
    for axes, env in zip(grid[0], envs, strict=True):
        axes.set_title(env)
    figure.supxlabel(r"position $\alpha$ on the path", fontsize=8.5)
    figure.supylabel("accuracy", fontsize=8.5)
    figure.legend(*_curve_handles(grid), loc="outside upper center", ncols=2)
    part = "" if len(runs) == len(styles) else f"runs {runs[0]} to {runs[-1]}"
    return draw(figure, _interpolation_alt(record, runs, envs), part)


def _curve_handles(grid: list[list[Axes]]) -> tuple[list, list]:
    handles, _ = next(h for row in grid for a in row if (h := a.get_legend_handles_labels())[0])
    return handles, ["weights (colour)", "representation (dashed)"]


def _two_curves(axes: Axes, values: pd.DataFrame, run: str, env: str, style: RunStyle) -> None:
    """One panel; the shade marks environments that the run was not trained on."""
    weights = select(values, "weight_accuracy", run=run, env=env)
    if weights.empty:
        axes.set_axis_off()
        return
    split = weights["split"].iloc[0]
    band(axes, weights, style.color, linestyle="-", label="weights")
    representation = select(values, "representation_accuracy", run=run, env=env)
    band(axes, representation, "0.25", linestyle=(0, (3, 1.5)), label="representation")
    axes.text(0.97, 0.04, split, transform=axes.transAxes, ha="right", va="bottom", fontsize=7)
    if split == "ood":
        axes.set_facecolor("0.955")


def band(axes: Axes, rows: pd.DataFrame, color: object, **line: object) -> None:
    """A curve over the column `at` with its interval, where there is one."""
    rows = rows.sort_values("at")
    axes.plot(rows["at"], rows["value"], color=color, **line)  # type: ignore[arg-type]
    axes.fill_between(rows["at"], rows["low"], rows["high"], color=color, alpha=0.18, linewidth=0)  # type: ignore[arg-type]


def path(record: Record) -> Drawing:
    """R2 along the path: a row per split, columns by what is expanded and where."""
    names, rows = run_names(record), splits(record)
    styles = run_styles(list(names))
    with theme():
        figure, grid = panels(len(rows), len(_PATHS), 0.9 + 1.75 * len(rows), sharey="row")
        for line, split in zip(grid, rows, strict=True):
            for axes, (title, source) in zip(line, _PATHS.items(), strict=True):
                _path_panel(axes, record.values, source, split, styles)
                axes.set_title(title if line is grid[0] else "")
                axes.set_xlabel(_FRACTION[source[0]] if line is grid[-1] else "")
            line[0].set_ylabel(f"{split}, $R^2$")
            r2_axis(line[0], _visible(record.values, split), which="y")
        legend(figure, line_handles(styles, names))
        return draw(figure, _path_alt(record, rows), note=_left_out(record.values, rows))


def _visible(values: pd.DataFrame, split: str) -> list[float]:
    return _on_paths(values, split)[["value", "low", "high"]].to_numpy().ravel().tolist()


def _left_out(values: pd.DataFrame, rows: Sequence[str]) -> str:
    shown = pd.concat([_on_paths(values, split)["value"] for split in rows])
    return "" if np.isfinite(shown).all() else LEFT_OUT


def _on_paths(values: pd.DataFrame, split: str) -> pd.DataFrame:
    rows = [
        select(values, metric, layer=layer, env="all", split=split)
        for metric, layer in _PATHS.values()
    ]
    return pd.concat(rows)


def _path_panel(
    axes: Axes,
    values: pd.DataFrame,
    source: tuple[str, str],
    split: str,
    styles: dict[str, RunStyle],
) -> None:
    metric, layer = source
    for run, style in styles.items():
        rows = select(values, metric, run=run, layer=layer, env="all", split=split)
        band(axes, rows, style.color, linestyle=style.dash, marker=style.marker)
    for at in (0, 1):
        axes.axhline(at, color="0.6", linewidth=0.6, zorder=0)


def _interpolation_alt(record: Record, runs: Sequence[str], envs: Sequence[str]) -> str:
    gaps = [
        f"{run} at most {number(rows['value'].to_numpy().max())}"
        for run in runs
        if not (rows := select(record.values, "interpolation_gap_max", run=run)).empty
    ]
    return (
        f"Accuracy against the position on the path for {len(runs)} runs in the environments "
        f"{', '.join(envs)}, by weight and by representation interpolation. "
        f"Largest gap between the two: {'; '.join(gaps)}."
    )


def _path_alt(record: Record, rows: Sequence[str]) -> str:
    ends = [
        f"{run} {split} {number(r2.value)}"
        for run in run_names(record)
        for split in rows
        if (r2 := _end(record.values, run, split)) is not None
    ]
    return (
        "Explained displacement against the position on the path, from both ends. "
        f"Of the representation at the fine-tuned weights: {'; '.join(ends)}."
    )


def _end(values: pd.DataFrame, run: str, split: str) -> Estimate | None:
    where = {"run": run, "layer": "features", "env": "all", "split": split}
    return estimate(values, "explained_displacement", at=1.0, **where)
