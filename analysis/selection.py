r"""What a rule for choosing the dropout rate or the cell costs out of distribution.

A rule chooses a candidate for every environment held out:

oracle
    The best mean o.o.d. accuracy in the environment itself: tuning on the test set.
iid
    The best mean i.i.d. accuracy.
leave_one_domain_out
    The best mean o.o.d. accuracy over the other environments. Networks that held out another one
    have seen this one in training; without runs that hold out two at a time, this is the nearest
    there is.
fixed
    One candidate that was chosen before the data.

The price of a rule is the o.o.d. accuracy of the oracle's choice less that of the rule's, averaged
over environments. The best of several noisy means is the best partly by luck, and priced on the
same runs it would be better than any rule where all candidates are alike. Choices are therefore
made on some runs and priced on others,

.. math:: p = \frac1E \sum_e \frac1{F_e} \sum_f
          \bigl( y_{e f}[c^*_{e, -f}] - y_{e f}[c_{e, -f}] \bigr)

with y the mean o.o.d. accuracies of fold f, c* and c the choices of the oracle and of the rule on
runs that have neither a cell nor a seed with the fold in common. Folds are the pairs of a cell and
a seed, or seeds where the cell is part of the candidate; seeds go by their rank in an environment,
as environments may have seeds of their own. The price has no bias for what tuning on the test set
gains over the rule, both by the runs outside a fold, which are fewer than all; it is below 0 where
the rule does better, and 0 on average where all candidates are alike. The oracle's own price is 0
by definition.

Prices of folds are not independent, as their choices rest on the same runs. Their variance over
the n folds of a factor is therefore not divided by n but multiplied by :math:`1/n + 1/(n - 1)`,
the second term for the ratio of runs priced to runs chosen on (Nadeau and Bengio). Variances over
cells, once for all environments, and over the seeds of every environment are added up, and the
interval takes Student's t with the degrees of `analysis.bootstrap`. That is cautious: in simulated
studies of two to six cells and two or three seeds whose candidates are all alike, it lies above 0
in at most 4 %, and misses 0 in at most 6 %. Where only cells or only seeds vary, it is for the
seeds, or the cells, at hand.

Shapes: E environments, K cells, L seeds, C candidates.

References:
    | Inference for the Generalization Error (Nadeau & Bengio, 2003)
    | https://doi.org/10.1023/A:1024068626366
    | On Over-fitting in Model Selection and Subsequent Selection Bias (Cawley & Talbot, 2010)
    | In Search of Lost Domain Generalization (Gulrajani & Lopez-Paz, 2021), on the rules
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from analysis.bootstrap import ALIKE, Mean
from analysis.clusters import numbered
from analysis.estimates import Estimate
from core.errors import InputError

RULES = ("oracle", "iid", "leave_one_domain_out", "fixed")
IID, OOD, CELL, SEED = 0, 1, 2, 3  # places in, and axes of, the arrays below
REASONS = {  # whether cells vary, whether seeds do
    (True, True): "",
    (True, False): "over cells, for these seeds",
    (False, True): "over seeds and splits, for these cells",
    (False, False): "chosen and priced on the same runs, as some environment has no two cells or "
    "seeds: too high, and no interval",
}
SAME = "all folds have the same price, which tells nothing of its error"
Candidate = tuple[float | str, ...]
Accuracies = Float[np.ndarray, "2 E K L C"]
Prices = Float[np.ndarray, "E K L"]


@dataclass(frozen=True, kw_only=True)
class Selected:
    """What one rule chose and what it costs.

    Attributes:
        rule: One of `RULES`.
        chosen: Candidate by environment, on all runs.
        ood: O.o.d. accuracy of choices, on runs that they were not made on.
        price: That of the oracle less this one, with its 95 % interval where anything varies; of
            the oracle 0, with nothing to estimate.
        reason: What the interval does not cover, or why there is none.
    """

    rule: str
    chosen: dict[str, Candidate]
    ood: float
    price: Estimate
    reason: str = ""


def selections(
    runs: pd.DataFrame, *, by: Sequence[str] = ("drop_rate",), fixed: Candidate | None = None
) -> list[Selected]:
    """Every rule on the runs of one data set; `fixed` where a candidate is given.

    A single environment leaves no other one to choose by.

    Args:
        runs: Rows of one data set in a checked runs frame, one method or one noise at all rates.
        by: Columns that make a candidate: the rate, or the rate and the cell.
        fixed: The candidate of the rule `fixed`: values of the columns `by`.

    Raises:
        InputError: If there is only one candidate, or no run is there for all of them, or the
            fixed one is none of them.

    Example:
        >>> rows = [(e, r, s) for e in "xy" for r in (0.0, 0.9) for s in (0, 1)]
        >>> runs = pd.DataFrame(rows, columns=["env", "drop_rate", "seed"])
        >>> runs = runs.assign(dataset="digits", cell="a", split=0)
        >>> runs = runs.assign(iid=0.9 - runs["drop_rate"] / 9, ood=0.5 + runs["drop_rate"] / 9)
        >>> for found in selections(runs):
        ...     print(found.rule, found.chosen["x"], round(found.price.value, 3))
        oracle (0.9,) 0.0
        iid (0.0,) 0.1
        leave_one_domain_out (0.9,) 0.0
    """
    wide, candidates = _wide(runs, by)
    envs = wide.index.unique("env").tolist()
    place = _place(candidates, fixed) if fixed is not None else 0
    sums, counts = _folds(wide)
    inside, elsewhere = _means(sums, counts), _means(_others(sums), _others(counts))
    whole = _means(*(x.sum((CELL, SEED), keepdims=True) for x in (sums, counts)))
    rules = [rule for rule in RULES if rule != "fixed" or fixed is not None]
    if len(envs) == 1:
        rules.remove("leave_one_domain_out")
    found = {rule: _accuracies(inside, elsewhere, rule, place) for rule in rules}
    selected = []
    for rule in rules:
        picks = _criterion(whole, rule, place)[:, 0, 0].argmax(1)
        price = _price(found["oracle"] - found[rule])
        selected.append(
            Selected(
                rule=rule,
                chosen={env: candidates[pick] for env, pick in zip(envs, picks, strict=True)},
                ood=_mean(found[rule]),
                price=Estimate(0.0) if rule == "oracle" else price.estimate,
                reason="" if rule == "oracle" else price.reason,
            )
        )
    return selected


def _wide(runs: pd.DataFrame, by: Sequence[str]) -> tuple[pd.DataFrame, list[Candidate]]:
    """One row a replicate (cell, seed, split of an environment), one column a candidate."""
    replicate = [n for n in ("dataset", "env", "cell", "seed", "split") if n not in by]
    wide = runs.pivot_table(index=replicate, columns=list(by), values=["iid", "ood"]).dropna()
    candidates = [tuple(c[1:]) for c in wide.columns if c[0] == "ood"]
    if len(candidates) < 2 or wide.empty:
        raise InputError(
            f"the runs hold {len(candidates)} candidates by {', '.join(by)} and {len(wide)} "
            "settings that all of them ran in; at least two in one setting were expected: run "
            "all candidates with the same cells and seeds"
        )
    return wide, candidates


def _folds(wide: pd.DataFrame) -> tuple[Accuracies, Float[np.ndarray, "1 E K L 1"]]:
    """Sums of both accuracies over the runs of every fold, and how many they are."""
    frame = wide.index.to_frame(index=False)
    env = numbered(frame, ["env"])
    cell = numbered(frame, ["cell"]) if "cell" in frame else np.zeros_like(env)
    run = pd.Series(numbered(frame, ["seed", "split"]))
    seed = run.groupby(env).rank("dense").to_numpy(np.int64) - 1
    place = (env, *(_varying(factor, env) for factor in (cell, seed)))
    values = wide[["iid", "ood"]].to_numpy(np.float64).reshape(len(wide), 2, -1)
    sums = np.zeros((*(axis.max() + 1 for axis in place), *values.shape[1:]))
    counts = np.zeros(sums.shape[:3])
    np.add.at(sums, place, values)
    np.add.at(counts, place, 1)
    return np.moveaxis(sums, 3, 0), counts[None, ..., None]


def _varying(factor: Int[np.ndarray, " N"], env: Int[np.ndarray, " N"]) -> Int[np.ndarray, " N"]:
    """The factor where every environment has two levels of it; one level for all elsewhere."""
    varies = all(len(set(factor[env == one])) > 1 for one in np.unique(env))
    return factor if varies else np.zeros_like(factor)


def _others(sums: Float[np.ndarray, "_ E K L _"]) -> Float[np.ndarray, "_ E K L _"]:
    """Sums over the folds that have neither the cell nor the seed; over all of a single one."""
    for axis in (CELL, SEED):
        num = sums.shape[axis]
        if num > 1:
            summed = np.tensordot(1 - np.eye(num), sums, (1, axis))
            sums = np.moveaxis(summed, 0, axis)
    return sums


def _means(
    sums: Float[np.ndarray, "2 E _ _ C"], counts: Float[np.ndarray, "1 E _ _ 1"]
) -> Float[np.ndarray, "2 E _ _ C"]:
    """NaN where no run is."""
    return np.divide(sums, counts, out=np.full_like(sums, math.nan), where=counts > 0)


def _place(candidates: Sequence[Candidate], fixed: Candidate) -> int:
    if fixed not in candidates:
        raise InputError(
            f"the fixed candidate {fixed} is none of those that ran, "
            f"{', '.join(map(str, candidates))}: name one of these"
        )
    return list(candidates).index(fixed)


def _criterion(
    means: Float[np.ndarray, "2 E K L C"], rule: str, fixed: int
) -> Float[np.ndarray, "E K L C"]:
    """What the rule has the largest of."""
    if rule == "fixed":
        return np.broadcast_to(np.arange(means.shape[-1]) == fixed, means[OOD].shape) * 1.0
    if rule == "leave_one_domain_out":
        return means[OOD].sum(0) - means[OOD]
    return means[IID if rule == "iid" else OOD]


def _accuracies(inside: Accuracies, elsewhere: Accuracies, rule: str, fixed: int) -> Prices:
    """O.o.d. accuracy in every fold of the choice on the others; NaN where either has no run."""
    criterion = _criterion(elsewhere, rule, fixed)
    picks = criterion.argmax(3)[..., None]
    found = np.take_along_axis(inside[OOD], picks, 3)[..., 0]
    known = ~np.isnan(criterion).any(3) & ~np.isnan(elsewhere[OOD]).any(3)
    return np.where(known, found, math.nan)


def _mean(values: Prices) -> float:
    """Environments count alike, and folds in each."""
    return float(np.nanmean(values, (1, 2)).mean())


def _price(prices: Prices) -> Mean:
    """The mean with its error over cells and seeds."""
    num_envs, *levels = prices.shape
    varies = tuple(num > 1 for num in levels)
    found = Mean(value=_mean(prices), num=int(np.isfinite(prices).sum()), reason=REASONS[varies])
    groups = []
    if varies[0]:
        groups.append(np.nanmean(np.nanmean(prices, 2), 0))
    if varies[1]:
        groups.extend(np.nanmean(prices, 1) / num_envs)
    variances = np.array([_variance(group) for group in groups])
    if not variances.sum() > ALIKE**2:
        return replace(found, reason=SAME if any(varies) else found.reason)
    degrees = _degrees(variances, np.array([np.isfinite(group).sum() for group in groups]))
    return replace(found, stderr=float(np.sqrt(variances.sum())), degrees=degrees)


def _variance(prices: Float[np.ndarray, " F"]) -> float:
    """Of the mean of prices of folds, each chosen on the other folds."""
    known = prices[np.isfinite(prices)]
    return float(known.var(ddof=1) * (1 / len(known) + 1 / (len(known) - 1)))


def _degrees(variances: Float[np.ndarray, " G"], sizes: Int[np.ndarray, " G"]) -> float:
    """Satterthwaite's, as in `analysis.bootstrap`."""
    found = variances.sum() ** 2 / (variances**2 / (sizes + 1)).sum() - 2
    return float(np.clip(found, 1, (sizes - 1).sum()))
