"""Tests for analysis/resampling.py."""

import math

import pandas as pd
from numpy.testing import assert_allclose

from analysis.bootstrap import hierarchical_mean
from analysis.clusters import clusters
from analysis.resampling import bootstrap_estimate, resample_weights
from tests.analysis.study_data import differing_cells, own_seeds


def study(**of_grid: tuple) -> pd.DataFrame:
    """Differences of runs that have a seed each."""
    return own_seeds(differing_cells(**of_grid))


def test_resamples_are_unbiased_and_have_the_variance_of_the_closed_form() -> None:
    frame = study(cells=("a", "b", "c"))
    design, values = clusters(frame), frame["difference"].to_numpy()
    weights = resample_weights(design, num_draws=40_000)
    assert_allclose(weights.mean(0), 1, atol=4 / 40_000**0.5)
    drawn = weights @ (design.weight * values)
    mean = hierarchical_mean(frame)
    assert_allclose(drawn.std(), mean.stderr, rtol=0.03)  # of 40,000 draws: under 1 %


def test_crossed_cells_and_seeds_add_their_variances() -> None:
    frame = differing_cells(seeds=(0, 1, 2))
    design, values = clusters(frame), frame["difference"].to_numpy()
    drawn = resample_weights(design, num_draws=40_000) @ (design.weight * (values - values.mean()))
    mean = hierarchical_mean(frame)
    assert mean.stderr <= drawn.std() <= mean.stderr * 1.1  # there is that of their products, too
    assert bootstrap_estimate(lambda w: float(w.mean()), design).degrees == 2


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
    of_first = lambda w: 1.0 if w[design.ways[0].cluster == 0].sum() else math.nan
    found = bootstrap_estimate(of_first, design)
    assert found.value == 1 and not found.estimate.has_interval
    assert found.reason.startswith("undefined on ")
