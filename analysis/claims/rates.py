"""C5 to C7: which dropout rate is the best one.

The best rate of a sample is no sure thing: draws of all means together say how probable each is.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float

from analysis.bootstrap import hierarchical_mean, mean_draws
from analysis.claims.claim import Claim
from analysis.claims.requirement import Judgement, Requirement
from analysis.claims.rows import (
    SINGLE,
    contrast,
    datasets,
    main_runs,
    requirement,
    scratch_runs,
    sized_runs,
    tuned,
)
from analysis.clusters import clusters
from analysis.estimates import Estimate
from analysis.intervals import LEVEL
from analysis.pairing import KEYS
from core.errors import InputError

LARGE, HALF, SMALL = 0.8, 0.5, 0.1
LEAST_RATES = 3


@dataclass(frozen=True, kw_only=True)
class BestRate:
    """The best rate by mean o.o.d. accuracy over matched runs.

    Attributes:
        value: The best rate.
        draws: That of each draw of the means.
        rows: Labels of the runs.
    """

    value: float
    draws: Float[np.ndarray, " B"]
    rows: list[int]


def best_rate(rows: pd.DataFrame, *, seed: int = 0) -> BestRate:
    """The best rate of single runs, at environment, cell, seed and split that all rates have.

    Raises:
        InputError: If there are fewer than three rates in one setting, or nothing varies.
    """
    single = rows[rows["method"].isin(SINGLE)]
    wide = single.pivot_table(index=list(KEYS), columns="drop_rate", values="ood").dropna()
    rates = wide.columns.to_numpy(np.float64)
    if len(rates) < LEAST_RATES or wide.empty:
        raise InputError(f"no setting has run at {LEAST_RATES} dropout rates ({len(rates)} are)")
    design = clusters(wide.index.to_frame(index=False))
    if not design.varies:
        raise InputError(f"the best rate has no interval ({design.reason})")
    values = wide.to_numpy(np.float64)
    used = single.set_index(list(KEYS)).index.isin(wide.index)
    return BestRate(
        value=float(rates[(design.weight @ values).argmax()]),
        draws=rates[mean_draws(values, design, seed=seed).argmax(1)],
        rows=single.index[used].tolist(),
    )


def best_is_large(runs: pd.DataFrame) -> Judgement:
    """Whether the best rate is 0.8 or more."""
    found = []
    for name, rows in datasets(main_runs(runs)):
        rates = sorted(set(rows["drop_rate"]))
        if not rates[0] < LARGE <= rates[-1]:
            raise InputError(f"{name} has no rates on both sides of {LARGE}")
        best = best_rate(rows)
        share = float((best.draws >= LARGE).mean())
        support, against = _best_side(rows.loc[best.rows])
        found.append(
            Requirement(
                name=f"{name}: best rate ({LARGE} or more in {share:.0%} of draws)",
                estimate=_quantiles(best.value, best.draws),
                support=support,
                against=against,
                rows=tuple(best.rows),
            )
        )
    return Judgement(requirements=found)


def falls_with_size(runs: pd.DataFrame) -> Judgement:
    """The slope of the best rate over the logarithm of training size times steps."""
    rows = sized_runs(runs).dropna(subset=["train_size", "steps"])
    amount = (rows["train_size"] * rows["steps"]).astype("float64")
    # Environments held out leave training sets of different sizes: levels are those of each.
    level = amount.groupby([rows["dataset"], rows["env"]]).rank("dense")
    groups = [of for _, of in rows.assign(amount=amount).groupby([rows["dataset"], level])]
    sizes = np.log([group["amount"].to_numpy().mean() for group in groups])
    if len(set(sizes)) < 2:
        raise InputError("all runs have one training size and number of steps")
    best = [best_rate(group, seed=seed) for seed, group in enumerate(groups)]
    slope = float(_slopes(sizes, np.array([[b.value for b in best]]))[0])
    draws = _slopes(sizes, np.stack([b.draws for b in best], axis=1))
    return Judgement(
        requirements=[
            Requirement(
                name=f"slope of the best rate over {len(groups)} sizes",
                estimate=_quantiles(slope, draws),
                support=min(1.0, 2 * float((draws >= 0).mean())),
                against=min(1.0, 2 * float((draws <= 0).mean())),
                rows=tuple(sorted(row for b in best for row in b.rows)),
            )
        ]
    )


def none_from_scratch(runs: pd.DataFrame) -> Judgement:
    """No dropout less every rate: above 0.1 out of distribution, from 0.5 on also i.i.d."""
    found = []
    for name, rows in datasets(scratch_runs(runs)):
        rates = sorted(set(rows.loc[rows["method"].isin(SINGLE), "drop_rate"]))
        if rates[-1] < HALF:
            raise InputError(f"{name} has no runs from scratch at a rate of {HALF} or more")
        for rate in rates:
            for column, least in (("ood", SMALL), ("iid", HALF)):
                if rate >= HALF or (rate > least and column == "ood"):
                    pairs = contrast(tuned(rows, 0), tuned(rows, rate), column)
                    found.append(requirement(f"{name}: 0 - {rate:g}, {column}", pairs, low=0))
    return Judgement(requirements=found)


def _best_side(rows: pd.DataFrame) -> tuple[float, float]:
    """p-values of "no large rate is above all small ones" and of the reverse.

    One rate is above all others where it is above each (the largest p-value); that there is such
    a rate is one of as many hypotheses as there are rates on its side (Bonferroni).
    """
    rates = np.unique(rows["drop_rate"])
    large, small = rates[rates >= LARGE], rates[rates < LARGE]
    means = [
        [hierarchical_mean(contrast(tuned(rows, a), tuned(rows, b)).frame) for b in small]
        for a in large
    ]
    above = np.array([[mean.p_above(0) for mean in line] for line in means])
    below = np.array([[mean.p_below(0) for mean in line] for line in means])
    support = len(large) * above.max(1).min()
    return min(1.0, float(support)), min(1.0, float(len(small) * below.max(0).min()))


def _quantiles(value: float, draws: Sequence[float] | np.ndarray) -> Estimate:
    low, high = np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(value, float(low), float(high))


def _slopes(x: Float[np.ndarray, " G"], y: Float[np.ndarray, "B G"]) -> Float[np.ndarray, " B"]:
    """Least-squares slopes of rows; exactly 0 where a row is constant."""
    centred = x - x.mean()
    return (y - y[:, :1]) @ centred / (centred @ centred)


CLAIMS = (
    Claim(
        name="C5",
        statement="The best dropout rate is about 0.9.",
        statistic="Rate of the largest mean o.o.d. accuracy; paired differences between rates.",
        direction="0.8 or more",
        rule="Supported if on every data set some rate of 0.8 or more is above each smaller one, "
        "one-sided at 5 % (Bonferroni over the rates); contradicted if on one data set some "
        "smaller rate is above each of 0.8 or more. The share of draws with the best rate on "
        "either side is shown, and decides nothing: half of all noise has one below 0.5.",
        paper="0.9 VLCS, 0.9 OfficeHome, 0.95 PACS, 0.9 TerraIncognita",
        needs="runs at three rates or more, on both sides of 0.8",
        judge=best_is_large,
    ),
    Claim(
        name="C6",
        statement="The best rate falls with the size and the length of the fine-tuning.",
        statistic="Slope of the best rate over log(training examples x steps), by draws.",
        direction="below 0",
        rule="Supported if the share of draws with a slope of 0 or more is below 0.025, "
        "contradicted if that with one of 0 or less is: draws in which all sizes have one best "
        "rate decide nothing. Data sets count as sizes, too.",
        paper="0.5 on DomainNet, against about 0.9 on the small data sets",
        needs="runs at three rates or more, at two training sizes or numbers of steps or more",
        judge=falls_with_size,
    ),
    Claim(
        name="C7",
        statement="From scratch the best rate is about 0, and more than 0.5 hurts.",
        statistic="Mean paired difference, no dropout less each rate above 0.1 (o.o.d.) and from "
        "0.5 on (i.i.d. as well), from random weights.",
        direction="above 0",
        rule="Supported if every interval lies above 0, contradicted if one lies below.",
        paper="a figure (VLCS) without numbers",
        needs="runs with from_scratch at rate 0 and at 0.5 or more",
        judge=none_from_scratch,
    ),
)
