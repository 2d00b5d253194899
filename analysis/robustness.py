r"""Is a method more robust than its i.i.d. accuracy lets expect, and when is it the better choice?

Effective robustness is the o.o.d. accuracy above what plain fine-tuning reaches at the same i.i.d.
accuracy,

.. math:: \rho = \frac{1}{|M|} \sum_{r \in M}
          y_r - \sigma\bigl( \bar y_{e(r)} + b\, (x_r - \bar x_{e(r)}) \bigr)

with x and y the logits of the i.i.d. and o.o.d. accuracies (the first y of a run r of the method M
is its accuracy itself), sigma the logistic function, and the means and the slope b those of the
runs of plain fine-tuning; environments have one slope and a mean each, since they differ in
difficulty.

The i.i.d. accuracy has noise, which flattens the line of least squares: a method of higher i.i.d.
accuracy would lie above it for that alone. The regression of x on y is too steep instead. With
errors of x and y that are independent of each other, the true line lies between the two,

.. math:: S_{xy} / S_{xx} \;\le\; b \;\le\; S_{yy} / S_{xy}

however large the errors are (the bounds of Frisch). The method is judged beside both lines, and by
the one that is less in favour of the verdict. There is none where the lines disagree on the side
that the method lies on, or its i.i.d. accuracies do not overlap with those of the line.

The error is that of the linearised statistic (infinitesimal jackknife): with g the derivative to
the weight w of a run, :math:`\rho + g / w` has a hierarchical mean of :math:`\rho`, whose error
`analysis.bootstrap` knows.

The utility of a method is :math:`w x + (1 - w) y`: the weight w of i.i.d. accuracy says which
method is the best choice.

Shapes: N runs, B draws, M methods.

References:
    | Accuracy on the Line (Miller et al., 2021), https://arxiv.org/abs/2107.04649
    | Measuring Robustness to Natural Distribution Shifts (Taori et al., 2020)
    | https://arxiv.org/abs/2007.00644
    | Statistical Confluence Analysis by Means of Complete Regression Systems (Frisch, 1934)
    | Consistent Sets of Estimates for Regressions with Errors in All Variables (Klepper & Leamer,
      1984)
    | Measurement Error Models (Fuller, 1987), section 1.1
    | The Jackknife, the Bootstrap and Other Resampling Plans (Efron, 1982), chapter 6
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.special import expit, logit

from analysis.bootstrap import NUM_DRAWS, Mean, Rows, hierarchical_mean, mean_draws
from analysis.clusters import PLACE, clusters, nested_weights, numbered
from analysis.estimates import number
from analysis.pairing import KEYS
from core.errors import InputError

LEAST_RUNS = 3  # of the line, beyond one an environment
CLIP = 1e-3  # accuracies of 0 and 1 have no logit
STEP = 1e-4  # of the weights, for derivatives
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
        probability: Of being best at the weights of `WEIGHTS`, by the draws of the means; methods
            that are equal share it. NaN where nothing varies.
    """

    iid: float
    ood: float
    on_front: bool
    low: float
    high: float
    probability: Mapping[float, float]


def effective_robustness(runs: pd.DataFrame, baseline: pd.DataFrame) -> Mean:
    """O.o.d. accuracy of runs above the line of the baseline's, with its hierarchical error.

    Of the two lines that bracket the true one it is the one with less to show. Without error
    where the two tell opposite sides, or where there is nothing to compare; the reason says why.

    Args:
        runs: Rows of a method in a checked runs frame.
        baseline: Rows of plain fine-tuning, in the same environments.

    Raises:
        InputError: If there are too few baseline runs for a line, or they do not differ in i.i.d.
            accuracy, or the runs hold an environment that the baseline lacks.
    """
    direct, inverse = brackets(runs, baseline)
    apart = _apart(runs, baseline)
    reason = ""
    if apart:
        reason = f"i.i.d. accuracies beyond those of the line in {', '.join(apart)}"
    elif math.isnan(inverse.value):
        reason = "the o.o.d. accuracy of the line does not rise with the i.i.d. accuracy"
    elif direct.value * inverse.value < 0:
        reason = f"the lines disagree: {number(direct.value)} and {number(inverse.value)}"
    if reason:
        return replace(direct, stderr=math.nan, degrees=0.0, reason=reason)
    shown = lambda mean: abs(mean.value) / mean.stderr if mean.has_error else 0.0
    return min(direct, inverse, key=shown)


def brackets(runs: pd.DataFrame, baseline: pd.DataFrame) -> tuple[Mean, Mean]:
    """The same beside the regression of o.o.d. on i.i.d. accuracy, and beside the inverse one.

    A cell or seed varies for the runs and the baseline together. The second is NaN where the
    o.o.d. accuracy does not rise with the i.i.d. accuracy.

    Raises:
        InputError: As `effective_robustness` does.
    """
    both = pd.concat([runs.assign(judged=True), baseline.assign(judged=False)], ignore_index=True)
    _check_line(both)
    return _above(both, inverse=False), _above(both, inverse=True)


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
    draws = np.full((1, *means.shape), math.nan)
    if design.varies:
        draws = mean_draws(values, design, seed=seed).reshape(NUM_DRAWS, -1, 2)
    wins = {w: _shares(draws @ [w, 1 - w]) for w in WEIGHTS}
    found = {}
    for row, name in enumerate(methods):
        low, high = winning_weights(means, row)
        found[name] = Choice(
            iid=float(means[row, 0]),
            ood=float(means[row, 1]),
            on_front=_on_front(means, row),
            low=low,
            high=high,
            probability={w: float(share[row]) for w, share in wins.items()},
        )
    return found


def _shares(utilities: Float[np.ndarray, "B M"]) -> Float[np.ndarray, " M"]:
    """Share of draws that each method is best in; NaN where utilities are."""
    best = utilities.max(1, keepdims=True)
    wins = np.where(np.isnan(best), math.nan, utilities == best)
    return (wins / wins.sum(1, keepdims=True)).mean(0)


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


def _above(both: pd.DataFrame, *, inverse: bool) -> Mean:
    """Accuracy of the judged rows above one line through the others."""
    judged, weight = both["judged"].to_numpy(bool), nested_weights(both)
    env = numbered(both, PLACE)
    accuracy = both["ood"].to_numpy(np.float64)
    x, y = _logits(both["iid"].to_numpy(np.float64)), _logits(accuracy)

    def residual(counts: Rows) -> float:
        line, of_runs = (counts * weight * rows for rows in (~judged, judged))
        expected = expit(_line(x, y, env, line, inverse=inverse))
        return float(of_runs @ (accuracy - expected) / of_runs.sum())

    value, num = residual(np.ones(len(both))), int(judged.sum())
    if math.isnan(value):
        return Mean(value=value, num=num)
    linear = value + _derivatives(residual, len(both)) / weight
    found = hierarchical_mean(both.assign(difference=linear))
    return replace(found, value=value, num=num, by_env={}, superiority=math.nan)


def _derivatives(statistic: Callable[[Rows], float], num: int) -> Rows:
    """Derivatives to how often each row counts, where each counts once."""
    steps = STEP * np.eye(num)
    return np.array([statistic(1 + s) - statistic(1 - s) for s in steps]) / (2 * STEP)


def _apart(runs: pd.DataFrame, baseline: pd.DataFrame) -> list[str]:
    """Environments in which the i.i.d. accuracies of the two do not overlap."""
    ends = lambda frame: frame.groupby(PLACE)["iid"].agg(low="min", high="max").reset_index()
    both = ends(runs).merge(ends(baseline), on=PLACE, suffixes=("", "_line"))
    return both.query("low > high_line or high < low_line")["env"].tolist()


def _check_line(both: pd.DataFrame) -> None:
    judged, env = both["judged"].to_numpy(bool), numbered(both, PLACE)
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


def _line(x: Rows, y: Rows, env: np.ndarray, weight: Rows, *, inverse: bool) -> Rows:
    """Expected y of every row by weighted least squares, of y on x or of x on y.

    NaN where the second has no positive slope.
    """
    total = np.bincount(env, weight)
    mean_x, mean_y = (np.bincount(env, weight * z) / total for z in (x, y))
    dx, dy = x - mean_x[env], y - mean_y[env]
    xx, xy, yy = (float(weight @ product) for product in (dx * dx, dx * dy, dy * dy))
    if inverse and xy <= 0:
        return np.full_like(x, math.nan)
    return mean_y[env] + (yy / xy if inverse else xy / xx) * dx
