"""Tests for probes/transfer/h_score.py: dense formula, and noise, which must score nothing."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.random import default_rng
from numpy.testing import assert_allclose
from sklearn.covariance import ledoit_wolf

from probes.transfer import h_score


def clusters(n: int, d: int, k: int, seed: int, apart: float) -> tuple[np.ndarray, np.ndarray]:
    rng = default_rng(seed)
    y = np.arange(n) % k
    return rng.normal(size=(n, d)) + apart * rng.normal(size=(k, d))[y], y


def means_of(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.array([x[y == label].mean(0) for label in y])


def unregularised(x: np.ndarray, y: np.ndarray) -> float:
    between = np.cov(means_of(x, y), rowvar=False)
    return float(np.trace(np.linalg.pinv(np.cov(x, rowvar=False), rcond=1e-10) @ between))


@pytest.mark.parametrize(("n", "d"), [(60, 5), (30, 50)])
def test_dense_formula(n: int, d: int) -> None:
    x, y = clusters(n, d, 3, 0, 1.0)
    covariance, shrinkage = ledoit_wolf(x)
    between = np.cov(means_of(x, y), rowvar=False, bias=True)
    expected = np.trace(np.linalg.inv(covariance) @ between) * (1 - shrinkage)
    assert_allclose(h_score(x, y), expected)


@pytest.mark.parametrize(
    ("n", "d", "limit", "pseudo_inverse"),
    [(4000, 128, 0.02, 0.135), (150, 128, 0.15, 3.4), (100, 256, 0.5, 4.0)],
)
def test_noise_scores_next_to_nothing_where_the_pseudo_inverse_scores_all_there_is(
    n: int, d: int, limit: float, pseudo_inverse: float
) -> None:
    x, y = clusters(n, d, 5, 0, 0.0)
    assert 0 <= h_score(x, y) < limit
    assert_allclose(unregularised(x, y), pseudo_inverse, rtol=0.1)


def test_permuted_labels_score_nothing() -> None:
    x, y = clusters(400, 20, 4, 0, 3.0)
    assert h_score(x, y) > 2
    assert h_score(x, default_rng(1).permutation(y)) < 0.2


def test_classes_far_apart_score_one_less_than_their_number() -> None:
    x, y = clusters(20_000, 6, 4, 0, 300.0)
    assert_allclose(h_score(x, y), 3, atol=0.02)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), scale=st.floats(0.01, 100))
def test_rotation_scale_shift_and_names_do_not_matter(seed: int, scale: float) -> None:
    rng = default_rng(seed)
    x, y = clusters(40, 6, 3, seed, 1.0)
    rotation, order = np.linalg.qr(rng.normal(size=(6, 6)))[0], rng.permutation(40)
    moved = scale * (x @ rotation) + 5
    assert_allclose(h_score(moved[order], rng.permutation(3)[y[order]]), h_score(x, y), rtol=1e-6)


def test_constant_columns_change_nothing() -> None:
    x, y = clusters(40, 6, 3, 0, 1.0)
    assert_allclose(h_score(np.insert(x, [0, 3], 7.0, axis=1), y), h_score(x, y))
