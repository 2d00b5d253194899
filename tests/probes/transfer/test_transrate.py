"""Tests for probes/transfer/transrate.py: determinants written out, and its bounds."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.random import default_rng
from numpy.testing import assert_allclose

from core.errors import InputError
from probes.transfer import transrate


def clusters(n: int, d: int, seed: int = 0, apart: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    rng = default_rng(seed)
    y = np.minimum(np.arange(n) % 5, 2)
    return rng.normal(size=(n, d)) + apart * rng.normal(size=(3, d))[y], y


def rate(z: np.ndarray, eps: float) -> float:
    return 0.5 * np.log(np.linalg.det(np.eye(z.shape[1]) + z.T @ z / (len(z) * eps)))


@pytest.mark.parametrize(("n", "d"), [(40, 4), (9, 12)])
def test_determinants(n: int, d: int) -> None:
    x, y = clusters(n, d)
    z = x - x.mean(0)
    within = sum(np.mean(y == c) * rate(z[y == c], 0.1) for c in range(3))
    assert_allclose(transrate(x, y, eps=0.1), rate(z, 0.1) - within)


def test_plain_mean_of_the_published_code_for_balanced_classes() -> None:
    x = clusters(30, 4)[0]
    y = np.arange(30) % 3
    z = x - x.mean(0)
    published = rate(z, 1e-4) - np.mean([rate(z[y == c], 1e-4) for c in range(3)])
    assert_allclose(transrate(x, y), published)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), eps=st.floats(1e-4, 10))
def test_never_negative_and_invariant(seed: int, eps: float) -> None:
    """Not negative by the concavity of ln det; rotation, shift and names do not matter."""
    rng = default_rng(seed)
    x, y = clusters(25, 6, seed, apart=0.3)
    value = transrate(x, y, eps=eps)
    rotation = np.linalg.qr(rng.normal(size=(6, 6)))[0]
    assert value >= -1e-12
    assert_allclose(transrate(x @ rotation + 3, rng.permutation(3)[y], eps=eps), value, atol=1e-8)


def test_scale_is_that_of_the_distortion() -> None:
    x, y = clusters(30, 5)
    assert_allclose(transrate(10 * x, y, eps=0.5), transrate(x, y, eps=0.005))


def test_labels_that_the_features_hold_score_higher() -> None:
    x, y = clusters(200, 5, apart=3.0)
    assert transrate(x, y) > 5 * transrate(x, default_rng(0).permutation(y))


@pytest.mark.parametrize("eps", [0.0, -1.0, np.nan])
def test_no_distortion(eps: float) -> None:
    with pytest.raises(InputError, match="a positive distortion was expected"):
        transrate(*clusters(10, 2), eps=eps)
