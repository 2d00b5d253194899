"""Tests for analysis/resampling.py."""

import math

from numpy.testing import assert_allclose

from analysis.bootstrap import hierarchical_mean
from analysis.clusters import clusters
from analysis.resampling import bootstrap_estimate, resample_weights
from tests.analysis.study_data import differing_cells as study


def test_resamples_are_unbiased_and_have_the_variance_of_the_closed_form() -> None:
    frame = study(cells=("a", "b", "c"))
    design, values = clusters(frame), frame["difference"].to_numpy()
    weights = resample_weights(design, num_draws=40_000)
    assert_allclose(weights.mean(0), 1, atol=4 / 40_000**0.5)
    drawn = weights @ (design.weight * values)
    mean = hierarchical_mean(frame)
    assert_allclose(drawn.std(), mean.stderr, rtol=0.03)  # of 40,000 draws: under 1 %


def test_a_statistic_that_is_a_mean_has_the_interval_of_the_mean() -> None:
    frame = study()
    design, values = clusters(frame), frame["difference"].to_numpy()
    found = bootstrap_estimate(lambda w: float(w @ (design.weight * values)), design).estimate
    expected = hierarchical_mean(frame).estimate
    assert_allclose(found.value, expected.value)
    width = expected.high - expected.low
    assert_allclose([found.low, found.high], [expected.low, expected.high], atol=0.05 * width)


def test_a_statistic_that_is_often_undefined_has_no_interval() -> None:
    frame = study(cells=("a", "b"))
    design = clusters(frame)
    of_first = lambda w: 1.0 if w[design.cluster == 0].sum() else math.nan
    found = bootstrap_estimate(of_first, design)
    assert found.value == 1 and not found.estimate.has_interval
    assert found.reason.startswith("undefined on ")
