"""Permutations of whole blocks of rows, such as all runs of a setting, in every stratum at once.

A block takes the place of another with all its rows. Both must have as many rows in the same
strata: blocks that differ in this, where a run is missing, trade places only with their like.

Shapes: N rows, B permutations.

References:
    | Permutation, Parametric and Bootstrap Tests of Hypotheses (Good, 2005), chapter 3
    | Multi-level Block Permutation (Winkler et al., 2015)
    | https://doi.org/10.1016/j.neuroimage.2015.05.092
"""

import itertools
import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Int

Group = Int[np.ndarray, "_ _"]  # positions, one row a block


def exchangeable(block: Int[np.ndarray, " N"], stratum: Int[np.ndarray, " N"]) -> list[Group]:
    """Positions of the rows of each block, in groups of blocks that can trade places.

    Args:
        block: Block of every row.
        stratum: Its stratum. Rows of a stratum stand in the order in which they are exchanged:
            the first one of a block there for the first one of another.

    Example:
        >>> block, stratum = np.array([0, 1, 2, 0, 1]), np.array([0, 0, 0, 1, 1])
        >>> [group.tolist() for group in exchangeable(block, stratum)]
        [[[0, 3], [1, 4]], [[2]]]
    """
    groups: dict[tuple[int, ...], list[np.ndarray]] = {}
    for one in np.unique(block):
        members = np.flatnonzero(block == one)
        members = members[np.argsort(stratum[members], kind="stable")]
        groups.setdefault(tuple(stratum[members].tolist()), []).append(members)
    return [np.stack(group) for group in groups.values()]


def num_permutations(groups: Sequence[Group]) -> int:
    """How many there are, the rows as they stand among them."""
    return math.prod(math.factorial(len(group)) for group in groups)


def permutations(
    groups: Sequence[Group], *, seed: int = 0, num: int = 1000
) -> Int[np.ndarray, "B N"]:
    """Positions of rows, those as they stand first: all permutations up to `num`, else as many.

    The share of these in which a statistic is at least as large as in the first is a p-value.

    Example:
        >>> permutations(exchangeable(np.array([0, 1, 0, 1]), np.array([0, 0, 1, 1])))
        array([[0, 1, 2, 3],
               [1, 0, 3, 2]])
    """
    orders = _all(groups) if num_permutations(groups) <= num else _some(groups, seed, num)
    drawn = np.empty((len(orders[0]), sum(group.size for group in groups)), np.int64)
    for group, order in zip(groups, orders, strict=True):
        drawn[:, group.ravel()] = group[order].reshape(len(order), -1)
    return drawn


def _all(groups: Sequence[Group]) -> list[Int[np.ndarray, "B _"]]:
    """Orders of the blocks of every group."""
    each = [list(itertools.permutations(range(len(group)))) for group in groups]
    together = list(itertools.product(*each))
    return [np.array([orders[i] for orders in together]) for i in range(len(groups))]


def _some(groups: Sequence[Group], seed: int, num: int) -> list[Int[np.ndarray, "B _"]]:
    generator = np.random.default_rng(seed)
    found = []
    for group in groups:
        order = np.tile(np.arange(len(group)), (num, 1))
        order[1:] = generator.permuted(order[1:], axis=1)
        found.append(order)
    return found
