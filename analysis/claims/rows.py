"""Which rows of a runs frame a claim is about.

Methods by name, as a study writes them:

erm, dropout
    A single run; its `drop_rate` tells it, and 0 is plain fine-tuning.
ensemble_trajectory, average_trajectory
    Outputs, or weights, of the checkpoints of one run; one row a run, with its cell and seed.
ensemble_final, average_final
    Those of all runs at a rate; one row an environment, whatever cell and seed it is given.
ensemble_subset, average_subset
    Those of `ensemble_size` runs drawn from all at a rate; `seed` numbers the draws. No claim is
    about them.
linear, tangent
    The paper's linear model (1), and the first-order expansion, trained as the runs are.

Every row carries its setting: pretrained weights, steps, training size. Unless a claim is about
them, runs from scratch, of another noise or placement, with another head factor than 1 or away
from the main setting, which is the most frequent one of an environment, are left out. Single runs
count at the `best` step by i.i.d. accuracy where a study has it, as in the paper, else at the
`final` one; so do other methods that have rows at both.
"""

import math
from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from analysis.bootstrap import hierarchical_mean
from analysis.claims.requirement import Requirement, required
from analysis.clusters import PLACE, Level, numbered
from analysis.pairing import KEYS, SETTING, Pairs, paired
from analysis.runs import DROP_RATE
from core.errors import InputError

SINGLE = ("erm", "dropout")
ENSEMBLES = ("ensemble_trajectory", "ensemble_final")
AVERAGES = ("average_trajectory", "average_final")
TRAJECTORIES = (ENSEMBLES[0], AVERAGES[0])
FINALS = (ENSEMBLES[1], AVERAGES[1])
HEAD_DROPOUT = "noise == 'dropout' and placement == 'head'"
MAIN = ["pretrained", "steps", "train_size"]
# Averages are of whole runs: which step counts is a choice about single runs.
ON = (*KEYS, *(name for name in SETTING if name != "selection"))


def pretrained_runs(runs: pd.DataFrame) -> pd.DataFrame:
    """Runs with dropout at the head or without noise, pretrained, at one step each."""
    return _one_step(runs.query(f"{HEAD_DROPOUT} and not from_scratch"))


def sized_runs(runs: pd.DataFrame) -> pd.DataFrame:
    """The same at a head factor of 1, of any steps and training size, from the main weights."""
    return _most_frequent(pretrained_runs(runs).query("head_lr_factor == 1"), MAIN[:1])


def main_runs(runs: pd.DataFrame) -> pd.DataFrame:
    """The same in the main setting of their environment."""
    return _most_frequent(sized_runs(runs), MAIN)


def scratch_runs(runs: pd.DataFrame) -> pd.DataFrame:
    """Runs from random weights with dropout or without noise, at one step each."""
    found = _one_step(runs.query(f"{HEAD_DROPOUT} and from_scratch and head_lr_factor == 1"))
    if found.empty:
        raise InputError("no run is from scratch")
    return found


def tuned(rows: pd.DataFrame, rate: float = DROP_RATE) -> pd.DataFrame:
    """Single runs at one dropout rate.

    Raises:
        InputError: If there is none.
    """
    return of_method(rows, SINGLE, rate)


def of_method(rows: pd.DataFrame, methods: Sequence[str], rate: float) -> pd.DataFrame:
    """Rows of methods at one dropout rate.

    Raises:
        InputError: If there is none.
    """
    found = rows[rows["method"].isin(methods) & np.isclose(rows["drop_rate"], rate)]
    if found.empty:
        raise InputError(f"no run of {' or '.join(methods)} at dropout rate {rate:g}")
    return pd.DataFrame(found)


def present(rows: pd.DataFrame, methods: Sequence[str], rate: float) -> list[str]:
    """Which of the methods have rows at a rate, in their order."""
    at_rate = set(rows.loc[np.isclose(rows["drop_rate"], rate), "method"])
    return [method for method in methods if method in at_rate]


def datasets(rows: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """Name and rows of every data set.

    Raises:
        InputError: If there are no rows.
    """
    if rows.empty:
        raise InputError("no run is fine-tuned from pretrained weights with dropout or no noise")
    for name in sorted(set(rows["dataset"])):
        yield name, pd.DataFrame(rows[rows["dataset"] == name])


def contrast(
    a: pd.DataFrame, b: pd.DataFrame, column: str = "ood", *, free: Sequence[str] = ()
) -> Pairs:
    """Paired differences of two methods, which may differ in the settings `free`."""
    return paired(a, b, column, on=[name for name in ON if name not in free])


def requirement(
    name: str,
    pairs: Pairs,
    *,
    low: float = -math.inf,
    high: float = math.inf,
    level: Level = "cells",
    rows: Sequence[int] | None = None,
) -> Requirement:
    """What a claim requires of the mean of pairs; `rows` are their runs where they lack them."""
    mean = hierarchical_mean(pairs.frame, level=level)
    return required(name, mean, pairs.rows if rows is None else rows, low=low, high=high)


def over_cells(
    name: str,
    a: pd.DataFrame,
    b: pd.DataFrame,
    column: str = "ood",
    *,
    low: float = -math.inf,
    high: float = math.inf,
) -> Requirement:
    """The same for methods or settings whose cells differ: means over cells, paired by seed."""
    keys = [name for name in KEYS if name != "cell"]
    first, second = (
        side.groupby(keys, as_index=False).agg({column: "mean"}).assign(cell="all")
        for side in (a, b)
    )
    pairs = paired(first, second, column, on=KEYS)
    return requirement(name, pairs, low=low, high=high, rows=sorted({*a.index, *b.index}))


def mean_requirement(
    name: str,
    rows: pd.DataFrame,
    column: str,
    *,
    low: float = -math.inf,
    high: float = math.inf,
) -> Requirement:
    """What a claim requires of the mean of a column of measures."""
    measured = with_measure(rows, column)
    mean = hierarchical_mean(measured, column)
    return required(name, mean, measured.index.tolist(), low=low, high=high)


def with_measure(rows: pd.DataFrame, column: str) -> pd.DataFrame:
    """Rows that have a measure.

    Raises:
        InputError: If there is none.
    """
    found = rows.dropna(subset=[column]) if column in rows.columns else rows.iloc[:0]
    if found.empty:
        raise InputError(f"no run has the measure {column}")
    return found


def _one_step(runs: pd.DataFrame) -> pd.DataFrame:
    """Every method at the step that single runs of its data set count at, or at its only one."""
    kept = []
    for _, rows in runs.groupby("dataset"):
        single = rows["method"].isin(SINGLE)
        step = "best" if (rows.loc[single, "selection"] == "best").any() else "final"
        at_step = rows["selection"] == step
        elsewhere = ~single & ~rows["method"].isin(rows.loc[at_step, "method"])
        kept.append(rows[at_step | elsewhere])
    return pd.concat(kept).sort_index() if kept else runs


def _most_frequent(rows: pd.DataFrame, setting: Sequence[str]) -> pd.DataFrame:
    """Rows in the setting that most single runs of their environment have."""
    kept = [rows.iloc[:0]]
    for _, of_place in rows.groupby(PLACE):
        number = numbered(of_place, setting)
        single = of_place["method"].isin(SINGLE).to_numpy()
        if single.any():
            kept.append(of_place[number == np.bincount(number[single]).argmax()])
    return pd.concat(kept).sort_index()
