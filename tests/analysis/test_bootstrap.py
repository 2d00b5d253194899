"""Tests for analysis/bootstrap.py; what its intervals cover is a slow test."""

import math

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from numpy.testing import assert_allclose
from scipy.stats import ks_1samp, ttest_1samp
from scipy.stats import t as student

from analysis.bootstrap import hierarchical_mean, mean_draws
from analysis.clusters import clusters
from scripts.coverage import CROSSED_WORLDS, WORLDS, CoverageConfig, World, covered
from tests.analysis.study_data import differing_cells, grid, own_seeds


def study(seed: int = 0, **of_grid: tuple) -> pd.DataFrame:
    """Differences of runs that have a seed each."""
    return own_seeds(differing_cells(seed, **of_grid))


def test_over_cells_it_is_the_t_test_of_their_means() -> None:
    frame = study()
    test = ttest_1samp(frame.groupby("cell")["difference"].mean(), 0.5, alternative="greater")
    mean = hierarchical_mean(frame)
    assert_allclose(mean.p_above(0.5), test.pvalue)
    both = ttest_1samp(frame.groupby("cell")["difference"].mean(), 0.5)
    assert_allclose(mean.interval(0.9), both.confidence_interval(0.9))
    assert_allclose(mean.p_below(0.5), 1 - test.pvalue)


def test_the_error_is_that_of_cluster_robust_least_squares() -> None:
    frame = study(seed=1).drop(index=[1])  # unequal cells
    weight = clusters(frame).weight
    dummies = pd.get_dummies(frame["env"]).to_numpy(np.float64)
    groups = pd.factorize(frame["cell"])[0]
    fit = sm.WLS(frame["difference"], dummies, weights=weight).fit(
        cov_type="cluster", cov_kwds={"groups": groups, "use_correction": False}
    )
    num = len(set(groups))
    test = fit.t_test(np.full((1, 4), 0.25))
    mean = hierarchical_mean(frame)
    assert_allclose(mean.value, test.effect)
    # The mean of the clusters' sums is zero where environments are fixed.
    assert_allclose(mean.stderr, test.sd.item() * math.sqrt(num / (num - 1)))


def test_crossed_cells_and_seeds_add_the_variances_of_both() -> None:
    frame = differing_cells(seeds=(0, 1, 2))
    both, cells = hierarchical_mean(frame), hierarchical_mean(own_seeds(frame))
    by_seed = frame.groupby("seed")["difference"].mean()
    of_seeds = by_seed.var() / 3
    assert both.varies == "cells and seeds" and cells.varies == "cells"
    assert_allclose(both.stderr**2, cells.stderr**2 + of_seeds)
    expected = both.stderr**4 / (cells.stderr**4 / (6 - 1) + of_seeds**2 / (3 - 1))
    assert_allclose(both.degrees, expected)


def test_what_a_seed_does_to_all_cells_is_in_the_error() -> None:
    frame = differing_cells()
    moved = frame.assign(difference=frame["difference"] + 10 * frame["seed"])
    assert hierarchical_mean(moved).stderr > 5  # half the distance of two seeds, and more
    assert_allclose(
        hierarchical_mean(own_seeds(moved)).stderr, hierarchical_mean(own_seeds(frame)).stderr
    )


def test_over_seeds_it_adds_the_variances_of_environments() -> None:
    frame = study(cells=("a",), seeds=(0, 1, 2))
    variances = frame["difference"].to_numpy().reshape(4, 3).var(1, ddof=1)
    mean = hierarchical_mean(frame)
    assert mean.varies == "seeds"
    assert_allclose(mean.stderr, math.sqrt((variances / 3).sum()) / 4)
    expected = variances.sum() ** 2 / (variances**2 / 4).sum() - 2  # of n - 1 = 2 each
    assert_allclose(mean.degrees, np.clip(expected, 1, 8))


def test_environments_are_fixed() -> None:
    frame = study()
    moved = frame.assign(difference=frame["difference"] + 10 * (frame["env"] == "ink"))
    assert_allclose(hierarchical_mean(moved).stderr, hierarchical_mean(frame).stderr)
    assert_allclose(hierarchical_mean(moved).value, hierarchical_mean(frame).value + 2.5)


def test_nothing_that_varies_has_no_interval() -> None:
    mean = hierarchical_mean(study(cells=("a",), seeds=(0,)))
    assert not mean.estimate.has_interval and math.isnan(mean.p_above(0))
    assert "nothing varies" in str(mean)


def test_signs_and_superiority_by_hand() -> None:
    frame = grid(envs=("ink", "photo"), cells=("a", "b"))
    frame = frame.assign(difference=[1.0, 1, 1, -1, 0, -2, 1, -1], seed=frame["seed"])
    mean = hierarchical_mean(frame)
    assert mean.by_env == {"ink": 0.5, "photo": -0.5}
    assert_allclose(mean.superiority, (3 / 4 + 1.5 / 4) / 2)
    assert mean.same_sign == 0 and mean.value == 0
    two = pd.concat([frame, frame.assign(dataset="PACS")])
    assert set(hierarchical_mean(two).by_env) == {
        f"{dataset}/{env}" for dataset in ("digits", "PACS") for env in ("ink", "photo")
    }


def test_differences_that_are_all_alike_tell_no_error() -> None:
    mean = hierarchical_mean(study().assign(difference=0.1))
    assert mean.value == pytest.approx(0.1) and "all of them are alike" in str(mean)
    assert not mean.estimate.has_interval and math.isnan(mean.p_above(0))


@pytest.mark.parametrize("frame", [study(), differing_cells(seeds=(0, 1, 2))])
def test_draws_of_one_mean_have_its_students_t(frame: pd.DataFrame) -> None:
    mean, design = hierarchical_mean(frame), clusters(frame)
    draws = mean_draws(frame[["difference"]].to_numpy(), design, num_draws=20_000)[:, 0]
    standard = (draws - mean.value) / mean.stderr
    assert ks_1samp(standard, student(mean.degrees).cdf).pvalue > 0.01


def test_draws_of_several_means_go_together() -> None:
    frame = study()
    values = np.stack([frame["difference"], 2 * frame["difference"] + 1], axis=1)
    draws = mean_draws(values, clusters(frame))
    assert_allclose(draws[:, 1], 2 * draws[:, 0] + 1)


def test_nothing_is_drawn_where_nothing_varies() -> None:
    frame = study(cells=("a",), seeds=(0,))
    with pytest.raises(ValueError, match="nothing can be drawn: one run an environment"):
        mean_draws(frame[["difference"]].to_numpy(), clusters(frame))


STUDIES = [
    *((world, (3, 2)) for world in WORLDS),
    *((world, (3, 3)) for world in CROSSED_WORLDS),
    (WORLDS[1], (2, 2)),
    (WORLDS[1], (6, 3)),
]


@pytest.mark.slow
@pytest.mark.parametrize(("world", "size"), STUDIES)
def test_intervals_over_cells_cover(world: World, size: tuple[int, int]) -> None:
    share, _ = covered(world, size, CoverageConfig())["ours"]
    assert 0.93 <= share <= 0.97
