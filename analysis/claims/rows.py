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
from the main setting are left out. The main setting is that of most single runs of a data set, and
of several the one of the most steps and images; held out, environments leave training sets of
different sizes, which then count as one. At a rate of 0 there is no noise, whatever its kind and
placement are called. Single runs count at the `best` step by i.i.d. accuracy where a study has it,
as in the paper, else at the `final` one; so do other methods that have rows at both.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from pandas.api.types import is_numeric_dtype

from analysis.clusters import numbered
from analysis.pairing import KEYS, SETTING, Pairs, paired
from analysis.runs import DROP_RATE, IDENTITY
from core.errors import InputError

SINGLE = ("erm", "dropout")
ENSEMBLES = ("ensemble_trajectory", "ensemble_final")
AVERAGES = ("average_trajectory", "average_final")
TRAJECTORIES = (ENSEMBLES[0], AVERAGES[0])
FINALS = (ENSEMBLES[1], AVERAGES[1])
MAIN = ["pretrained", "steps", "train_size"]
# Averages are of whole runs: which step counts is a choice about single runs.
ON = (*KEYS, *(name for name in SETTING if name != "selection"))


def pretrained_runs(runs: pd.DataFrame) -> pd.DataFrame:
    """Runs with dropout at the head or without noise, pretrained, at one step each."""
    return _one_step(_head_dropout(runs).query("not from_scratch"))


def sized_runs(runs: pd.DataFrame) -> pd.DataFrame:
    """The same at a head factor of 1, of any steps and training size, from the main weights."""
    return _most_frequent(pretrained_runs(runs).query("head_lr_factor == 1"), MAIN[:1])


def main_runs(runs: pd.DataFrame) -> pd.DataFrame:
    """The same in the main setting of their data set."""
    return _most_frequent(sized_runs(runs), MAIN)


def any_steps(runs: pd.DataFrame) -> pd.DataFrame:
    """The same of any steps, at one training size."""
    return _most_frequent(sized_runs(runs), ["pretrained", "train_size"])


def scratch_runs(runs: pd.DataFrame) -> pd.DataFrame:
    """Runs from random weights with dropout or without noise, at one step each."""
    found = _one_step(_head_dropout(runs).query("from_scratch and head_lr_factor == 1"))
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


def with_measure(rows: pd.DataFrame, column: str) -> pd.DataFrame:
    """Rows that have a measure.

    Raises:
        InputError: If there is none, or it is no number.
    """
    if column in rows.columns and not is_numeric_dtype(rows[column]):
        raise InputError(
            f"the measure {column} holds {rows[column].iloc[0]!r}, which is no number"
        )
    found = rows.dropna(subset=[column]) if column in rows.columns else rows.iloc[:0]
    if found.empty:
        raise InputError(f"no run has the measure {column}")
    return found


def levels(values: pd.Series, env: pd.Series) -> pd.Series:
    """Sizes of one data set that count as equal, the larger the greater.

    They are the sizes themselves where environments share them, else numbered within each from
    its largest, which is -1.

    Example:
        >>> images, env = pd.Series([100, 1000, 80, 800]), pd.Series(list("xxyy"))
        >>> levels(images, env).tolist()
        [-2.0, -1.0, -2.0, -1.0]
    """
    by_env = values.groupby(env)
    if values.nunique() == by_env.nunique().max():
        return values
    return -pd.Series(by_env.rank("dense", ascending=False))


def _head_dropout(runs: pd.DataFrame) -> pd.DataFrame:
    """Runs with dropout at the head, and those without noise; of several alike the first."""
    usual = (runs["noise"] == "dropout") & (runs["placement"] == "head")
    rows = pd.concat([runs.loc[usual, :], runs.loc[~usual & (runs["drop_rate"] == 0), :]])
    same = [name for name in IDENTITY if name not in {"noise", "placement"}]
    return rows.drop_duplicates(same).sort_index()


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
    """Rows in the setting that most single runs of their data set have, the last of equals."""
    kept = [rows.iloc[:0]]
    for _, of_set in rows.groupby("dataset"):
        number = numbered(levelled(of_set), setting)
        single = of_set["method"].isin(SINGLE).to_numpy()
        if single.any():
            count = np.bincount(number[single])
            kept.append(of_set[number == np.flatnonzero(count == count.max())[-1]])
    return pd.concat(kept).sort_index()


def levelled(of_set: pd.DataFrame) -> pd.DataFrame:
    """Rows of a data set with the level of their training size in its place."""
    sizes = pd.Series(of_set["train_size"].astype("float64"))
    return of_set.assign(train_size=levels(sizes, pd.Series(of_set["env"])))
