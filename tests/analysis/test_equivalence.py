"""Tests for analysis/equivalence.py."""

import math

import numpy as np
import pytest
from numpy.testing import assert_allclose
from statsmodels.stats.weightstats import DescrStatsW

from analysis.bootstrap import Mean, hierarchical_mean
from analysis.equivalence import MARGIN, equivalence
from core.errors import InputError
from tests.analysis.study_data import grid


def difference(truth: float, generator: np.random.Generator, spread: float) -> Mean:
    """Of a small study: two environments, four cells, two seeds."""
    frame = grid(envs=("ink", "photo"), cells=("a", "b", "c", "d"))
    between = np.repeat(np.tile(generator.normal(size=4), 2), 2)
    noise = (between + generator.normal(size=len(frame))) / 2**0.5
    return hierarchical_mean(frame.assign(difference=truth + spread * noise))


@pytest.mark.parametrize("seed", range(5))
def test_p_value_is_that_of_statsmodels(seed: int) -> None:
    values = np.random.default_rng(seed).normal(0.001, 0.004, 6)
    frame = grid(envs=("ink",), seeds=(0,)).assign(difference=values)
    expected = DescrStatsW(values).ttost_mean(-MARGIN, MARGIN)[0]
    assert_allclose(equivalence(hierarchical_mean(frame)).p_value, expected)


def test_equivalence_is_the_90_percent_interval_inside_the_margin() -> None:
    generator = np.random.default_rng(0)
    found = [equivalence(difference(0.003, generator, 0.004)) for _ in range(40)]
    inside = [e.low > -MARGIN and e.high < MARGIN for e in found]
    assert [e.equivalent for e in found] == inside and 0 < sum(inside) < len(inside)


@pytest.mark.parametrize("truth", [-MARGIN, MARGIN])
@pytest.mark.parametrize("num", [2, 4, 12])
def test_it_errs_in_five_percent_of_samples_at_the_margin(truth: float, num: int) -> None:
    drawn = np.random.default_rng(num).normal(truth, 0.0002, (2000, num))
    errors = drawn.std(1, ddof=1) / num**0.5
    found = [
        equivalence(Mean(value=value, stderr=error, degrees=num - 1, num=num)).equivalent
        for value, error in zip(drawn.mean(1).tolist(), errors.tolist(), strict=True)
    ]
    assert abs(np.mean(found) - 0.05) < 3 * (0.05 * 0.95 / len(found)) ** 0.5


@pytest.mark.slow
@pytest.mark.parametrize("truth", [-MARGIN, MARGIN])
def test_it_errs_in_five_percent_of_studies_at_the_margin(truth: float) -> None:
    generator = np.random.default_rng(1)
    found = [equivalence(difference(truth, generator, 0.001)).equivalent for _ in range(2000)]
    assert abs(np.mean(found) - 0.05) < 3 * (0.05 * 0.95 / len(found)) ** 0.5


def test_it_finds_what_is_equivalent_and_what_is_not() -> None:
    generator = np.random.default_rng(2)
    words = lambda truth, spread: [
        equivalence(difference(truth, generator, spread)).word for _ in range(20)
    ]
    assert words(0.0, 0.001).count("equivalent") > 17
    assert words(3 * MARGIN, 0.001).count("different") > 17
    assert words(0.0, 0.02).count("inconclusive") > 17


def test_without_an_interval_nothing_is_decided() -> None:
    found = equivalence(Mean(value=0.0, num=2))
    assert found.word == "inconclusive" and math.isnan(found.p_value)


@pytest.mark.parametrize("margin", [0.0, -1.0, math.nan, math.inf])
def test_a_margin_that_is_none_is_refused(margin: float) -> None:
    with pytest.raises(InputError, match="a positive number was expected"):
        equivalence(Mean(value=0.0, num=2), margin=margin)
