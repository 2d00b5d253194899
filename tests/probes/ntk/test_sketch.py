"""Tests for probes/ntk/sketch.py: estimators by convergence to the exact kernel."""

import pytest
import torch
from models import network
from torch import Tensor, nn
from torch.nn import Module
from torch.testing import assert_close

from core.linearization import Weights
from probes.ntk import empirical_ntk, estimated_kernel, sketched_features

KINDS = ["kronecker", "count"]


def problem() -> tuple[Module, Weights, Tensor]:
    """Both kinds of factors: a convolution, wide layers and small ones."""
    model = nn.Sequential(
        nn.Conv2d(2, 16, 3),
        nn.Tanh(),
        nn.Flatten(),
        nn.Linear(64, 24),
        nn.Tanh(),
        nn.Linear(24, 2),
    )
    return model.eval(), dict(model.named_parameters()), torch.randn(3, 2, 4, 4)


def exact(model: Module, params: Weights, x: Tensor) -> Tensor:
    kernel = empirical_ntk(model, params, x)
    assert isinstance(kernel, Tensor)
    return kernel


def replicated(features: Tensor) -> Tensor:
    """One estimate a replicate."""
    return torch.einsum("sack,sbdk->sacbd", features, features)


@pytest.mark.parametrize("kind", KINDS)
def test_unbiased(kind: str) -> None:
    model, params, x = problem()
    truth = exact(model, params, x)
    features = sketched_features(model, params, x, num_features=64, kind=kind, replicates=256)  # type: ignore[arg-type]
    kernels = replicated(features)
    eye = torch.eye(6).view_as(truth)
    for weights in (torch.ones_like(truth), eye, truth, torch.randn_like(truth)):
        estimates = (kernels * weights).flatten(1).sum(1)
        stderr = estimates.std() / len(estimates) ** 0.5
        assert (estimates.mean() - (truth * weights).sum()).abs() < 3 * stderr


@pytest.mark.parametrize("kind", KINDS)
def test_mean_and_standard_error(kind: str) -> None:
    model, params, x = problem()
    features = sketched_features(model, params, x, num_features=64, kind=kind, replicates=100)  # type: ignore[arg-type]
    mean, stderr = estimated_kernel(features)
    kernels = replicated(features)
    assert_close(mean, kernels.mean(0))
    assert_close(stderr, kernels.std(0) / 10)
    part, _ = estimated_kernel(features[:, :1], features[:, 1:])
    assert_close(part, mean[:1, :, 1:])
    # Of 36 standardised errors, the root mean square is near one.
    scores = (mean - exact(model, params, x)) / stderr
    assert 0.5 < scores.square().mean().sqrt() < 2


def error(kernels: Tensor, truth: Tensor) -> Tensor:
    """Root mean square over replicates."""
    return (kernels - truth).flatten(1).square().sum(1).mean().sqrt() / truth.norm()


@pytest.mark.parametrize("kind", KINDS)
def test_error_falls_with_the_root_of_the_number_of_features(kind: str) -> None:
    model, params, x = problem()
    truth = exact(model, params, x)
    errors = []
    for num in (64, 1024):
        features = sketched_features(model, params, x, num_features=num, kind=kind, replicates=200)  # type: ignore[arg-type]
        errors.append(error(replicated(features), truth))
    assert_close(errors[0] / errors[1], torch.tensor(4.0), rtol=0.25, atol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_the_seed_decides(kind: str) -> None:
    model, params, x = problem()
    draw = lambda seed: sketched_features(model, params, x, num_features=32, kind=kind, seed=seed)  # type: ignore[arg-type]
    first = draw(1)
    torch.manual_seed(7)
    assert torch.equal(draw(1), first)
    assert not torch.allclose(draw(2), first)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["test_resnet", "test_vit"])
def test_batches_and_other_examples_change_nothing(name: str, kind: str) -> None:
    model, x, _, _ = network(name, num_images=3)
    params = dict(model.named_parameters())
    options = {"num_features": 32, "kind": kind, "replicates": 2}
    whole = sketched_features(model, params, x, **options)  # type: ignore[arg-type]
    assert whole.shape == (2, 3, 3, 32)
    assert_close(sketched_features(model, params, x, batch_size=2, **options), whole)  # type: ignore[arg-type]
    assert_close(sketched_features(model, params, x[1:2], **options), whole[:, 1:2])  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", KINDS)
def test_replicates_do_not_depend_on_their_number(kind: str) -> None:
    model, params, x = problem()
    options = {"num_features": 16, "kind": kind}
    four = sketched_features(model, params, x, replicates=4, **options)  # type: ignore[arg-type]
    two = sketched_features(model, params, x, replicates=2, **options)  # type: ignore[arg-type]
    assert torch.equal(four[:2], two)
    assert not torch.allclose(four[0], four[1])


@pytest.mark.parametrize("kind", KINDS)
def test_a_shared_seed_serves_differences(kind: str) -> None:
    model, params0, x = problem()
    params1 = {n: p.detach() + 0.01 * torch.randn_like(p) for n, p in params0.items()}
    change = exact(model, params1, x) - exact(model, params0, x)
    options = {"num_features": 256, "kind": kind, "replicates": 32}
    before, shared, other = (
        replicated(sketched_features(model, p, x, seed=seed, **options))  # type: ignore[arg-type]
        for p, seed in ((params0, 0), (params1, 0), (params1, 1))
    )
    assert error(shared - before, change) < 0.5 * error(other - before, change)


@pytest.mark.parametrize("kind", KINDS)
def test_single_precision(kind: str) -> None:
    model, params, x = problem()
    options = {"num_features": 32, "kind": kind}
    single = sketched_features(model, params, x, dtype=torch.float32, **options)  # type: ignore[arg-type]
    double = sketched_features(model, params, x, **options)  # type: ignore[arg-type]
    assert single.dtype == torch.float32
    assert_close(single.double(), double, rtol=1e-4, atol=1e-4)


def test_features_of_a_layer() -> None:
    model, params, x = problem()
    found = sketched_features(model, params, x, layer="4", num_features=8)
    assert found.shape == (1, 3, 24, 8)
