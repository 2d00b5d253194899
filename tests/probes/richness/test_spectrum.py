"""Moments and eigenvalues against NumPy's singular values, whole, in blocks and downdated."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.random import default_rng
from numpy.testing import assert_allclose

from core.errors import InputError
from probes.richness import Moments, spectrum

SHAPES = [(40, 7), (7, 40), (12, 12), (2, 3)]


def squares(z: np.ndarray) -> np.ndarray:
    return np.linalg.svd(z, compute_uv=False) ** 2


@pytest.mark.parametrize("shape", SHAPES)
def test_eigenvalues_are_squared_singular_values(shape: tuple[int, int]) -> None:
    z = default_rng(0).normal(size=shape) + 3
    moments = Moments.of(z)
    scale = squares(z)[0]
    assert_allclose(moments.eigenvalues(centred=False), squares(z), atol=1e-13 * scale)
    assert_allclose(moments.eigenvalues(), squares(z - z.mean(0)), atol=1e-13 * scale)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("centred", [True, False])
def test_totals_need_no_eigenvalues(shape: tuple[int, int], centred: bool) -> None:
    z = default_rng(0).normal(size=shape) + 3
    moments, values = Moments.of(z), squares(z - z.mean(0) * centred)
    assert_allclose(moments.total(centred=centred), values.sum())
    assert_allclose(moments.total_of_squares(centred=centred), (values**2).sum())


@pytest.mark.parametrize("shape", SHAPES)
def test_variances_and_norms(shape: tuple[int, int]) -> None:
    z = default_rng(0).normal(size=shape) + 3
    moments = Moments.of(z)
    assert_allclose(moments.variances, z.var(0, ddof=1))
    assert_allclose(moments.square_norms, ((z - z.mean(0)) ** 2).sum(1))


@pytest.mark.parametrize("shape", [(50, 6), (6, 50)])
def test_blocks_make_no_difference(
    shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    z = default_rng(0).normal(size=shape)
    whole = Moments.of(z)
    monkeypatch.setattr(spectrum, "BLOCK_BYTES", 8 * 6 * 7)
    parts = Moments.of(z)
    torch.testing.assert_close(parts.scatter, whole.scatter)
    torch.testing.assert_close(parts.mean, whole.mean)
    torch.testing.assert_close(parts.square_norms, whole.square_norms)
    assert_allclose(parts.eigenvalues(centred=False), whole.eigenvalues(centred=False))


@pytest.mark.parametrize("shape", [(60, 5), (20, 30), (12, 10)])
@pytest.mark.parametrize("num_dropped", [1, 3, 9])
def test_a_subset_is_what_its_examples_give(shape: tuple[int, int], num_dropped: int) -> None:
    z = default_rng(0).normal(size=shape) + 3
    kept = np.sort(default_rng(1).permutation(shape[0])[num_dropped:])
    part, anew = Moments.of(z).subset(torch.from_numpy(kept)), Moments.of(z[kept])
    torch.testing.assert_close(part.mean, anew.mean)
    torch.testing.assert_close(part.scatter, anew.scatter, rtol=1e-11, atol=1e-11)
    for centred in (True, False):
        expected = anew.eigenvalues(centred=centred)
        assert_allclose(
            part.eigenvalues(centred=centred), expected, rtol=1e-11, atol=1e-11 * expected[0]
        )


@settings(derandomize=True, max_examples=15, deadline=None)
@given(st.integers(2, 12), st.integers(1, 12), st.integers(0, 100))
def test_rounding_noise_is_zero(num: int, dim: int, seed: int) -> None:
    """Features of rank one have one eigenvalue, whatever the shape."""
    generator = default_rng(seed)
    z = np.outer(generator.normal(size=num), generator.normal(size=dim))
    moments = Moments.of(z)
    assert np.count_nonzero(moments.eigenvalues()) == 1
    assert np.count_nonzero(moments.eigenvalues(centred=False)) == 1
    assert len(moments.eigenvalues()) == min(num, dim)


def test_constant_features_deviate_by_exactly_zero() -> None:
    z = np.column_stack([np.full(1000, 0.1), default_rng(0).normal(size=1000)])
    assert Moments.of(z).variances[0] == 0
    assert Moments.of(z[:, :1]).total() == 0


def test_a_large_mean_costs_no_digits() -> None:
    """Taking the mean off the uncentred scatter would leave an error of 1e-16 * 1e16 here."""
    z = default_rng(0).integers(-3, 4, size=(64, 4)) * 1.0
    moved = Moments.of(z + 2.0**26)
    assert_allclose(moved.eigenvalues(), Moments.of(z).eigenvalues(), rtol=1e-12)


def test_single_precision_is_summed_in_double() -> None:
    z = default_rng(0).normal(size=(30, 4)).astype(np.float32)
    moments = Moments.of(z)
    assert moments.features.dtype == torch.float32 and moments.scatter.dtype == torch.float64
    assert_allclose(moments.eigenvalues(), Moments.of(z.astype(np.float64)).eigenvalues())


def test_features_are_neither_copied_nor_changed() -> None:
    z = torch.randn(30, 4)
    before, moments = z.clone(), Moments.of(z)
    values = moments.eigenvalues(centred=False)
    scatter = moments.scatter.clone()
    assert moments.eigenvalues(centred=False) is values and len(moments.eigenvalues()) == 4
    assert moments.features.data_ptr() == z.data_ptr()
    assert z.equal(before) and moments.scatter.equal(scatter)


def test_one_example_has_no_spectrum() -> None:
    with pytest.raises(InputError, match="1 examples; at least 2"):
        Moments.of(np.ones((1, 3)))
