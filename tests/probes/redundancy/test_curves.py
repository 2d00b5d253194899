"""Tests for probes/redundancy/curves.py."""

import numpy as np
import pytest

from probes.redundancy.curves import area, curve_rows, redundancy

FRACTIONS = np.array([0.01, 0.1, 1.0])


def test_redundancy_takes_the_first_fraction_that_suffices() -> None:
    curves = np.array([[0.5, 0.8, 0.85], [0.84, 0.2, 0.85], [0.1, 0.2, 0.85], [0, 0, 0]])
    np.testing.assert_allclose(redundancy(curves, FRACTIONS, 0.9), [0.9, 0.99, 0, 0.99])
    np.testing.assert_allclose(redundancy(curves, FRACTIONS, 1), [0, 0, 0, 0.99])


def test_area_is_the_mean_over_the_logarithm() -> None:
    assert area(np.full(3, 0.7), FRACTIONS) == pytest.approx(0.7)
    uneven = np.array([0.01, 0.02, 0.5, 1.0])
    linear = 1 + np.log(uneven) / 10  # trapezoids are exact for it
    assert area(linear, uneven) == pytest.approx(1 + np.log(0.01) / 20)


def test_intervals_of_equal_subsets_are_binomial() -> None:
    generator = np.random.default_rng(0)
    hits = generator.random((3, 1, 500)) < np.array([0.3, 0.6, 0.9])[:, None, None]
    rows = curve_rows({"subset_accuracy": np.repeat(hits, 5, 1)}, FRACTIONS, 0.9, 0, 2000)
    for row, expected in zip(rows, hits.mean((1, 2)), strict=False):
        assert row["value"] == pytest.approx(expected)
        binomial = (expected * (1 - expected) / 500) ** 0.5
        assert row["stderr"] == pytest.approx(binomial, rel=0.1)  # 2000 resamples
    assert [row["at"] for row in rows[:3]] == FRACTIONS.tolist()


def test_intervals_see_how_much_subsets_differ() -> None:
    """With many test examples only the five subsets are left, whose mean has a known error."""
    accuracies = np.array([0.2, 0.4, 0.5, 0.6, 0.8])
    hits = np.arange(1000) < 1000 * accuracies[:, None]
    rows = curve_rows({"subset_accuracy": np.stack([hits] * 2)}, FRACTIONS[1:], 0.9, 0, 1500)
    expected = accuracies.std() / 5**0.5
    assert rows[0]["stderr"] == pytest.approx(expected, rel=0.07)  # 1500 resamples


def test_the_seed_decides() -> None:
    hits = np.random.default_rng(0).random((2, 3, 50)) < 0.5
    first, again, other = (
        curve_rows({"subset_accuracy": hits}, FRACTIONS[1:], 0.9, seed, 100) for seed in (1, 1, 2)
    )
    assert first == again != other
