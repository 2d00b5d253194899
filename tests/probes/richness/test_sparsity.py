"""Sparsity: known vectors, SciPy and double loops, blocks, and refusals."""

from dataclasses import asdict

import numpy as np
import pytest
from numpy.random import default_rng
from numpy.testing import assert_allclose
from scipy.stats import kurtosis

from core import arrays
from core.errors import InputError
from probes.richness import sparsity


def rectified(num: int = 30, dim: int = 8) -> np.ndarray:
    return default_rng(0).normal(size=(num, dim)).clip(min=0)


def gini(a: np.ndarray) -> float:
    """Mean absolute difference over twice the mean."""
    return float(np.abs(a[:, None] - a).mean() / (2 * a.mean()))


def treves_rolls(a: np.ndarray) -> float:
    return float((1 - a.mean() ** 2 / (a**2).mean()) / (1 - 1 / len(a)))


def test_measures_of_an_example_are_means_over_examples() -> None:
    z = default_rng(0).normal(size=(30, 8))
    a, found = np.abs(z), sparsity(z)
    hoyer = (8**0.5 - a.sum(1) / np.linalg.norm(a, axis=1)) / (8**0.5 - 1)
    assert_allclose(found.hoyer, hoyer.mean())
    assert_allclose(found.gini, np.mean([gini(row) for row in a]))
    assert_allclose(found.population_sparsity, np.mean([treves_rolls(row) for row in a]))
    assert_allclose(found.lifetime_sparsity, np.mean([treves_rolls(unit) for unit in a.T]))
    assert_allclose(found.kurtosis, kurtosis(z, axis=1).mean())


def test_one_active_unit_is_as_sparse_as_can_be_and_equal_ones_as_little() -> None:
    single = sparsity(np.repeat(np.eye(4), 3, axis=0))
    assert_allclose([single.hoyer, single.population_sparsity], 1)
    assert_allclose(single.gini, 0.75)  # 1 - 1/D
    equal = sparsity(np.ones((3, 4)))
    assert_allclose(
        [equal.hoyer, equal.population_sparsity, equal.gini, equal.kurtosis], 0, atol=1e-12
    )
    assert_allclose(equal.lifetime_sparsity, 0, atol=1e-12)


def test_zeros_and_dead_units_are_counted() -> None:
    z = rectified()
    z[:, [2, 5]] = 0
    z[0, 2] = 1e-3
    found = sparsity(z)
    assert found.zero_share == (z == 0).mean()
    assert (found.dead_units, found.dead_share, found.num_examples) == (1, 1 / 8, 30)
    assert sparsity(z, tau=1e-3).dead_units == 2
    assert sparsity(-z).dead_units == 1


def test_dead_units_revive_with_more_examples() -> None:
    z = default_rng(0).normal(size=(500, 50)) - 2.5
    dead = [sparsity(z[:num].clip(min=0)).dead_units for num in (20, 100, 500)]
    assert dead[0] > dead[1] > dead[2]


def test_examples_without_activity_are_left_out_and_counted() -> None:
    z = rectified()
    with_zeros = np.concatenate([z, np.zeros((5, 8))])
    found, expected = sparsity(with_zeros), sparsity(z)
    assert found.zero_examples == 5 and expected.zero_examples == 0
    assert_allclose(
        [found.hoyer, found.gini, found.kurtosis],
        [expected.hoyer, expected.gini, expected.kurtosis],
    )


def test_blocks_order_and_scale_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    z, generator = rectified(), default_rng(1)
    whole = asdict(sparsity(z))
    others = [3.5 * z, z[generator.permutation(30)], z[:, generator.permutation(8)]]
    for other in others:
        assert_allclose(list(asdict(sparsity(other)).values()), list(whole.values()))
    monkeypatch.setattr(arrays, "BLOCK_BYTES", 8 * 8 * 7)
    assert_allclose(list(asdict(sparsity(z)).values()), list(whole.values()))


def test_what_has_no_sparsity_is_refused() -> None:
    with pytest.raises(InputError, match="all 3 examples are zero"):
        sparsity(np.zeros((3, 2)))
    with pytest.raises(InputError, match="1 feature"):
        sparsity(np.ones((3, 1)))
    with pytest.raises(InputError, match="1 examples"):
        sparsity(np.ones((1, 3)))
    with pytest.raises(InputError, match="tau"):
        sparsity(np.ones((3, 2)), tau=-1)
