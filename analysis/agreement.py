r"""How checkpoints rank by each measure, and whether measures agree about it.

One checkpoint is ahead of another where its interval lies on the better side of the other's;
checkpoints whose intervals overlap are tied. Such ties need not be transitive: the first may be
tied with the second and the second with the third while the first is ahead of the third. All
quantities here are defined for that, and equal the usual ones where ties are transitive.

Shapes: K checkpoints, M measures.

References:
    | Rank Correlation Methods (Kendall, 1948), chapters 3 and 6
    | The relation between measures of correlation in the universe of sample permutations
    | (Daniels, 1944)
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.stats import permutation_test

from analysis.estimates import Estimate

LEAST_CHECKPOINTS = 3  # of two, every ranking is one order or its reverse
NUM_PERMUTATIONS = 9999

Order = Int[np.ndarray, "K K"]


def order(estimates: Sequence[Estimate], *, higher_is_better: bool) -> Order:
    """1 where the row's checkpoint is ahead of the column's, -1 where behind, 0 where tied.

    An interval that is missing or without width ties a checkpoint with all others.

    Example:
        >>> order([Estimate(1, 0, 2), Estimate(5, 4, 6)], higher_is_better=True).tolist()
        [[0, -1], [1, 0]]
    """
    ends = [(e.low, e.high) if e.has_width else (-math.inf, math.inf) for e in estimates]
    low, high = np.array(ends).reshape(-1, 2).T
    above = (low[:, None] > high[None, :]).astype(int)
    signs = above - above.T
    return signs if higher_is_better else -signs


def ranks(signs: Order) -> Float[np.ndarray, " K"]:
    r"""One, and one more for each checkpoint ahead, a half for each that is tied.

    Example:
        >>> ranks(np.array([[0, -1, 0], [1, 0, 1], [0, -1, 0]]))
        array([2.5, 1. , 2.5])
    """
    ahead, tied = (signs < 0).sum(1), (signs == 0).sum(1) - 1
    return 1 + ahead + tied / 2


def kendall_tau(first: Order, second: Order) -> float:
    r"""Kendall's :math:`\tau_b` of two orders of the same checkpoints.

    .. math:: \frac{\sum_{ij} a_{ij} b_{ij}}{\sqrt{\sum_{ij} a_{ij}^2 \sum_{ij} b_{ij}^2}}

    NaN where one of them ties all checkpoints.
    """
    scale = math.sqrt(float((first**2).sum() * (second**2).sum()))
    return float((first * second).sum()) / scale if scale else math.nan


@dataclass(frozen=True)
class Concordance:
    """Whether measures rank the checkpoints alike.

    Attributes:
        w: Kendall's W, 1 where all agree; NaN where it cannot be said.
        p_value: Probability of a W as large for measures that have nothing to do with each other.
        num_measures: Measures that separate any two checkpoints; the others say nothing.
        num_checkpoints: Checkpoints.
        reason: Why there is no W; empty where there is one.
    """

    w: float
    p_value: float
    num_measures: int
    num_checkpoints: int
    reason: str = ""


def concordance(ranked: Float[np.ndarray, "M K"], *, seed: int = 0) -> Concordance:
    r"""Kendall's W of rankings by several measures, with a permutation test.

    .. math:: W = \frac{\sum_k \bigl( \sum_m c_{mk} \bigr)^2}{M \sum_{mk} c_{mk}^2}

    with c the ranks less their mean. This is W corrected for ties; by the inequality of Cauchy and
    Schwarz it is one only where all measures rank alike. The null permutes the checkpoints of each
    measure on its own.
    """
    deciding = ranked[(ranked != ranked[:, :1]).any(1)]
    num, of = deciding.shape
    if of < LEAST_CHECKPOINTS or num < 2:
        reason = (
            f"{of} checkpoints are too few to say whether measures agree"
            if of < LEAST_CHECKPOINTS
            else f"{num} of the measures separate any checkpoints; agreement needs two that do"
        )
        return Concordance(math.nan, math.nan, num, of, reason)
    test = permutation_test(
        list(deciding),
        _concordance,
        permutation_type="pairings",
        vectorized=True,
        n_resamples=NUM_PERMUTATIONS,
        alternative="greater",
        random_state=np.random.default_rng(seed),  # type: ignore[call-arg] - `rng` since SciPy 1.15
    )
    return Concordance(float(test.statistic), float(test.pvalue), num, of)


def _concordance(*ranked: np.ndarray, axis: int = -1) -> np.ndarray:
    """W along an axis; sums over measures come first."""
    centred = [r - r.mean(axis=axis, keepdims=True) for r in ranked]
    together = (np.sum(centred, axis=0) ** 2).sum(axis=axis)
    alone = np.sum([(c**2).sum(axis=axis) for c in centred], axis=0)
    return np.asarray(together / (len(ranked) * alone))
