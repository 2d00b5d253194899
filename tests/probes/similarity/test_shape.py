"""Tests for probes/similarity/shape.py."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from scipy.linalg import orthogonal_procrustes, subspace_angles
from sklearn.cross_decomposition import CCA
from torch import Tensor

from core.errors import InputError
from probes.similarity import (
    mean_canonical_correlation,
    permutation_null,
    principal_directions,
    procrustes_distance,
    shape_angle,
    svcca,
    unit_shape,
)


def centred(x: Tensor) -> np.ndarray:
    return (x - x.mean(0)).numpy()


@pytest.mark.parametrize(("num", "width"), [(40, 6), (8, 30)])
def test_procrustes_equals_the_angle_after_scipys_rotation(num: int, width: int) -> None:
    x = torch.randn(num, width)
    y = x @ torch.randn(width, width) + torch.randn(num, width)
    a, b = centred(x), centred(y)
    rotation, nuclear = orthogonal_procrustes(b, a)
    norms = np.linalg.norm(a) * np.linalg.norm(b)
    found = procrustes_distance(x, y)
    assert found == pytest.approx(math.acos((a * (b @ rotation)).sum() / norms), rel=1e-9)
    assert found == pytest.approx(math.acos(nuclear / norms), rel=1e-9)


@pytest.mark.parametrize("width", [3, 50])
def test_procrustes_pads_the_narrower_with_zeros(width: int) -> None:
    x, y = torch.randn(20, 60), torch.randn(20, width)
    padded = torch.cat([y, torch.zeros(20, 60 - width)], 1)
    assert procrustes_distance(x, y) == pytest.approx(procrustes_distance(x, padded), rel=1e-12)


def test_procrustes_is_a_metric() -> None:
    for _ in range(30):
        x, y, z = (torch.randn(7, 3) for _ in range(3))
        xy, yz, xz = (procrustes_distance(a, b) for a, b in ((x, y), (y, z), (x, z)))
        assert xz <= xy + yz
        assert xy == pytest.approx(procrustes_distance(y, x), rel=1e-9)


def test_orthogonal_subspaces_of_examples_are_as_far_as_can_be() -> None:
    basis = torch.linalg.qr(torch.randn(20, 6) - torch.randn(20, 6).mean(0)).Q
    basis = torch.linalg.qr(basis - basis.mean(0)).Q
    assert procrustes_distance(basis[:, :3], basis[:, 3:]) == pytest.approx(math.pi / 2)


@pytest.mark.parametrize("width", [4, 40])
def test_reduced_representations_give_the_same_null(width: int) -> None:
    x, y = torch.randn(25, 5), torch.randn(25, width)
    shapes = permutation_null(shape_angle, unit_shape(x), unit_shape(y), 5)
    plain = permutation_null(procrustes_distance, x.numpy(), y.numpy(), 5)
    np.testing.assert_allclose(shapes.null, plain.null, rtol=1e-10)
    directions = principal_directions(x, 0.8), principal_directions(y, 0.8)
    subspaces = permutation_null(mean_canonical_correlation, *directions, 5)
    plain = permutation_null(partial(svcca, share=0.8), x.numpy(), y.numpy(), 5)
    np.testing.assert_allclose(subspaces.null, plain.null, rtol=1e-10)


def test_null_of_single_components_has_a_closed_form() -> None:
    """Of one component each, SVCCA is |r|, with E r^2 = 1 / (N - 1), and Procrustes its arc."""
    x, y = torch.randn(30, 1), torch.randn(30, 1)
    directions = principal_directions(x), principal_directions(y)
    null = permutation_null(mean_canonical_correlation, *directions, 4000).null
    squares = null**2
    assert squares.mean() == pytest.approx(1 / 29, abs=4 * squares.std() / 4000**0.5)
    angles = permutation_null(shape_angle, unit_shape(x), unit_shape(y), 100).null
    np.testing.assert_allclose(np.cos(angles), null[:100], rtol=1e-9)


def test_svcca_equals_sklearns_canonical_correlations() -> None:
    shared = torch.randn(200, 2)
    x = torch.cat([shared + 0.5 * torch.randn(200, 2), torch.randn(200, 1)], 1)
    y = torch.cat([shared + 0.5 * torch.randn(200, 2), torch.randn(200, 2)], 1)
    u, v = CCA(3, max_iter=20_000, tol=1e-14).fit_transform(x.numpy(), y.numpy())
    expected = np.mean([np.corrcoef(u[:, i], v[:, i])[0, 1] for i in range(3)])
    assert svcca(x, y, share=1) == pytest.approx(expected, rel=1e-6)  # an iterative oracle


def test_svcca_equals_the_angles_between_principal_subspaces() -> None:
    scales = torch.tensor([4.0, 3, 2, 1, 0.1, 0.01])
    shared = torch.randn(80, 6)
    x, y = ((shared + torch.randn(80, 6)) * scales @ torch.randn(6, 6) for _ in range(2))
    bases = []
    for z in (centred(x), centred(y)):
        u, s, _ = np.linalg.svd(z, full_matrices=False)
        held = np.cumsum(s**2) / np.sum(s**2)
        bases.append(u[:, : int(np.argmax(held >= 0.95)) + 1])
    expected = np.cos(subspace_angles(*bases)).mean()
    assert svcca(x, y, share=0.95) == pytest.approx(expected, rel=1e-10)


def test_a_share_of_one_ignores_directions_of_rounding() -> None:
    x, y = torch.randn(60, 3), torch.randn(60, 3)
    wide = x @ torch.randn(3, 20)
    assert svcca(wide, y, share=1) == pytest.approx(svcca(x, y, share=1), rel=1e-9)


def test_errors_say_what_was_found() -> None:
    x = torch.randn(10, 3)
    for measure in (procrustes_distance, svcca):
        with pytest.raises(InputError, match="x has 10 examples and y 9"):
            measure(x, x[:9])
        with pytest.raises(InputError, match="y are the same for all 10 examples"):
            measure(x, torch.ones(10, 2))
        with pytest.raises(InputError, match="x have 1 examples; at least 2"):
            measure(x[:1], x[:1])
    with pytest.raises(InputError, match="expected 0 < share <= 1"):
        svcca(x, x, share=0)
    with pytest.raises(InputError, match="9 and 9 components of 10 examples correlate by count"):
        svcca(torch.randn(10, 30), torch.randn(10, 30), share=1)
