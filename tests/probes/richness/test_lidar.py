"""LiDAR against SciPy's generalised symmetric eigenproblem."""

import numpy as np
import pytest
from numpy.random import default_rng
from numpy.testing import assert_allclose
from scipy.linalg import eigh

from core.errors import InputError
from probes.richness import lidar
from tests.probes.richness.features import rotation


def views(num: int, dim: int, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Two to four views of each image."""
    generator = default_rng(seed)
    y = np.repeat(np.arange(num), 2 + np.arange(num) % 3)
    z = generator.normal(size=(num, dim))[y] + 0.3 * generator.normal(size=(len(y), dim)) + 4
    return z * np.linspace(0.1, 2, dim), y


@pytest.mark.parametrize(("num", "dim"), [(12, 5), (5, 12), (3, 40)])
@pytest.mark.parametrize("eps", [1e-8, 1e-3])
def test_it_is_the_rank_of_the_generalised_eigenvalues(num: int, dim: int, eps: float) -> None:
    z, y = views(num, dim)
    between = np.cov(np.stack([z[y == k].mean(0) for k in range(num)]), rowvar=False)
    within = np.mean([np.cov(z[y == k], rowvar=False) for k in range(num)], axis=0)
    values = eigh(between, within + 1e-4 * np.eye(dim), eigvals_only=True)
    bound = min(dim, num - 1)
    p = np.sort(values)[-bound:] / values.sum() + eps
    found = lidar(z, y, eps=eps)
    assert_allclose(found.value, np.exp(-(p * np.log(p)).sum()), rtol=1e-8)
    assert (found.num_classes, found.bound) == (num, bound)


def test_equal_discriminants_reach_the_bound() -> None:
    corners = np.eye(6) - 1 / 6
    y = np.repeat(np.arange(6), 2)
    found = lidar(corners[y], y)
    assert found.bound == 5
    assert_allclose(found.value, 5, rtol=1e-6)  # eps is added five times


def test_noise_within_images_takes_directions_away() -> None:
    """Features that tell images apart count; ones that views change at random do not."""
    generator, y = default_rng(0), np.repeat(np.arange(40), 10)
    signal = generator.normal(size=(40, 6))[y]
    noise = generator.normal(size=(400, 6))
    clean = lidar(signal + 0.01 * noise, y).value
    half = lidar(signal * [1, 1, 1, 0, 0, 0] + 0.01 * noise, y).value
    assert clean > 5 and half < 3.1


def test_rotation_and_order_leave_it_as_it_is() -> None:
    z, y = views(12, 5)
    order = default_rng(1).permutation(len(y))
    for other in ((z @ rotation(5), y), (z[order], y[order]), (z + 3, y)):
        assert_allclose(lidar(*other).value, lidar(z, y).value, rtol=1e-9)


def test_what_has_no_discriminants_is_refused() -> None:
    z, y = views(4, 3)
    with pytest.raises(InputError, match="single view"):
        lidar(z, np.where(np.arange(len(y)) == 0, 4, y))
    with pytest.raises(InputError, match="one class"):
        lidar(z, np.zeros(len(y), int))
    with pytest.raises(InputError, match="means of all surrogate classes"):
        lidar(np.array([[1.0], [-1], [1], [-1]]), np.array([0, 0, 1, 1]))
    with pytest.raises(InputError, match="delta"):
        lidar(z, y, delta=0)
