"""Tests for analysis/rank_correlation.py."""

import math

import numpy as np
from numpy.testing import assert_allclose
from scipy.stats import pearsonr, rankdata, spearmanr

from analysis.rank_correlation import (
    centred_ranks,
    correlation,
    partial_rank_correlation,
    rank_correlation,
)


def three(num: int, seed: int = 0) -> np.ndarray:
    """Three variables that go together."""
    generator = np.random.default_rng(seed)
    return generator.normal(size=num) + generator.normal(size=(3, num))


def test_in_one_stratum_it_is_spearmans() -> None:
    x, y, z = three(20)
    strata = np.zeros(20, np.int64)
    assert_allclose(rank_correlation(x, y, strata), spearmanr(x, y).statistic)
    rxy, rxz, ryz = (spearmanr(*pair).statistic for pair in ((x, y), (x, z), (y, z)))
    expected = (rxy - rxz * ryz) / math.sqrt((1 - rxz**2) * (1 - ryz**2))
    assert_allclose(partial_rank_correlation(x, y, z, strata), expected)


def test_what_differs_between_strata_makes_no_correlation() -> None:
    x, y, _ = three(40)
    strata = np.repeat(np.arange(4), 10)
    ranked = [np.concatenate([rankdata(v[strata == s]) - 5.5 for s in range(4)]) for v in (x, y)]
    found = rank_correlation(x + 100 * strata, y - 50 * strata, strata)
    assert_allclose(found, pearsonr(*ranked).statistic)


def test_weights_are_rows_that_stand_there_so_often() -> None:
    x, y, _ = np.round(three(20), 1)  # some are tied
    strata = np.repeat([0, 1], 10)
    times = np.random.default_rng(1).integers(0, 4, 20)
    weights = times[None].astype(np.float64)
    first, second = (centred_ranks(v, strata, weights) for v in (x, y))
    found = correlation(first, second, weights)
    repeated = rank_correlation(np.repeat(x, times), np.repeat(y, times), np.repeat(strata, times))
    assert_allclose(found[0], repeated)


def test_what_does_not_vary_has_no_correlation() -> None:
    assert math.isnan(rank_correlation(np.ones(8), np.arange(8.0), np.zeros(8, np.int64)))
