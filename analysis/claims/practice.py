"""C14, C18 and C19: pretraining against sophistication, robustness to cells, and cost."""

import math

import numpy as np
import pandas as pd

from analysis.bootstrap import Mean, mean_draws
from analysis.claims.claim import Claim
from analysis.claims.judging import (
    on_each,
    on_main,
    requirement,
)
from analysis.claims.requirement import (
    BONFERRONI,
    Judgement,
    Requirement,
    most_of,
    noted,
    required,
)
from analysis.claims.rows import (
    AVERAGES,
    contrast,
    datasets,
    of_method,
    pretrained_runs,
    tuned,
    with_measure,
)
from analysis.clusters import clusters
from analysis.equivalence import MARGIN
from analysis.pairing import Pairs
from analysis.runs import DROP_RATE
from core.errors import InputError

SHARE = 0.75  # of the data sets
FAST_HEAD = 10.0
SLOWER = 0.02  # share of the time a step that counts as none


def pretraining_first(runs: pd.DataFrame) -> Judgement:
    """Plain runs from the richer weights less advanced ones from the poorer, by data set."""
    ranked = with_measure(pretrained_runs(runs), "pretraining")
    ranks = ranked["pretraining"].to_numpy(np.float64)
    poor, rich = float(ranks.min()), float(ranks.max())
    if poor == rich:
        raise InputError(f"all runs have the pretraining of rank {poor:g}")

    def find(name: str, rows: pd.DataFrame) -> list[Requirement]:
        is_usual, is_fast = (rows["head_lr_factor"] == factor for factor in (1, FAST_HEAD))
        naive = tuned(rows.loc[is_usual & (rows["pretraining"] == rich), :], 0)
        fast = rows.loc[is_fast & (rows["pretraining"] == poor), :]
        advanced = of_method(fast, AVERAGES[:1], DROP_RATE)
        pairs = contrast(naive, advanced, free=["pretrained", "head_lr_factor"])
        return [requirement(f"{name}: naive - advanced", pairs, low=-MARGIN)]

    found = on_each(datasets(ranked), find)
    return most_of(found, math.ceil(SHARE * len(found.requirements)))


def every_cell_gains(runs: pd.DataFrame) -> Judgement:
    """The gain of each cell, and the spread of cells with dropout less without."""
    return on_main(runs, _every_cell_gains)


def no_extra_cost(runs: pd.DataFrame) -> Judgement:
    """The logarithm of the time a step with dropout over that without."""
    return on_main(runs, _no_extra_cost)


def _every_cell_gains(name: str, rows: pd.DataFrame) -> list[Requirement]:
    pairs = contrast(tuned(rows), tuned(rows, 0))
    if len(set(pairs.frame["cell"])) < 2:
        raise InputError("one cell")
    found = []
    for cell, of_cell in pairs.frame.groupby("cell"):
        gain = Pairs(frame=of_cell, unmatched_a=0, unmatched_b=0)
        label = f"{name}: dropout - plain in cell {cell}"
        found.append(requirement(label, gain, low=0, level="seeds"))
    label = f"{name}: sd over cells, dropout - plain"
    spread = required(label, spread_difference(pairs), pairs.rows, high=MARGIN)
    return [*found, noted(spread, pairs.left_out)]


def _no_extra_cost(name: str, rows: pd.DataFrame) -> list[Requirement]:
    timed = with_measure(rows, "seconds").assign(log_seconds=lambda f: np.log(f["seconds"]))
    pairs = contrast(tuned(timed), tuned(timed, 0), "log_seconds")
    label = f"{name}: log of the ratio of times"
    low, high = math.log(1 - SLOWER), math.log(1 + SLOWER)
    return [requirement(label, pairs, low=low, high=high)]


def spread_difference(pairs: Pairs, *, seed: int = 0) -> Mean:
    """Standard deviation over cells of the first method less that of the second.

    Cells are fixed; the error is the spread over draws of the means of all cells together. Noise
    of seeds widens both.
    """
    frame = pairs.frame
    design = clusters(frame, level="seeds")
    cells = frame["cell"].to_numpy()[:, None] == np.unique(frame["cell"])
    inside = cells * design.weight[:, None]
    weights = np.tile(inside / inside.sum(0), 2)
    values = np.repeat(frame[["a", "b"]].to_numpy(np.float64), cells.shape[1], axis=1)
    difference = lambda means: np.subtract(*means.reshape(-1, 2, cells.shape[1]).std(2, ddof=1).T)
    value = float(difference((weights * values).sum(0))[0])
    found = {"value": value, "num": len(frame), "varies": design.varies, "reason": design.reason}
    if not design.varies:
        return Mean(**found)
    draws = difference(mean_draws(values, design, weights=weights, seed=seed))
    return Mean(**found, stderr=float(draws.std(ddof=1)), degrees=design.degrees)


CLAIMS = (
    Claim(
        name="C14",
        statement="Plain fine-tuning of richer weights is at least as good as sophisticated "
        "fine-tuning of poorer ones.",
        statistic="Mean paired difference of o.o.d. accuracy by data set: plain fine-tuning of "
        "the richer weights less the trajectory average with dropout 0.9 and a ten times faster "
        "head of the poorer ones.",
        direction="above minus half a point on three quarters of the data sets",
        rule="Supported if on three quarters of the data sets the plain one is not inferior, its "
        "difference above -0.005; contradicted if on three quarters it is inferior, the "
        "difference below -0.005: partial conjunctions at 5 %.",
        paper="3 of 4 data sets",
        needs="column pretraining (rank of the weights, larger is richer); erm at the largest, "
        "average_trajectory at rate 0.9 and head_lr_factor 10 at the smallest",
        judge=pretraining_first,
    ),
    Claim(
        name="C18",
        statement="The gain of dropout is robust to learning rate and weight decay.",
        statistic="Mean paired difference of o.o.d. accuracy in each cell; standard deviation "
        "over cells with dropout less without. Cells are fixed.",
        direction="above 0 in every cell; below half a point",
        rule="Supported if the interval of every cell lies above 0 and that of the spread below "
        f"0.005; contradicted if one lies wholly outside. {BONFERRONI}",
        paper="a figure without numbers",
        needs="runs at dropout rates 0.9 and 0, two seeds or more in two cells or more",
        judge=every_cell_gains,
    ),
    Claim(
        name="C19",
        statement="Very large dropout costs no time.",
        statistic="Mean paired logarithm of the ratio of wall times at equal steps, dropout over "
        "plain.",
        direction="within two percent",
        rule="Supported if equivalent to none (TOST, 0.98 to 1.02) on every data set, "
        f"contradicted if one interval lies wholly outside. {BONFERRONI}",
        paper="none given",
        needs="column seconds, of runs that had the machine to themselves",
        judge=no_extra_cost,
    ),
)
