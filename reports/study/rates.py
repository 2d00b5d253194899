"""What is drawn along the dropout rate or the size of an ensemble, by data set."""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import pandas as pd

from analysis.claims.rates import best_rate
from analysis.claims.rows import MAIN, SINGLE, main_runs, tuned
from analysis.intervals import LEVEL
from core.errors import InputError
from reports.study.comparison import Arm, Comparison, Difference, difference, in_setting, matched

SUBSETS = {  # models of some runs, of all runs
    ("ensemble_subset", "ensemble_final"): "ensemble",
    ("average_subset", "average_final"): "average",
}
SETTING = [*MAIN, "head_lr_factor", "from_scratch", "selection"]


def along_rates(dataset: str, rows: pd.DataFrame, group: str = "") -> Comparison:
    """Every rate less no dropout."""
    arms = _arms(rows, group, f"{group}, rate" if group else "rate")
    if len(arms) < 2 or arms[0].at != 0:
        raise InputError("the runs have no two rates, or none without dropout")
    found = [difference(arm, arms[0], less="none") for arm in arms[1:]]
    return Comparison(dataset=dataset, arms=arms, differences=found)


def along_sizes(dataset: str, rows: pd.DataFrame) -> Comparison:
    """The same for every size of the training set and number of steps, of `sized_runs`."""
    parts = [along_rates(dataset, of, label) for label, of in sizes(rows)]
    arms = [arm for part in parts for arm in part.arms]
    found = [one for part in parts for one in part.differences]
    return Comparison(dataset=dataset, arms=arms, differences=found)


def sizes(rows: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """Label and runs of every level of images and steps, fewest first, at cells that all have.

    Environments held out leave training sets of different sizes: levels are those of each.

    Raises:
        InputError: If there is one.
    """
    known = rows.dropna(subset=["train_size", "steps"])
    known = known.loc[known["method"].isin(SINGLE), :]
    images, steps = (known[name].astype("float64") for name in ("train_size", "steps"))
    level = (images * 1e9 + steps).groupby(known["env"]).rank("dense")  # by images, then steps
    levels = [known.loc[level == one, :] for one in sorted(set(level))]
    if len(levels) < 2:
        raise InputError("all runs have one training size and number of steps, or do not say it")
    return [(_size(of_level), of_level) for of_level in matched(levels)]


def _size(rows: pd.DataFrame) -> str:
    images, steps = (rows[name].astype("float64").mean() for name in ("train_size", "steps"))
    return f"{images:.0f} images, {steps:.0f} steps"


def best_rates(levels: Iterable[tuple[str, pd.DataFrame]]) -> list[str]:
    """A sentence a level: its best rate with the interval of the draws, or why there is none."""
    found = []
    for label, rows in levels:
        try:
            best = best_rate(rows)
        except InputError as error:
            found.append(f"{label}: {error}.")
            continue
        low, high = np.quantile(best.draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        between = f"from {low:g} to {high:g} in 95 % of draws"
        found.append(f"Best rate out of distribution, {label}: {best.value:g}, {between}.")
    return found


def noises(dataset: str, rows: pd.DataFrame) -> Comparison:
    """Every noise at the head less dropout of the same rate."""
    return _kinds(dataset, rows.query("placement == 'head'"), "noise", _to_dropout)


def placements(dataset: str, rows: pd.DataFrame) -> Comparison:
    """Dropout at every placement and rate less no dropout."""
    return _kinds(dataset, rows.query("noise == 'dropout'"), "placement", _to_none)


def ensemble_sizes(dataset: str, rows: pd.DataFrame) -> Comparison:
    """Ensembles and averages of so many runs, up to all of them."""
    arms = []
    for (method, whole), name in SUBSETS.items():
        of_some = rows.loc[rows["method"] == method, :]
        for rate in sorted(set(of_some["drop_rate"])):
            group = f"{name}, {f'dropout {rate:g}' if rate else 'plain'}"
            of_name = rows.loc[rows["method"].isin([method, whole]), :]
            at_rate = of_name.loc[np.isclose(of_name["drop_rate"], rate), :]
            for size, of_size in at_rate.groupby("ensemble_size"):
                label = f"{group}, {size}"
                arms.append(Arm(name=label, rows=of_size, group=group, at=float(str(size))))
    if not arms:
        raise InputError("no run of ensemble_subset or average_subset")
    return Comparison(dataset=dataset, arms=arms)


def rivals(runs: pd.DataFrame) -> pd.DataFrame:
    """Single runs of any noise and placement in the main setting."""
    main = main_runs(runs)
    single, of_main = (frame.loc[frame["method"].isin(SINGLE), :] for frame in (runs, main))
    return in_setting(single, of_main, SETTING)


def _arms(rows: pd.DataFrame, group: str, name: str) -> list[Arm]:
    rates = sorted(set(rows.loc[rows["method"].isin(SINGLE), "drop_rate"]))
    return [
        Arm(name=f"{name} {rate:g}", rows=of_rate, group=group, at=rate)
        for rate, of_rate in zip(rates, matched([tuned(rows, r) for r in rates]), strict=True)
    ]


def _kinds(
    dataset: str,
    rows: pd.DataFrame,
    column: str,
    less: Callable[[Sequence[Arm], Arm], list[Difference]],
) -> Comparison:
    """Arms by kind and rate; runs without noise belong to none and come first."""
    kinds = [kind for kind in dict.fromkeys(rows[column]) if kind not in {"dropout", "head"}]
    if not kinds:
        raise InputError(f"all runs have one {column}")
    usual = [kind for kind in ("dropout", "head") if kind in set(rows[column])]
    noisy = rows.query("drop_rate > 0")
    of_kinds = [noisy.loc[noisy[column] == kind, :] for kind in (*usual, *kinds)]
    none, *of_kinds = matched([tuned(rows, 0), *of_kinds])
    arms = [Arm(name="none", rows=none, group="none")]
    for kind, of_kind in zip((*usual, *kinds), of_kinds, strict=True):
        arms += _arms(of_kind, kind, kind)
    found = [one for arm in arms[1:] for one in less(arms, arm)]
    return Comparison(dataset=dataset, arms=arms, differences=found)


def _to_dropout(arms: Sequence[Arm], arm: Arm) -> list[Difference]:
    same = [other for other in arms if other.group == "dropout" and other.at == arm.at]
    return [difference(arm, other, less="dropout") for other in same if other is not arm]


def _to_none(arms: Sequence[Arm], arm: Arm) -> list[Difference]:
    return [difference(arm, arms[0], less="none")]
