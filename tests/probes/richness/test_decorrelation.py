"""Correlation, covariance and coverage of the sphere against NumPy and SciPy."""

import numpy as np
import pytest
import torch
from numpy.random import default_rng
from numpy.testing import assert_allclose
from scipy.spatial.distance import pdist

from core.errors import InputError
from probes.richness import (
    alignment,
    correlation,
    covariance_term,
    decorrelation,
    normalised_std,
    uniformity,
)
from tests.probes.richness.features import rotation

SHAPES = [(50, 7), (7, 50)]


def correlated(shape: tuple[int, int]) -> np.ndarray:
    generator = default_rng(0)
    return generator.normal(size=shape) + generator.normal(size=(shape[0], 1)) + 2


def off_diagonal(matrix: np.ndarray) -> np.ndarray:
    return matrix[~np.eye(len(matrix), dtype=bool)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("columns", [3, 256])
def test_correlation_is_that_of_numpy(
    shape: tuple[int, int], columns: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decorrelation, "COLUMNS", columns)
    z = correlated(shape)
    found = correlation(z)
    assert_allclose(found.value, np.abs(off_diagonal(np.corrcoef(z, rowvar=False))).mean())
    assert found.constant_columns == 0


@pytest.mark.parametrize("shape", SHAPES)
def test_constant_columns_are_dropped_and_counted(shape: tuple[int, int]) -> None:
    z = correlated(shape)
    more = np.insert(z, [0, 3], 0.1, axis=1)
    found = correlation(more)
    assert_allclose(found.value, correlation(z).value)
    assert found.constant_columns == 2


def test_correlation_knows_no_scale_of_features() -> None:
    z, scales = correlated((50, 7)), default_rng(1).uniform(0.1, 10, 7)
    assert_allclose(correlation(z * scales + 3).value, correlation(z).value)
    assert_allclose(correlation(np.outer(z[:, 0], scales)).value, 1)


def test_the_correlation_of_independent_features_is_that_of_chance() -> None:
    found = correlation(default_rng(0).normal(size=(2000, 40))).value
    assert_allclose(found, (2 / (np.pi * 2000)) ** 0.5, rtol=0.05)


@pytest.mark.parametrize("shape", SHAPES)
def test_covariance_term_is_the_sum_off_the_diagonal(shape: tuple[int, int]) -> None:
    z = correlated(shape)
    covariance = np.cov(z, rowvar=False)
    assert_allclose(covariance_term(z), (off_diagonal(covariance) ** 2).sum() / shape[1])


def test_uncorrelated_features_have_no_covariance_term() -> None:
    z = np.array([[1.0, 1], [1, -1], [-1, 1], [-1, -1]])
    assert covariance_term(z) < 1e-15 and correlation(z).value < 1e-15


def test_normalised_std_is_that_of_unit_vectors() -> None:
    z = correlated((50, 7))
    unit = z / np.linalg.norm(z, axis=1, keepdims=True)
    assert_allclose(normalised_std(z), unit.std(0).mean() * 7**0.5)
    assert_allclose(normalised_std(np.outer(np.arange(1.0, 5), [1, 2])), 0, atol=1e-12)
    assert_allclose(normalised_std(np.concatenate([np.eye(5), -np.eye(5)])), 1)


def test_uniformity_is_the_mean_over_pairs() -> None:
    z = correlated((50, 7))
    unit = z / np.linalg.norm(z, axis=1, keepdims=True)
    found = uniformity(z)
    assert_allclose(found.value, np.log(np.exp(-2 * pdist(unit, "sqeuclidean")).mean()))
    assert found.num_examples == 50


def test_uniformity_of_many_examples_is_estimated_on_some() -> None:
    z = default_rng(0).normal(size=(3000, 4))
    exact = uniformity(z, max_examples=3000).value
    some = uniformity(z)
    assert some.num_examples == 1024 and some == uniformity(z)
    assert uniformity(z, seed=1) != some
    errors = [
        np.mean([abs(uniformity(z, seed=s, max_examples=n).value - exact) for s in range(10)])
        for n in (50, 1000)
    ]
    assert errors[1] < errors[0] / 3  # the root of 20 expected


def test_alignment_is_the_mean_squared_distance_of_directions() -> None:
    generator = default_rng(0)
    first, second = generator.normal(size=(2, 20, 5))
    unit = [z / np.linalg.norm(z, axis=1, keepdims=True) for z in (first, second)]
    assert_allclose(alignment(first, second), ((unit[0] - unit[1]) ** 2).sum(1).mean())
    assert_allclose(alignment(first, 3 * first), 0, atol=1e-15)
    assert_allclose(alignment(first, -first), 4)


def test_rotation_and_order_leave_the_sphere_as_it_is() -> None:
    z, order = correlated((50, 7)), default_rng(1).permutation(50)
    for other in (z @ rotation(7), z[order], 5 * z):
        assert_allclose(uniformity(other).value, uniformity(z).value)
    for other in (z[order], 5 * z, z[:, ::-1].copy()):
        assert_allclose(normalised_std(other), normalised_std(z))


def test_an_example_without_direction_is_refused() -> None:
    z = np.array([[1.0, 2], [0, 0], [3, 4]])
    for measure in (uniformity, normalised_std, lambda z: alignment(z, z)):
        with pytest.raises(InputError, match="1 of 3 examples are zero"):
            measure(z)


def test_what_makes_no_pairs_is_refused() -> None:
    with pytest.raises(InputError, match="1 of 2 features vary"):
        correlation(np.array([[1.0, 2], [1, 3]]))
    with pytest.raises(InputError, match="two views"):
        alignment(np.ones((2, 3)), np.ones((3, 2)))
    with pytest.raises(InputError, match="max_examples"):
        uniformity(torch.ones(3, 2), max_examples=1)


def test_features_are_not_changed() -> None:
    z = correlated((50, 7))
    before = z.copy()
    for measure in (uniformity, normalised_std, correlation, lambda z: alignment(z, z)):
        measure(z)
    assert (z == before).all()
