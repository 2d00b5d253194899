"""Tests for probes/similarity/permutation.py."""

from functools import partial

import numpy as np
import pytest
import torch
from scipy.stats import kstest

from core.errors import InputError
from probes.similarity import Representation, linear_cka, mutual_knn, permutation_null


@pytest.mark.parametrize("width", [3, 60])
def test_a_prepared_representation_gives_the_same_null(width: int) -> None:
    x, y = torch.randn(25, 4), torch.randn(25, width)
    prepared = permutation_null(linear_cka, Representation.of(x), Representation.of(y), 10)
    plain = permutation_null(linear_cka, x.numpy(), y.numpy(), 10)
    assert prepared.value == pytest.approx(plain.value, rel=1e-12)
    np.testing.assert_allclose(prepared.null, plain.null, rtol=1e-9, atol=1e-13)


def test_mean_of_the_biased_null_has_a_closed_form() -> None:
    """E <K, P L P^T> = tr K tr L / (N - 1) over permutations, for centred K and L."""
    x, y = torch.randn(20, 5), torch.randn(20, 4)
    k, l = ((z - z.mean(0)) @ (z - z.mean(0)).mT for z in (x, y))
    expected = float(k.trace() * l.trace() / 19 / (k.norm() * l.norm()))
    representations = Representation.of(x), Representation.of(y)
    null = permutation_null(partial(linear_cka, debiased=False), *representations, num=2000).null
    assert null.mean() == pytest.approx(expected, abs=4 * null.std() / 2000**0.5)


def test_p_values_are_uniform_for_unrelated_representations() -> None:
    p_values = []
    for seed in range(100):
        x, y = (Representation.of(torch.randn(12, 4)) for _ in range(2))
        p_values.append(permutation_null(linear_cka, x, y, num=39, seed=seed).p_value)
    spread = np.random.default_rng(0).uniform(-0.025, 0, 100)  # they are multiples of 1 / 40
    assert kstest(p_values + spread, "uniform").pvalue > 0.01


def test_related_representations_stand_out() -> None:
    x = torch.randn(60, 5)
    found = permutation_null(partial(mutual_knn, k=5), x, x + 0.1 * torch.randn(60, 5), num=99)
    assert found.p_value == 0.01
    assert found.z > 10
    assert 0.5 < found.excess < found.value
    assert found.quantile(0) == found.null.min() <= found.mean <= found.quantile(1)


def test_what_is_reported() -> None:
    values = iter([0.8, 0.1, 0.2, 0.3])
    found = permutation_null(lambda x, y: next(values), np.zeros(3), np.zeros(3), num=3)
    assert found.mean == pytest.approx(0.2)
    assert found.z == pytest.approx(6)
    assert found.excess == pytest.approx(0.75)
    assert found.p_value == 0.25
    assert found.quantile(0.5) == pytest.approx(0.2)


def test_the_seed_decides() -> None:
    x, y = np.random.default_rng(0).normal(size=(2, 20, 3))
    first, again, other = (permutation_null(linear_cka, x, y, 5, seed=s).null for s in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_errors_say_what_was_found() -> None:
    x = torch.randn(10, 3)
    with pytest.raises(InputError, match="x has 10 examples and y 9"):
        permutation_null(linear_cka, x, x[:9])
    with pytest.raises(InputError, match="all 5 permutations give 1; a statistic that depends"):
        permutation_null(lambda x, y: 1.0, x, x, 5)
    with pytest.raises(InputError, match="1 permutations have no spread"):
        permutation_null(linear_cka, x, x, 1)
