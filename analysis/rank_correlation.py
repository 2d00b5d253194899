r"""Spearman's rank correlation within strata, plain and beyond a third variable.

Rows may have weights, such as 0 where they are left out. A rank is the share of its stratum
below a value, ties a half, less a half:

.. math:: \tilde x_i = \frac{\sum_j w_j ([x_j < x_i] + [x_j = x_i] / 2)}{\sum_j w_j} - \frac12,
          \qquad r = \frac{\sum_i w_i \tilde x_i \tilde y_i}
                          {\sqrt{\sum_i w_i \tilde x_i^2 \sum_i w_i \tilde y_i^2}}

with j over the rows of the stratum and i over all. `analysis.association` says what it is for.

Shapes: N runs, B rows of weights.
"""

import math

import numpy as np
from jaxtyping import Float, Int


def rank_correlation(
    x: Float[np.ndarray, " N"], y: Float[np.ndarray, " N"], strata: Int[np.ndarray, " N"]
) -> float:
    """Spearman's correlation within strata; NaN where one of the two does not vary.

    Example:
        >>> strata = np.repeat([0, 1], 4)
        >>> x = np.arange(8.0)
        >>> round(rank_correlation(x, x**3 - 100.0 * strata, strata), 9)
        1.0
    """
    weights = np.ones((1, len(x)))
    ranks_x, ranks_y = (centred_ranks(values, strata, weights) for values in (x, y))
    return float(correlation(ranks_x, ranks_y, weights)[0])


def partial_rank_correlation(
    x: Float[np.ndarray, " N"],
    y: Float[np.ndarray, " N"],
    z: Float[np.ndarray, " N"],
    strata: Int[np.ndarray, " N"],
) -> float:
    """The same after a regression of both ranks on those of a third variable."""
    weights = np.ones((1, len(x)))
    ranks_x, ranks_y, ranks_z = (centred_ranks(values, strata, weights) for values in (x, y, z))
    left_x, left_y = (residual(ranks, ranks_z, weights) for ranks in (ranks_x, ranks_y))
    return float(correlation(left_x, left_y, weights)[0])


def centred_ranks(
    values: Float[np.ndarray, " N"],
    strata: Int[np.ndarray, " N"],
    weights: Float[np.ndarray, "B N"],
) -> Float[np.ndarray, "B N"]:
    """Ranks in every stratum over its size, less their mean there; 0 in one without weight."""
    ranks = np.empty_like(weights)
    for stratum in np.unique(strata):
        inside = np.flatnonzero(strata == stratum)
        _, level = np.unique(values[inside], return_inverse=True)
        mass = weights[:, inside] @ np.eye(level.max() + 1)[level]
        total = mass.sum(1, keepdims=True)
        middle = mass.cumsum(1) - mass / 2 - total / 2
        ranks[:, inside] = (middle / np.where(total > 0, total, 1))[:, level]
    return ranks


def residual(
    ranks: Float[np.ndarray, "_ N"],
    of: Float[np.ndarray, "_ N"],
    weights: Float[np.ndarray, "_ N"],
) -> Float[np.ndarray, "_ N"]:
    """What a regression on other centred ranks leaves; all of it where those do not vary."""
    square = (weights * of**2).sum(1, keepdims=True)
    slope = (weights * ranks * of).sum(1, keepdims=True) / np.where(square > 0, square, 1)
    left = ranks - slope * of
    # What rounding leaves of ranks that the regression explains is nothing.
    explained = (weights * left**2).sum(1) <= 1e-20 * (weights * ranks**2).sum(1)
    return np.where(explained[:, None], 0.0, left)


def correlation(
    x: Float[np.ndarray, "_ N"], y: Float[np.ndarray, "_ N"], weights: Float[np.ndarray, "_ N"]
) -> Float[np.ndarray, " _"]:
    """Correlation of centred rows; NaN where one of the two does not vary."""
    scale = np.sqrt((weights * x**2).sum(1) * (weights * y**2).sum(1))
    product = (weights * x * y).sum(1)
    return np.divide(product, scale, out=np.full_like(product, math.nan), where=scale > 0)
