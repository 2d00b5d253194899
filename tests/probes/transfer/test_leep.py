"""Tests for probes/transfer/leep.py: loops, entropies and the bound between them."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.random import default_rng
from numpy.testing import assert_allclose
from scipy.stats import entropy

from core.errors import InputError
from probes.transfer import leep, n_leep, nce


def outputs(n: int, z: int, k: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = default_rng(seed)
    y = rng.integers(k, size=n)
    y[:2] = [0, 1]
    return rng.dirichlet(np.full(z, 0.5), size=n), y


def by_loops(theta: np.ndarray, y: np.ndarray) -> float:
    total = 0.0
    for i in range(len(y)):
        expected = 0.0
        for z in range(theta.shape[1]):
            joint = sum(theta[j, z] for j in range(len(y)) if y[j] == y[i]) / len(y)
            mass = sum(theta[j, z] for j in range(len(y))) / len(y)
            expected += joint / mass * theta[i, z]
        total += math.log(expected)
    return total / len(y)


@pytest.mark.parametrize(("n", "z", "k"), [(20, 4, 3), (15, 7, 2)])
def test_loops(n: int, z: int, k: int) -> None:
    theta, y = outputs(n, z, k, 0)
    assert_allclose(leep(theta, y), by_loops(theta, y))


def test_permuted_labels_score_minus_their_entropy() -> None:
    theta, y = outputs(20_000, 5, 3, 0)
    # Exact for outputs that are all the same; in the limit for labels in no relation.
    same = np.tile(theta[:1], (len(y), 1))
    expected = -entropy(np.bincount(y) / len(y))
    assert_allclose(leep(same, y), expected)
    assert_allclose(leep(theta, default_rng(1).permutation(y)), expected, atol=1e-3)
    assert_allclose(nce(theta.argmax(1), default_rng(1).permutation(y)), expected, atol=1e-3)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), z=st.integers(2, 6), k=st.integers(2, 4))
def test_leep_is_at_least_the_conditional_entropy(seed: int, z: int, k: int) -> None:
    """Jensen: the mean of ln sum_z P(y | z) theta_z is at least that of sum_z theta_z ln P(y | z).

    The latter is -H(Y | Z) of the soft counts, and NCE where the outputs are certain. (LEEP >= NCE
    itself is no theorem: hard and soft counts are different distributions.)
    """
    theta, y = outputs(12, z, k, seed)
    joint = np.array([theta[y == c].sum(0) for c in range(k)])
    soft = -(joint.sum(0) * entropy(joint, axis=0)).sum() / len(y)
    assert 0 >= leep(theta, y) >= soft - 1e-12
    certain = np.eye(z)[theta.argmax(1)]
    assert_allclose(leep(certain, y), nce(theta.argmax(1), y), atol=1e-12)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000))
def test_names_and_order_do_not_matter(seed: int) -> None:
    rng = default_rng(seed)
    theta, y = outputs(30, 4, 3, seed)
    rows, columns, names = rng.permutation(30), rng.permutation(4), rng.permutation(3)
    assert_allclose(leep(theta[rows][:, columns], names[y[rows]]), leep(theta, y))


def test_source_classes_without_mass_change_nothing() -> None:
    theta, y = outputs(30, 4, 3, 0)
    assert_allclose(leep(np.insert(theta, 2, 0.0, axis=1), y), leep(theta, y))


def test_conditional_entropy() -> None:
    z, y = np.array([0, 0, 0, 2, 2, 5, 5]), np.array([0, 0, 1, 1, 2, 2, 2])
    expected = -(3 * entropy([2, 1]) + 2 * entropy([1, 1])) / 7
    assert_allclose(nce(z, y), expected)


def test_mixture_of_the_features() -> None:
    rng = default_rng(0)
    y = np.arange(120) % 3
    x = rng.normal(size=(120, 8)) + 6 * np.eye(3, 8)[y]
    assert n_leep(x, y, seed=1) == n_leep(x, y, seed=1)
    assert n_leep(x, y) > -0.1
    assert n_leep(x, rng.permutation(y)) < -0.7


def test_single_precision_softmax_is_accepted() -> None:
    theta, y = outputs(30, 4, 3, 0)
    assert_allclose(leep(torch.from_numpy(theta).half(), y), leep(theta, y), atol=1e-3)


@pytest.mark.parametrize(
    ("theta", "message"),
    [
        (np.full((4, 3), 0.5), "sum to one only within 0.5"),
        (np.array([[2.0, -1.0]] * 4), "go down to -1"),
        (np.array([[np.nan, 1.0]] * 4), "hold NaN or infinity"),
        (np.ones((1, 1)), "probabilities have 1 examples; at least 2"),
        (np.full((3, 2), 0.5), "labels have shape"),
    ],
)
def test_no_distributions(theta: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=message):
        leep(theta, np.array([0, 1, 0, 1]))


def test_lengths_that_differ() -> None:
    with pytest.raises(InputError, match="3 source labels and 4 labels"):
        nce(np.array([0, 1, 1]), np.array([0, 1, 0, 1]))


def test_more_gaussians_than_examples() -> None:
    with pytest.raises(InputError, match="10 Gaussians were asked for with 6 examples"):
        n_leep(default_rng(0).normal(size=(6, 2)), np.arange(6) % 2)
