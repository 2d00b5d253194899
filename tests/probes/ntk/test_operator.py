"""Tests for probes/ntk/operator.py: products with a kernel that is never formed."""

import numpy as np
import pytest
import torch
from models import network
from scipy.sparse.linalg import aslinearoperator, cg, eigsh
from torch import Tensor, nn
from torch.nn import Module
from torch.testing import assert_close

from core.linearization import Weights
from probes.ntk import NTKOperator, empirical_ntk


def problem(name: str, num_images: int = 4) -> tuple[Module, Weights, Tensor]:
    model, x, _, _ = network(name, num_images=num_images)
    return model, dict(model.named_parameters()), x


def dense(model: Module, params: Weights, x: Tensor, **options: object) -> np.ndarray:
    kernel = empirical_ntk(model, params, x, **options)  # type: ignore[arg-type]
    assert isinstance(kernel, Tensor)
    return kernel.flatten(2).flatten(0, 1).numpy()


def assert_near(found: object, truth: np.ndarray) -> None:
    assert np.linalg.norm(np.asarray(found) - truth) < 1e-9 * np.linalg.norm(truth)


@pytest.mark.parametrize("batch_size", [3, 32])
@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet_ln"])
def test_products_match_the_kernel(name: str, batch_size: int) -> None:
    model, params, x = problem(name)
    operator = NTKOperator(model, params, x, batch_size=batch_size)
    v = np.random.default_rng(0).standard_normal((operator.shape[0], 2))
    kernel = dense(model, params, x)
    assert operator.shape == kernel.shape
    assert_near(operator.dot(v[:, 0]), kernel @ v[:, 0])
    assert_near(operator.dot(v), kernel @ v)
    assert_near(operator.T.dot(v), kernel @ v)


def test_single_precision_vectors_stay_double() -> None:
    model, params, x = problem("test_resnet")
    operator = NTKOperator(model, params, x, dtype=torch.float32)
    v = np.ones(operator.shape[0])
    found, truth = operator @ v, dense(model, params, x) @ v
    assert found.dtype == np.float64
    # The network runs in single precision.
    assert np.linalg.norm(found - truth) < 1e-5 * np.linalg.norm(truth)


def test_largest_eigenvalues() -> None:
    model, params, x = problem("test_resnet")
    found = eigsh(NTKOperator(model, params, x), 3, return_eigenvectors=False)
    truth = np.linalg.eigvalsh(dense(model, params, x))[-3:]
    np.testing.assert_allclose(np.sort(found), truth, rtol=1e-8)


def test_a_ridge_regression_is_solved() -> None:
    model, params, x = problem("test_resnet")
    kernel = dense(model, params, x)
    ridge = 0.01 * np.trace(kernel) / len(kernel)
    operator = NTKOperator(model, params, x) + aslinearoperator(ridge * np.eye(len(kernel)))
    y = np.random.default_rng(0).standard_normal(len(kernel))
    found, failed = cg(operator, y, rtol=1e-12)
    assert not failed
    truth = np.linalg.solve(kernel + ridge * np.eye(len(kernel)), y)
    np.testing.assert_allclose(found, truth, rtol=1e-6)


@pytest.mark.parametrize("name", ["test_resnet", "test_convnext"])
def test_the_two_products_are_adjoint(name: str) -> None:
    model, params, x = problem(name)
    operator = NTKOperator(model, params, x, batch_size=3)
    v = {n: torch.randn_like(p) for n, p in params.items()}
    u = torch.randn(len(x), 3)
    back = operator.transposed_product(u)
    assert back.keys() == params.keys()
    assert not any(g.requires_grad for g in back.values())
    left = (u * operator.jacobian_product(v)).sum()
    assert_close(left, torch.stack([(back[n] * v[n]).sum() for n in v]).sum())


def test_features_and_named_layers() -> None:
    model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).eval()
    params, x = dict(model.named_parameters()), torch.randn(3, 4)
    kernel = dense(model, params, x, layer="1")
    assert_near(NTKOperator(model, params, x, layer="1") @ np.eye(15), kernel)


def test_weights_that_are_left_out_are_constant() -> None:
    model, params, x = problem("test_resnet", 2)
    some = {n: p for n, p in params.items() if n.startswith("layer1")}
    found = NTKOperator(model, some, x) @ np.eye(6)
    assert_near(found, dense(model, some, x))
