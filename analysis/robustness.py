r"""Is a method more robust than its i.i.d. accuracy lets expect, and when is it the better choice?

Effective robustness is the o.o.d. accuracy above what plain fine-tuning reaches at the same i.i.d.
accuracy,

.. math:: \rho = \frac{1}{|M|} \sum_{r \in M}
          y_r - \sigma\bigl( a_{e(r)} + b\, \sigma^{-1}(x_r) \bigr)

with x the i.i.d. and y the o.o.d. accuracies of the method's runs M, sigma the logistic function.
The line is fitted by least squares to the runs of plain fine-tuning, on the logit scale on both
axes; environments have one slope and an intercept each, since they differ in difficulty. Noise in
the i.i.d. accuracy flattens the line, which matters little where the methods' are alike.

The utility of a method is :math:`w x + (1 - w) y`: the weight w of i.i.d. accuracy says which
method is the best choice.

Shapes: N runs, B draws, M methods.

References:
    | Accuracy on the Line (Miller et al., 2021), https://arxiv.org/abs/2107.04649
    | Measuring Robustness to Natural Distribution Shifts (Taori et al., 2020)
    | https://arxiv.org/abs/2007.00644
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.special import expit, logit

from analysis.bootstrap import NUM_DRAWS, Mean, mean_draws
from analysis.clusters import PLACE, clusters, numbered
from analysis.pairing import KEYS
from analysis.resampling import bootstrap_estimate
from core.errors import InputError

LEAST_RUNS = 3  # of the line, beyond one an environment
CLIP = 1e-3  # accuracies of 0 and 1 have no logit
WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0)  # of the i.i.d. accuracy


@dataclass(frozen=True, kw_only=True)
class Choice:
    """When a method is the best one to choose.

    Attributes:
        iid: Mean i.i.d. accuracy.
        ood: Mean o.o.d. accuracy.
        on_front: Whether no other method is better in one and at least as good in the other.
        low: Least weight of the i.i.d. accuracy at which it is best; NaN where it never is.
        high: Largest such weight.
        probability: Of being best at the weights of `WEIGHTS`, by the draws of the means.
    """

    iid: float
    ood: float
    on_front: bool
    low: float
    high: float
    probability: Mapping[float, float]


def effective_robustness(runs: pd.DataFrame, baseline: pd.DataFrame, *, seed: int = 0) -> Mean:
    """O.o.d. accuracy of runs above the line of the baseline's, with its hierarchical error.

    A cell or seed is drawn for the runs and the baseline together.

    Args:
        runs: Rows of a method in a checked runs frame.
        baseline: Rows of plain fine-tuning, in the same environments.
        seed: Seed of the draws.

    Raises:
        InputError: If there are too few baseline runs for a line, or they do not differ in i.i.d.
            accuracy, or the runs hold an environment that the baseline lacks.
    """
    both = pd.concat([runs.assign(judged=True), baseline.assign(judged=False)], ignore_index=True)
    judged = both["judged"].to_numpy(bool)
    env, design = numbered(both, PLACE), clusters(both)
    _check_line(both, judged, env)
    x, y = (_logits(both[name].to_numpy(np.float64)) for name in ("iid", "ood"))
    accuracy = both["ood"].to_numpy(np.float64)

    def residual(weight: Float[np.ndarray, " N"]) -> float:
        line, of_runs = (weight * design.weight * rows for rows in (~judged, judged))
        slope, intercepts = _line(x, y, env, line)
        above = accuracy - expit(intercepts[env] + slope * x)
        total = of_runs.sum()
        return float(of_runs @ above / total) if total and math.isfinite(slope) else math.nan

    return bootstrap_estimate(residual, design, seed=seed)


def choices(methods: Mapping[str, pd.DataFrame], *, seed: int = 0) -> dict[str, Choice]:
    """Which methods lie on the front of i.i.d. and o.o.d. accuracy, and when each is the best.

    Only runs at environment, cell, seed and split that all methods have are looked at.

    Args:
        methods: Rows of each method in a checked runs frame.
        seed: Seed of the draws of the means.

    Raises:
        InputError: If no run is matched in all methods.
    """
    values, frame = _matched(methods)
    design = clusters(frame)
    means = (design.weight @ values).reshape(-1, 2)
    draws = means[None]
    if design.varies:
        draws = mean_draws(values, design, seed=seed).reshape(NUM_DRAWS, -1, 2)
    wins = {w: (draws @ [w, 1 - w]).argmax(1) for w in WEIGHTS}
    found = {}
    for number, name in enumerate(methods):
        low, high = winning_weights(means, number)
        found[name] = Choice(
            iid=float(means[number, 0]),
            ood=float(means[number, 1]),
            on_front=_on_front(means, number),
            low=low,
            high=high,
            probability={w: float((best == number).mean()) for w, best in wins.items()},
        )
    return found


def winning_weights(means: Float[np.ndarray, "M 2"], number: int) -> tuple[float, float]:
    r"""Weights w of the first column at which a row has the largest :math:`w x + (1 - w) y`.

    NaN where there is none.

    Example:
        >>> winning_weights(np.array([[0.9, 0.5], [0.8, 0.6]]), 0)
        (0.5, 1.0)
    """
    low, high = 0.0, 1.0
    others = np.delete(means, number, axis=0)
    for gain_iid, gain_ood in means[number] - others:  # best where w (iid - ood) + ood >= 0
        slope = gain_iid - gain_ood
        if slope == 0:
            low = low if gain_ood >= 0 else math.inf
        elif slope > 0:
            low = max(low, -gain_ood / slope)
        else:
            high = min(high, -gain_ood / slope)
    return (float(low), float(high)) if low <= high else (math.nan, math.nan)


def _matched(
    methods: Mapping[str, pd.DataFrame],
) -> tuple[Float[np.ndarray, "N M2"], pd.DataFrame]:
    """Accuracies of matched runs, i.i.d. and o.o.d. of method after method, and their keys."""
    mean = {"iid": "mean", "ood": "mean"}
    columns = [rows.groupby(list(KEYS)).agg(mean) for rows in methods.values()]
    wide = pd.concat(columns, axis=1, join="inner", keys=list(methods))
    if wide.empty:
        raise InputError(
            f"no run is matched in all of {', '.join(methods)}; runs at the same "
            f"{', '.join(KEYS)} were expected: run all methods with the same settings"
        )
    return wide.to_numpy(np.float64), wide.index.to_frame(index=False)


def _on_front(means: Float[np.ndarray, "M 2"], number: int) -> bool:
    at_least = (means >= means[number]).all(1)
    better = (means > means[number]).any(1)
    return not bool((at_least & better).any())


def _check_line(both: pd.DataFrame, judged: np.ndarray, env: np.ndarray) -> None:
    of_line = ~judged
    num, num_envs = int(of_line.sum()), len(set(env[of_line]))
    unknown = sorted(set(both.loc[judged, "env"]) - set(both.loc[of_line, "env"]))
    if unknown:
        raise InputError(
            f"the baseline has no runs in {', '.join(unknown)}; runs in every environment of the "
            "method were expected: run the baseline there"
        )
    spread = both.loc[of_line].groupby(PLACE)["iid"].agg(lambda x: x.max() - x.min()).max()
    if num < num_envs + LEAST_RUNS - 1 or not spread > 0:
        raise InputError(
            f"{num} baseline runs in {num_envs} environments make no line of o.o.d. against "
            "i.i.d. accuracy; more runs of different i.i.d. accuracy were expected: add cells or "
            "seeds"
        )


def _logits(accuracy: Float[np.ndarray, " N"]) -> Float[np.ndarray, " N"]:
    return logit(np.clip(accuracy, CLIP, 1 - CLIP))


def _line(
    x: Float[np.ndarray, " N"],
    y: Float[np.ndarray, " N"],
    env: np.ndarray,
    weight: Float[np.ndarray, " N"],
) -> tuple[float, Float[np.ndarray, " _"]]:
    """Slope and intercepts by environment of weighted least squares; NaN where undetermined."""
    with np.errstate(invalid="ignore", divide="ignore"):
        total = np.bincount(env, weight)
        mean_x = np.bincount(env, weight * x) / total
        mean_y = np.bincount(env, weight * y) / total
        centred = x - mean_x[env]
        slope = (weight * centred * (y - mean_y[env])).sum() / (weight * centred**2).sum()
        return float(slope), mean_y - slope * mean_x
