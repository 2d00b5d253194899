"""Tests for analysis/intervals.py."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import bootstrap, norm

from analysis.intervals import (
    Row,
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


@given(st.integers(1, 200), st.floats(0, 1))
def test_proportions_have_wilsons_closed_form(num: int, share: float) -> None:
    right = (np.arange(num) < round(share * num)).astype(float)
    row = proportion_interval(right)
    p, z = right.mean(), norm.ppf(0.975)
    centre = (p + z**2 / (2 * num)) / (1 + z**2 / num)
    half = z / (1 + z**2 / num) * np.sqrt(p * (1 - p) / num + z**2 / (4 * num**2))
    assert row["low"] == pytest.approx(centre - half, abs=1e-9)
    assert row["high"] == pytest.approx(centre + half, abs=1e-9)
    assert row["stderr"] == pytest.approx(np.sqrt(p * (1 - p) / num))
    assert row["num_examples"] == num


def test_the_name_and_the_size_of_a_stratum_decide_its_draws() -> None:
    ink = bootstrap_counts({"ink": 7}, seed=4)
    assert not np.array_equal(ink, bootstrap_counts({"photo": 7}, seed=4))
    assert not np.array_equal(ink[:, :6], bootstrap_counts({"ink": 6}, seed=4))


def test_statistics_on_the_same_examples_are_paired() -> None:
    """The difference of two runs that move together is known better than either."""
    a, b = sums()
    first, second = (bootstrap_counts({"all": 60}, seed=4) @ x / 60 for x in (a, a + 0.01 * b))
    assert np.std(first - second) < 0.1 * np.std(first)


def test_stratified_intervals_ignore_what_lies_between_the_strata() -> None:
    """Two environments without spread inside: the pooled ratio is known exactly."""
    a = np.repeat([1.0, 5.0], [10, 30])
    row = ratio_interval(a, np.ones(40), bootstrap_counts({"ink": 10, "photo": 30}))
    assert row["low"] == row["high"] == pytest.approx(row["value"]) == pytest.approx(4.0)
    pooled = ratio_interval(a, np.ones(40), bootstrap_counts({"all": 40}))
    assert pooled["low"] < 4 < pooled["high"]


def test_a_single_example_has_no_interval() -> None:
    row = ratio_interval(np.ones(1), np.full(1, 2.0), bootstrap_counts({"all": 1}))
    assert row == {"value": 0.5, "num_examples": 1}


def test_what_is_undefined_on_the_examples_has_neither_value_nor_interval() -> None:
    row = ratio_interval(np.zeros(4), np.zeros(4), bootstrap_counts({"all": 4}))
    assert np.isnan(row["value"])
    assert "low" not in row


@given(st.floats(1e-3, 1e3), st.integers(0, 2**31))
def test_r2_does_not_know_the_scale_of_the_features(scale: float, seed: int) -> None:
    f0, df, f1 = np.random.default_rng(seed).normal(size=(3, 20, 5))
    counts = bootstrap_counts({"all": 20}, num_resamples=50)

    def r2(unit: float) -> Row:
        change = unit * (f1 - f0)
        left, moved = (np.square(t).sum(1) for t in (change - unit * df, change))
        return ratio_interval(left, moved, counts, transform=lambda ratio: 1 - ratio)

    assert r2(scale) == pytest.approx(r2(1.0))
