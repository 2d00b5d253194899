"""Spearman's rank correlation within strata, plain and beyond a third variable.

`analysis.association` says what it is for. Shapes: N runs, B resamples.
"""

import math

import numpy as np
from jaxtyping import Float, Int
from scipy.stats import rankdata


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
    return float(correlation(centred_ranks(x[None], strata), centred_ranks(y[None], strata))[0])


def partial_rank_correlation(
    x: Float[np.ndarray, " N"],
    y: Float[np.ndarray, " N"],
    z: Float[np.ndarray, " N"],
    strata: Int[np.ndarray, " N"],
) -> float:
    """The same after a regression of both ranks on those of a third variable."""
    ranks_x, ranks_y, ranks_z = (centred_ranks(values[None], strata) for values in (x, y, z))
    return float(correlation(residual(ranks_x, ranks_z), residual(ranks_y, ranks_z))[0])


def centred_ranks(
    values: Float[np.ndarray, "B N"], strata: Int[np.ndarray, " N"]
) -> Float[np.ndarray, "B N"]:
    """Ranks in every stratum, less their mean there, over the stratum's size."""
    ranks = np.empty_like(values)
    for stratum in np.unique(strata):
        inside = strata == stratum
        found = rankdata(values[:, inside], axis=1)
        ranks[:, inside] = (found - found.mean(1, keepdims=True)) / inside.sum()
    return ranks


def residual(
    ranks: Float[np.ndarray, "B N"], of: Float[np.ndarray, "_ N"]
) -> Float[np.ndarray, "B N"]:
    """What a regression on other centred ranks leaves; all of it where those do not vary."""
    square = (of**2).sum(1, keepdims=True)
    slope = (ranks * of).sum(1, keepdims=True) / np.where(square > 0, square, 1)
    left = ranks - slope * of
    # What rounding leaves of ranks that the regression explains is nothing.
    explained = (left**2).sum(1) <= 1e-20 * (ranks**2).sum(1)
    return np.where(explained[:, None], 0.0, left)


def correlation(
    x: Float[np.ndarray, "_ N"], y: Float[np.ndarray, "_ N"]
) -> Float[np.ndarray, " _"]:
    """Correlation of centred rows; NaN where one of the two does not vary."""
    scale = np.sqrt((x**2).sum(1) * (y**2).sum(1))
    product = (x * y).sum(1)
    return np.divide(product, scale, out=np.full_like(product, math.nan), where=scale > 0)
