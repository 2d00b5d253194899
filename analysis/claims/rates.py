"""C5 to C7: which dropout rate is the best one.

The best rate of a sample is no sure thing: draws of all means together say how probable each is.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float

from analysis.bootstrap import hierarchical_mean
from analysis.claims.best_rates import LEAST_RATES, BestRate, best_rate, best_rates
from analysis.claims.claim import Claim
from analysis.claims.judging import (
    on_each,
    on_main,
    requirement,
)
from analysis.claims.requirement import ALL_ABOVE, Judgement, Requirement, distinct
from analysis.claims.rows import (
    SINGLE,
    contrast,
    datasets,
    levels,
    scratch_runs,
    sized_runs,
    tuned,
)
from analysis.estimates import Estimate
from analysis.intervals import LEVEL
from core.errors import InputError

LARGE, HALF, SMALL = 0.8, 0.5, 0.1
LEAST_RATIO = 3  # of sizes x steps that count as different


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """The best rates of one data set at several sizes x steps.

    Attributes:
        name: Of the data set.
        logs: Logarithms of training examples times steps.
        best: The best rate at each.
    """

    name: str
    logs: Float[np.ndarray, " L"]
    best: Sequence[BestRate]


def best_is_large(runs: pd.DataFrame) -> Judgement:
    """Whether the best rate is 0.8 or more."""
    return on_main(runs, _best_is_large)


def falls_with_size(runs: pd.DataFrame) -> Judgement:
    """The slope of the best rate over the logarithm of training size times steps."""
    rows = sized_runs(runs).dropna(subset=["train_size", "steps"])
    found, reasons = [], []
    for seed, (name, of_set) in enumerate(datasets(rows)):
        try:
            found.append(_of_sizes(name, of_set, seed=seed))
        except InputError as error:
            reasons.append(f"left out {name}: {error}")
    wide = [sizes for sizes in found if np.ptp(sizes.logs) >= math.log(LEAST_RATIO)]
    notes = distinct(*reasons, _between(found), *(b.note for s in wide for b in s.best))
    if not wide:
        least = f"no data set has sizes x steps that differ {LEAST_RATIO} times"
        raise InputError("; ".join((least, *notes)))
    slope = float(_slopes([(s.logs, np.array([[b.value for b in s.best]])) for s in wide])[0])
    draws = _slopes([(s.logs, np.stack([b.draws for b in s.best], axis=1)) for s in wide])
    names = ", ".join(f"{s.name} at {len(s.best)} sizes" for s in wide)
    return Judgement(
        requirements=[
            Requirement(
                name=f"slope of the best rate within {names}",
                estimate=_quantiles(slope, draws),
                support=min(1.0, 2 * _share(draws >= 0)),
                against=min(1.0, 2 * _share(draws <= 0)),
                rows=tuple(sorted(row for s in wide for b in s.best for row in b.rows)),
            )
        ],
        notes=notes,
    )


def none_from_scratch(runs: pd.DataFrame) -> Judgement:
    """No dropout less every rate: above 0.1 out of distribution, from 0.5 on also i.i.d."""
    return on_each(datasets(scratch_runs(runs)), _none_from_scratch)


def _best_is_large(name: str, rows: pd.DataFrame) -> list[Requirement]:
    best = best_rate(rows)
    used = rows.loc[best.rows]
    rates = sorted(set(used["drop_rate"]))
    if not rates[0] < LARGE <= rates[-1]:
        raise InputError(f"no rates on both sides of {LARGE}")
    share = float((best.draws >= LARGE).mean())
    support, against = _best_side(used)
    return [
        Requirement(
            name=f"{name}: best rate ({LARGE} or more in {share:.0%} of draws)",
            estimate=_quantiles(best.value, best.draws),
            support=support,
            against=against,
            rows=tuple(best.rows),
            notes=distinct(best.note),
        )
    ]


def _none_from_scratch(name: str, rows: pd.DataFrame) -> list[Requirement]:
    rates = sorted(set(rows.loc[rows["method"].isin(SINGLE), "drop_rate"]))
    if not rates or rates[-1] < HALF:
        raise InputError(
            f"no run of {' or '.join(SINGLE)} from scratch at a rate of {HALF} or more"
        )
    found = []
    for rate in rates:
        for column, least in (("ood", SMALL), ("iid", HALF)):
            if rate >= HALF or (rate > least and column == "ood"):
                pairs = contrast(tuned(rows, 0), tuned(rows, rate), column)
                found.append(requirement(f"{name}: 0 - {rate:g}, {column}", pairs, low=0))
    return found


def _of_sizes(name: str, rows: pd.DataFrame, *, seed: int) -> Sizes:
    """Best rates at every size x steps of a data set that has run at three rates or more."""
    single = rows.loc[rows["method"].isin(SINGLE), :]
    single = single.assign(amount=(single["train_size"] * single["steps"]).astype("float64"))
    rates = pd.Series(single.groupby(["env", "amount"])["drop_rate"].transform("nunique"))
    single = single.loc[rates >= LEAST_RATES, :]
    if single.empty:
        raise InputError(f"no setting has run at {LEAST_RATES} dropout rates")
    level = levels(pd.Series(single["amount"]), pd.Series(single["env"]))
    single = single.assign(level=level)
    best = best_rates(single, seed=seed)
    amounts = [single.loc[one.rows, "amount"].mean() for one in best]
    return Sizes(name=name, logs=np.log(amounts), best=best)


def _between(found: Sequence[Sizes]) -> str:
    """What data sets beside each other show: they differ in more than their sizes."""
    if len(found) < 2:
        return ""
    ends = [(np.exp(s.logs.mean()), np.mean([b.value for b in s.best])) for s in found]
    shown = ", ".join(f"{rate:.2g} at {size:.2g}" for size, rate in sorted(ends))
    return f"between data sets, which decides nothing: mean best rate {shown} examples x steps"


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


def _slopes(
    parts: Sequence[tuple[Float[np.ndarray, " L"], Float[np.ndarray, "B L"]]],
) -> Float[np.ndarray, " B"]:
    """Least-squares slope of rows, with an intercept for each part; 0 where they are constant."""
    centred = [x - x.mean() for x, _ in parts]
    products = [(y - y[:, :1]) @ x for x, (_, y) in zip(centred, parts, strict=True)]
    return np.sum(products, axis=0) / sum(float(x @ x) for x in centred)


def _share(hits: np.ndarray) -> float:
    """p-value of a count of draws, which is never 0 (Davison & Hinkley, 1997, section 4.2)."""
    return (1 + int(hits.sum())) / (1 + len(hits))


CLAIMS = (
    Claim(
        name="C5",
        statement="The best dropout rate is about 0.9.",
        statistic="Rate of the largest mean o.o.d. accuracy; paired differences between rates.",
        direction="0.8 or more",
        rule="Supported if on every data set some rate of 0.8 or more is above each smaller one, "
        "one-sided at 5 % (Bonferroni over the rates); contradicted if on one data set some "
        "smaller rate is above each of 0.8 or more (Bonferroni over the data sets, too). The "
        "share of draws with the best rate on either side is shown, and decides nothing: half of "
        "all noise has one below 0.5.",
        paper="0.9 VLCS, 0.9 OfficeHome, 0.95 PACS, 0.9 TerraIncognita",
        needs="runs at three rates or more, on both sides of 0.8",
        judge=best_is_large,
    ),
    Claim(
        name="C6",
        statement="The best rate falls with the size and the length of the fine-tuning.",
        statistic="Slope of the best rate over log(training examples x steps) within data sets, "
        "by draws, at environments, cells and seeds that all sizes have.",
        direction="below 0",
        rule="Data sets count whose sizes x steps differ 3 times or more; each has an intercept. "
        "Supported if the share of draws with a slope of 0 or more is below 0.025, contradicted "
        "if that with one of 0 or less is: draws in which all sizes have one best rate decide "
        "nothing. What data sets show beside each other is said, and decides nothing: they differ "
        "in more than their sizes.",
        paper="0.5 on DomainNet, against about 0.9 on the small data sets",
        needs="runs at three rates or more, at training sizes x steps of one data set that differ "
        "3 times or more",
        judge=falls_with_size,
    ),
    Claim(
        name="C7",
        statement="From scratch the best rate is about 0, and more than 0.5 hurts.",
        statistic="Mean paired difference, no dropout less each rate above 0.1 (o.o.d.) and from "
        "0.5 on (i.i.d. as well), from random weights.",
        direction="above 0",
        rule=ALL_ABOVE,
        paper="a figure (VLCS) without numbers",
        needs="runs with from_scratch at rate 0 and at 0.5 or more",
        judge=none_from_scratch,
    ),
)
