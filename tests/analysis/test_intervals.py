"""Tests for analysis/intervals.py."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import bootstrap

from analysis.intervals import (
    bootstrap_counts,
    curve_interval,
    proportion_interval,
    ratio_interval,
)


def sums(num: int = 60) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(1)
    denominator = generator.gamma(2, size=num)
    return denominator * generator.beta(2, 5, size=num), denominator


def test_the_interval_is_scipys_percentile_bootstrap() -> None:
    a, b = sums()
    row = ratio_interval(a, b, bootstrap_counts({"all": 60}, num_resamples=20_000))
    expected = bootstrap(
        (a, b),
        lambda x, y, axis: x.sum(axis) / y.sum(axis),
        paired=True,
        method="percentile",
        n_resamples=20_000,
        rng=2,
    )
    # Monte Carlo error of a 2.5 % quantile of 20,000 draws: below 3 % of a standard error.
    tolerance = 0.1 * expected.standard_error
    assert row["value"] == pytest.approx(a.sum() / b.sum())
    assert row["low"] == pytest.approx(expected.confidence_interval.low, abs=tolerance)
    assert row["high"] == pytest.approx(expected.confidence_interval.high, abs=tolerance)
    assert row["stderr"] == pytest.approx(expected.standard_error, rel=0.03)


def test_intervals_cover_the_truth() -> None:
    generator, hits = np.random.default_rng(3), 0
    ones, counts = np.ones(80), bootstrap_counts({"all": 80})
    for _ in range(300):
        row = ratio_interval(generator.normal(1, 1, 80), ones, counts)
        hits += row["low"] <= 1 <= row["high"]
    assert 0.90 <= hits / 300 <= 0.98  # within four standard errors of 0.95


def test_strata_keep_their_sizes_and_draws_are_shared() -> None:
    counts = bootstrap_counts({"ink": 5, "photo": 7}, seed=4)
    assert (counts[:, :5].sum(1) == 5).all()
    assert (counts[:, 5:].sum(1) == 7).all()
    np.testing.assert_array_equal(counts[:, 5:], bootstrap_counts({"photo": 7}, seed=4))
    assert not np.array_equal(counts, bootstrap_counts({"ink": 5, "photo": 7}, seed=5))


@given(st.floats(1e-6, 1e6))
def test_a_ratio_does_not_know_its_unit(unit: float) -> None:
    a, b = sums(20)
    counts = bootstrap_counts({"all": 20}, num_resamples=50)
    row, scaled = ratio_interval(a, b, counts), ratio_interval(unit * a, unit * b, counts)
    assert scaled == pytest.approx(row)


def test_what_is_undefined_on_a_resample_has_no_interval() -> None:
    sparse = np.array([0.0, 0.0, 0.0, 1.0])
    row = ratio_interval(np.ones(4), sparse, bootstrap_counts({"all": 4}))
    assert row == {"value": 4.0, "num_examples": 4}


def test_wilson_is_honest_at_the_edge() -> None:
    row = proportion_interval(np.ones(20))
    z = 1.959964
    assert row["value"] == row["high"] == 1
    assert row["low"] == pytest.approx(20 / (20 + z**2))


def test_a_curve_is_resampled_as_a_whole() -> None:
    a, b = sums()
    counts = bootstrap_counts({"all": 60})
    row = curve_interval([(a, b), (2 * a, b)], counts, lambda curve: curve.max(-1))
    assert row == ratio_interval(2 * a, b, counts)
