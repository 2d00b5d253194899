"""Subsamples of equal size keep the share of every stratum; the jackknife is tested beside it."""

import numpy as np
import pytest
from numpy.random import default_rng
from numpy.testing import assert_allclose

from analysis.jackknife import at_equal_size, jackknife, jackknife_groups
from core.errors import InputError


@pytest.mark.parametrize("size", [1, 7, 30, 99, 120])
def test_every_stratum_keeps_its_share(size: int) -> None:
    strata = np.repeat([0, 1, 2], [40, 20, 60])[default_rng(0).permutation(120)]
    kept = at_equal_size(strata, size, seed=0)
    assert len(np.unique(kept)) == size and (np.diff(kept) > 0).all()
    shares = np.array([40, 20, 60]) * size / 120
    assert (np.abs(np.bincount(strata[kept], minlength=3) - shares) < 1).all()


def test_every_example_is_as_likely() -> None:
    strata = np.repeat([0, 1], [7, 3])
    draws = [at_equal_size(strata, 4, seed=seed) for seed in range(2000)]
    counts = np.bincount(np.concatenate(draws), minlength=10) / 2000
    assert (np.abs(counts - 0.4) < 4 * (0.24 / 2000) ** 0.5).all()


def test_the_seed_draws() -> None:
    strata = np.zeros(50, int)
    assert (at_equal_size(strata, 20, seed=0) == at_equal_size(strata, 20, seed=0)).all()
    assert (at_equal_size(strata, 20, seed=0) != at_equal_size(strata, 20, seed=1)).any()


@pytest.mark.parametrize("size", [0, 11])
def test_a_size_that_is_not_there_is_refused(size: int) -> None:
    with pytest.raises(InputError, match="a size from 1 to 10"):
        at_equal_size(np.zeros(10, int), size, seed=0)


def test_the_jackknife_of_the_mean_is_the_textbook_standard_error() -> None:
    x = default_rng(0).normal(size=15)
    groups = jackknife_groups(np.zeros(15, int), seed=0)
    row = jackknife(lambda kept: {"mean": float(x[kept].mean())}, groups)["mean"]
    assert_allclose(row["stderr"], x.std(ddof=1) / 15**0.5)
