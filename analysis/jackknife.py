r"""Subsamples without replacement: equal sizes, and intervals by the delete-group jackknife.

Ranks, alignments and class statistics are compared at equal size, and their intervals never come
from a bootstrap with replacement: an example that is drawn twice makes two equal rows, which
lowers every rank and raises every alignment.

Shapes: N examples, G groups, S examples kept.

References:
    | The Jackknife, the Bootstrap and Other Resampling Plans (Efron, 1982), chapter 3
"""

from collections.abc import Callable, Mapping
from typing import TypeVar

import numpy as np
from jaxtyping import Float, Int
from scipy.stats import norm

from analysis.intervals import LEVEL, Row
from core.errors import InputError

NUM_GROUPS = 20

Indices = Int[np.ndarray, " _"]
Name = TypeVar("Name")


def at_equal_size(strata: Int[np.ndarray, " N"], size: int, *, seed: int) -> Indices:
    """Indices of a random subsample in which every stratum keeps its share, up to one example.

    Args:
        strata: Stratum of every example: its class, or its environment and class.
        size: How many examples to keep, at most N.
        seed: Seed of the draw; the same seed draws the same examples.

    Returns:
        S distinct indices in ascending order.

    Raises:
        InputError: If there are fewer examples than `size`.

    Example:
        >>> kept = at_equal_size(np.array([0, 1, 0, 1, 0, 0]), 3, seed=0)
        >>> np.bincount(np.array([0, 1, 0, 1, 0, 0])[kept])
        array([2, 1])
    """
    num = len(strata)
    if not 1 <= size <= num:
        raise InputError(
            f"a subsample of {size} examples was asked of {num}; a size from 1 to {num} was "
            "expected: compare at the size of the smallest set"
        )
    generator = np.random.default_rng(seed)
    # Every (N / S)-th example in the order of the strata, from a random start.
    places = (np.arange(size) + generator.random()) * num / size
    return np.sort(_by_stratum(strata, generator)[places.astype(int)])


def jackknife_groups(
    strata: Int[np.ndarray, " N"], *, seed: int, num_groups: int = NUM_GROUPS
) -> Int[np.ndarray, " N"]:
    """A group for every example: random, of equal size up to one, every stratum spread evenly.

    Example:
        >>> groups = jackknife_groups(np.zeros(5, int), seed=0, num_groups=2)
        >>> np.bincount(groups)
        array([3, 2])
    """
    groups = np.empty(len(strata), int)
    order = _by_stratum(strata, np.random.default_rng(seed))
    groups[order] = np.arange(len(strata)) % min(num_groups, len(strata))
    return groups


def _by_stratum(strata: Int[np.ndarray, " N"], generator: np.random.Generator) -> Indices:
    """One stratum after the other, each in random order."""
    return np.lexsort((generator.random(len(strata)), strata))


def jackknife(
    statistics: Callable[[Indices], Mapping[Name, float]], groups: Int[np.ndarray, " N"]
) -> dict[Name, Row]:
    r"""Values with the standard errors and normal intervals of the delete-group jackknife.

    .. math:: \hat\sigma^2 = \frac{G - 1}{G} \sum_g (\theta_{-g} - \bar\theta)^2

    There is no interval for a single group, or where a value is undefined without some group.

    Args:
        statistics: From indices of examples to values by name.
        groups: Group of every example, from `jackknife_groups`.

    References:
        | The Jackknife, the Bootstrap and Other Resampling Plans (Efron, 1982), chapter 3
    """
    num, num_groups = len(groups), int(groups.max()) + 1
    whole = statistics(np.arange(num))
    if num_groups < 2:
        return {name: {"value": v, "num_examples": num} for name, v in whole.items()}
    without = [statistics(np.flatnonzero(groups != g)) for g in range(num_groups)]
    return {
        name: _row(value, np.array([part[name] for part in without]), num)
        for name, value in whole.items()
    }


def _row(value: float, without: Float[np.ndarray, " G"], num_examples: int) -> Row:
    row: Row = {"value": value, "num_examples": num_examples}
    if not (np.isfinite(value) and np.isfinite(without).all()):
        return row
    stderr = float(np.sqrt((len(without) - 1) * without.var()))
    half = float(norm.ppf((1 + LEVEL) / 2)) * stderr
    return row | {"stderr": stderr, "low": value - half, "high": value + half}
