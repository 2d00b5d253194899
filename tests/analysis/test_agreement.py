"""Tests for analysis/agreement.py."""

import math
from itertools import permutations

import numpy as np
import pytest
from scipy.stats import friedmanchisquare, kendalltau, rankdata

from analysis.agreement import concordance, kendall_tau, order, ranks
from analysis.estimates import Estimate


def exact(values: list[float]) -> list[Estimate]:
    """Intervals so narrow that only equal values tie."""
    return [Estimate(v, v - 1e-6, v + 1e-6) for v in values]


def orders(values: list[float]) -> np.ndarray:
    return order(exact(values), higher_is_better=True)


def test_ranks_and_tau_are_the_usual_ones_where_ties_are_transitive() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        a, b = rng.integers(0, 4, size=(2, 6)).astype(float).tolist()
        np.testing.assert_allclose(ranks(orders(a)), rankdata([-x for x in a]))
        np.testing.assert_allclose(kendall_tau(orders(a), orders(b)), kendalltau(a, b).statistic)


def test_ranks_add_up_whatever_is_tied() -> None:
    chain = [Estimate(1, 0, 2), Estimate(2, 1, 3.5), Estimate(4, 3, 5)]  # overlap with the next
    signs = order(chain, higher_is_better=True)
    np.testing.assert_allclose(ranks(signs), [2.5, 2.0, 1.5])
    np.testing.assert_allclose(ranks(order(chain, higher_is_better=False)), [1.5, 2.0, 2.5])


@pytest.mark.parametrize("unsure", [Estimate(9), Estimate(9, 9, 9)])
def test_a_missing_or_empty_interval_ties(unsure: Estimate) -> None:
    signs = order([unsure, Estimate(1, 0, 2), Estimate(5, 4, 6)], higher_is_better=True)
    assert signs.tolist() == [[0, 0, 0], [0, 0, -1], [0, 1, 0]]


def test_tau_of_a_measure_that_ties_everything_is_not_defined() -> None:
    assert math.isnan(kendall_tau(orders([1, 1, 1]), orders([1, 2, 3])))


def test_w_is_that_of_friedmans_test() -> None:
    rng = np.random.default_rng(1)
    values = rng.integers(0, 5, size=(4, 6)).astype(float)
    ranked = np.array([rankdata(row) for row in values])
    w = friedmanchisquare(*values.T).statistic / (4 * (6 - 1))
    np.testing.assert_allclose(concordance(ranked).w, w)


def test_w_is_one_where_all_agree_and_only_there() -> None:
    agreeing = np.tile(ranks(orders([3, 1, 2, 2])), (5, 1))
    np.testing.assert_allclose(concordance(agreeing).w, 1)
    agreeing[0] = agreeing[0][::-1]
    assert concordance(agreeing).w < 0.99


def test_p_value_is_the_exact_one_where_all_permutations_fit() -> None:
    ranked = np.array([[1.0, 2, 3], [1, 3, 2]])

    def w(second: tuple[float, ...]) -> float:
        total = ranked[0] + second
        return float(((total - total.mean()) ** 2).sum())

    draws = [w(second) for second in permutations((1.0, 2, 3))]
    expected = np.mean([draw >= w((1, 3, 2)) - 1e-12 for draw in draws])
    np.testing.assert_allclose(concordance(ranked).p_value, expected)


def test_unrelated_measures_give_uniform_p_values() -> None:
    rng = np.random.default_rng(2)
    drawn = [np.array([rng.permutation(5) + 1.0 for _ in range(3)]) for _ in range(40)]
    p_values = np.array([concordance(ranked, seed=0).p_value for ranked in drawn])
    assert 0.3 < p_values.mean() < 0.7  # 0.5 with a standard error of 0.05


def test_too_few_checkpoints_or_measures_are_said() -> None:
    two = concordance(np.array([[1.0, 2], [2, 1]]))
    assert math.isnan(two.w) and two.reason == (
        "2 checkpoints are too few to say whether measures agree"
    )
    tied = concordance(np.array([[2.0, 2, 2], [1, 2, 3]]))
    assert tied.num_measures == 1 and "agreement needs two that do" in tied.reason


def test_measures_that_tie_everything_change_nothing() -> None:
    ranked = np.array([[1.0, 2, 3, 4], [2, 1, 4, 3]])
    with_idle = np.vstack([ranked, np.full(4, 2.5)])
    assert concordance(with_idle) == concordance(ranked)
