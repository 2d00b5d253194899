"""Tests for probes/ntk on a GPU: kernel, operator and sketch against the CPU."""

import numpy as np
import pytest
import torch
from models import network
from torch import Tensor
from torch.nn import Module

from core.linearization import Weights
from probes.ntk import NTKOperator, empirical_ntk, sketched_features

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU of CUDA")
NAMES = ["test_resnet", "test_vit"]


def on_both(name: str) -> tuple[Module, Module, Tensor]:
    """The same network on the CPU and on the GPU, and images on the CPU."""
    torch.manual_seed(0)
    model, x, _, _ = network(name, num_images=3)
    there = network(name).model
    there.load_state_dict(model.state_dict())
    return model, there.cuda(), x


def params_of(model: Module) -> Weights:
    return dict(model.named_parameters())


def assert_near(found: Tensor, truth: Tensor, tolerance: float) -> None:
    assert found.device.type == "cuda"
    assert found.shape == truth.shape
    assert (found.cpu().double() - truth).norm() < tolerance * truth.norm()


@pytest.mark.parametrize("method", ["structured", "dense", "reference"])
@pytest.mark.parametrize("outputs", ["full", "trace", "diagonal"])
@pytest.mark.parametrize("name", NAMES)
def test_kernel(name: str, outputs: str, method: str) -> None:
    model, there, x = on_both(name)
    truth = empirical_ntk(model, params_of(model), x, outputs=outputs)  # type: ignore[arg-type]
    assert isinstance(truth, Tensor)
    for images in (x, x.cuda()):
        found = empirical_ntk(there, params_of(there), images, outputs=outputs, method=method)  # type: ignore[arg-type]
        assert isinstance(found, Tensor)
        assert_near(found, truth, 1e-10)


@pytest.mark.parametrize("name", NAMES)
def test_kernel_in_single_precision(name: str) -> None:
    model, there, x = on_both(name)
    truth = empirical_ntk(model, params_of(model), x)
    found = empirical_ntk(there, params_of(there), x, dtype=torch.float32)
    assert isinstance(truth, Tensor)
    assert isinstance(found, Tensor)
    assert_near(found, truth, 1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_rectangle(name: str) -> None:
    model, there, x = on_both(name)
    truth = empirical_ntk(model, params_of(model), x[:1], x[1:])
    found = empirical_ntk(there, params_of(there), x[:1], x[1:])
    assert isinstance(truth, Tensor)
    assert isinstance(found, Tensor)
    assert_near(found, truth, 1e-10)


@pytest.mark.parametrize("name", NAMES)
def test_operator(name: str) -> None:
    model, there, x = on_both(name)
    vectors = np.random.default_rng(0).standard_normal((9, 2))
    truth = NTKOperator(model, params_of(model), x) @ vectors
    found = NTKOperator(there, params_of(there), x) @ vectors
    assert np.linalg.norm(found - truth) < 1e-10 * np.linalg.norm(truth)


@pytest.mark.parametrize("kind", ["kronecker", "count"])
@pytest.mark.parametrize("name", NAMES)
def test_projections_are_those_of_the_cpu(name: str, kind: str) -> None:
    model, there, x = on_both(name)
    options = {"num_features": 32, "kind": kind, "replicates": 2}
    truth = sketched_features(model, params_of(model), x, **options)  # type: ignore[arg-type]
    assert_near(sketched_features(there, params_of(there), x, **options), truth, 1e-10)  # type: ignore[arg-type]
