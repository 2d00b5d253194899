r"""What a rule for choosing the dropout rate or the cell costs out of distribution.

A rule chooses a candidate for every environment held out; its price is the o.o.d. accuracy of the
best candidate there less that of the chosen one, averaged over environments:

oracle
    The best mean o.o.d. accuracy in the environment itself: what nobody can do. Its price is 0.
iid
    The best mean i.i.d. accuracy.
leave_one_domain_out
    The best mean o.o.d. accuracy over the other environments. Networks that held out another one
    have seen this one in training; without runs that hold out two at a time, this is the nearest
    there is.
fixed
    One candidate that was chosen before the data.

The best candidate is known only by the same runs, so that every price is somewhat too high. Its
interval is that of draws of all means together; an oracle is chosen anew in every draw.

Shapes: N rows, B draws, E environments, C candidates.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from analysis.bootstrap import NUM_DRAWS, mean_draws
from analysis.clusters import Clusters, clusters
from analysis.estimates import Estimate
from analysis.intervals import LEVEL
from core.errors import InputError

RULES = ("oracle", "iid", "leave_one_domain_out", "fixed")
Candidate = tuple[float | str, ...]


@dataclass(frozen=True, kw_only=True)
class Selected:
    """What one rule chose and what it costs.

    Attributes:
        rule: One of `RULES`.
        chosen: Candidate by environment.
        ood: Mean o.o.d. accuracy of the chosen candidates.
        price: Below that of the best ones, with its 95 % interval where anything varies.
        reason: What the interval does not cover, or why there is none.
    """

    rule: str
    chosen: dict[str, Candidate]
    ood: float
    price: Estimate
    reason: str = ""


def selections(
    runs: pd.DataFrame,
    *,
    by: Sequence[str] = ("drop_rate",),
    fixed: Candidate | None = None,
    seed: int = 0,
) -> list[Selected]:
    """Every rule on the runs of one data set; `fixed` where a candidate is given.

    A single environment leaves no other one to choose by.

    Args:
        runs: Rows of one data set in a checked runs frame, one method or one noise at all rates.
        by: Columns that make a candidate: the rate, or the rate and the cell.
        fixed: The candidate of the rule `fixed`: values of the columns `by`.
        seed: Seed of the draws.

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
    wide, candidates, envs = _wide(runs, by)
    means, draws, design = _means_and_draws(wide, len(envs), len(candidates), seed)
    rules = [rule for rule in RULES if rule != "fixed" or fixed is not None]
    if len(envs) == 1:
        rules.remove("leave_one_domain_out")
    place = _place(candidates, fixed) if fixed is not None else 0
    found = []
    for rule in rules:
        picks = _picks(rule, means, place)[0]
        price = _interval(_price(means, _picks(rule, means, place))[0], rule, draws, place)
        chosen = {env: candidates[pick] for env, pick in zip(envs, picks, strict=True)}
        ood = float(means[0, 1, np.arange(len(envs)), picks].mean())
        found.append(
            Selected(rule=rule, chosen=chosen, ood=ood, price=price, reason=design.reason)
        )
    return found


def _wide(
    runs: pd.DataFrame, by: Sequence[str]
) -> tuple[pd.DataFrame, list[Candidate], list[str]]:
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
    frame = wide.index.to_frame(index=False)
    frame["cell"] = frame.get("cell", "all")
    wide.index = pd.MultiIndex.from_frame(frame)
    return wide, candidates, frame["env"].drop_duplicates().tolist()


def _means_and_draws(
    wide: pd.DataFrame, num_envs: int, num_candidates: int, seed: int
) -> tuple[Float[np.ndarray, "1 2 E C"], Float[np.ndarray, "B 2 E C"], Clusters]:
    """Means of both accuracies by environment and candidate, and draws of all of them."""
    frame = wide.index.to_frame(index=False)
    design = clusters(frame)
    env = pd.factorize(frame["env"])[0]
    inside = (env[:, None] == np.arange(num_envs)) * design.weight[:, None] * num_envs
    weights = np.einsum("ne,m->nme", inside, np.ones(2 * num_candidates))
    values = np.broadcast_to(wide.to_numpy(np.float64)[:, :, None], weights.shape)
    shape = (-1, 2, num_candidates, num_envs)
    means = (weights * values).sum(0).reshape(shape).swapaxes(2, 3)
    if not design.varies:
        return means, means, design
    flat = (len(frame), -1)
    draws = mean_draws(
        values.reshape(flat), design, weights=weights.reshape(flat), seed=seed, num_draws=NUM_DRAWS
    )
    return means, draws.reshape(shape).swapaxes(2, 3), design


def _place(candidates: Sequence[Candidate], fixed: Candidate) -> int:
    if fixed not in candidates:
        raise InputError(
            f"the fixed candidate {fixed} is none of those that ran, "
            f"{', '.join(map(str, candidates))}: name one of these"
        )
    return list(candidates).index(fixed)


def _picks(rule: str, means: Float[np.ndarray, "B 2 E C"], fixed: int) -> Int[np.ndarray, "B E"]:
    """The candidate of every environment."""
    iid, ood = means[:, 0], means[:, 1]
    if rule == "fixed":
        return np.full(ood.shape[:2], fixed)
    if rule == "leave_one_domain_out":
        return (ood.sum(1, keepdims=True) - ood).argmax(2)
    return (iid if rule == "iid" else ood).argmax(2)


def _price(
    means: Float[np.ndarray, "B 2 E C"], picks: Int[np.ndarray, "B E"]
) -> Float[np.ndarray, " B"]:
    ood = means[:, 1]
    return (ood.max(2) - np.take_along_axis(ood, picks[:, :, None], 2)[:, :, 0]).mean(1)


def _interval(
    value: float, rule: str, draws: Float[np.ndarray, "B 2 E C"], fixed: int
) -> Estimate:
    if len(draws) < 2:
        return Estimate(float(value))
    prices = _price(draws, _picks(rule, draws, fixed))
    low, high = np.quantile(prices, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Estimate(float(value), float(low), float(high))
