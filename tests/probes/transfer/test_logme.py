"""Tests for probes/transfer/logme.py: the dense Gaussian density, at its maximum."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.random import default_rng
from numpy.testing import assert_allclose
from scipy.stats import multivariate_normal

from core.errors import InputError
from probes.transfer import logme
from probes.transfer.logme import class_evidences, projections

SHAPES = [(40, 6), (15, 40), (12, 12)]
sizes = pytest.mark.parametrize(("n", "d"), SHAPES)


def clusters(n: int, d: int, seed: int = 0, apart: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    rng = default_rng(seed)
    y = np.arange(n) % 3
    return rng.normal(size=(n, d)) + apart * rng.normal(size=(3, d))[y], y


def dense(x: np.ndarray, y: np.ndarray, alpha: float, beta: float) -> float:
    covariance = np.eye(len(x)) / beta + x @ x.T / alpha
    return float(multivariate_normal(np.zeros(len(x)), covariance).logpdf(y))


@sizes
@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 1.0), (0.3, 8.0), (50.0, 0.2)])
def test_density(n: int, d: int, alpha: float, beta: float) -> None:
    x, y = clusters(n, d)
    for c, part in projections(x, y).items():
        assert_allclose(part.log_evidence(alpha, beta), dense(x, 1.0 * (y == c), alpha, beta))


@sizes
def test_value_is_the_mean_of_dense_maxima(n: int, d: int) -> None:
    x, y = clusters(n, d)
    found = class_evidences(x, y)
    densities = [dense(x, 1.0 * (y == c), e.alpha, e.beta) for c, e in found.items()]
    assert_allclose(logme(x, y), np.mean(densities) / n, rtol=1e-6)


@pytest.mark.parametrize(("n", "d"), [(40, 6), (60, 80)])
def test_perturbing_alpha_or_beta_lowers_the_evidence(n: int, d: int) -> None:
    # Noise on top, so that no class is fitted exactly and the maximum lies inside.
    rng = default_rng(1)
    x, y = clusters(n, d)
    x[:, 6:] *= 0.2
    y = np.where(rng.random(n) < 0.2, rng.integers(3, size=n), y)
    parts = projections(x, y)
    for c, evidence in class_evidences(x, y).items():
        target = 1.0 * (y == c)
        best = dense(x, target, evidence.alpha, evidence.beta)
        for a, b in [(1.05, 1), (1 / 1.05, 1), (1, 1.05), (1, 1 / 1.05), (1.05, 1.05)]:
            assert dense(x, target, a * evidence.alpha, b * evidence.beta) < best
        # And nowhere else on a wide grid.
        grid = np.geomspace(1e-6, 1e6, 49)
        assert max(parts[c].log_evidence(a, b) for a in grid for b in grid) <= best


def test_the_maximum_is_the_fixed_point_of_the_original() -> None:
    x, y = clusters(60, 5, apart=3.0)
    singular = np.linalg.svd(x, compute_uv=False) ** 2
    for c, (_, alpha, beta) in class_evidences(x, y).items():
        assert 1e-6 < alpha / beta < 1e6  # inside the range searched
        target = 1.0 * (y == c)
        mean = beta * np.linalg.solve(alpha * np.eye(5) + beta * x.T @ x, x.T @ target)
        used = (beta * singular / (alpha + beta * singular)).sum()
        assert_allclose(alpha, used / (mean @ mean), rtol=1e-4)
        assert_allclose(beta, (60 - used) / ((target - x @ mean) ** 2).sum(), rtol=1e-4)


def test_more_features_than_examples_are_no_better_for_noise() -> None:
    """The original's default gives noise in 2048 dimensions 42 where it should be about -0.6."""
    y = np.arange(200) % 5
    wide = logme(default_rng(0).normal(size=(200, 2048)), y)
    narrow = logme(default_rng(0).normal(size=(200, 16)), y)
    assert_allclose([wide, narrow], -0.6, atol=0.05)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), shape=st.sampled_from(SHAPES), scale=st.floats(0.01, 100))
def test_rotation_scale_and_order_do_not_matter(
    seed: int, shape: tuple[int, int], scale: float
) -> None:
    x, y = clusters(*shape, seed)
    rng = default_rng(seed)
    rotation, order = np.linalg.qr(rng.normal(size=(shape[1],) * 2))[0], rng.permutation(shape[0])
    assert_allclose(logme(scale * (x @ rotation)[order], y[order]), logme(x, y), atol=1e-6)


def test_renaming_classes_does_not_matter() -> None:
    x, y = clusters(40, 5)
    assert_allclose(logme(x, np.array([2, 0, 1])[y]), logme(x, y))
    assert_allclose(logme(x, np.array([5, 0, 9])[y]), logme(x, y))


def test_labels_that_the_features_hold_score_higher() -> None:
    x, y = clusters(60, 8)
    assert logme(x, y) > logme(x, default_rng(0).permutation(y)) + 0.05


def test_half_precision_and_tensors() -> None:
    x, y = clusters(40, 6)
    half = torch.from_numpy(x).half()
    assert logme(half, torch.from_numpy(y)) == logme(half.double().numpy(), y)


def test_features_that_are_the_labels() -> None:
    y = np.arange(12) % 3
    with pytest.raises(InputError, match="exact linear function of the features, of rank 3"):
        logme(np.eye(3)[y], y)
