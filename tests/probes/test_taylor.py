"""Tests for probes/taylor.py."""

import pytest
import timm
import torch
from torch.func import functional_call, hessian
from torch.nn import Linear
from torch.testing import assert_close

from probes.taylor import (
    Weights,
    displacement,
    explained_displacement,
    first_order,
    second_order,
    shifted,
    taylor_outputs,
)
from tests.models import FAMILIES, network, random_params, tanh_mlp
from tests.oracles import dense_change, line_derivatives

# Evolved normalisation computes its statistics in float32 whatever the network's precision.
TOLERANCE = {"test_efficientnet_evos": {"rtol": 1e-5, "atol": 1e-6}}
# No ReLU: differences across its kink are no oracle for a derivative.
SMOOTH = ["test_convnext", "test_efficientnet", "test_efficientnet_gn", "test_mambaout", "test_vit"]


def test_expansion_is_exact_for_a_model_linear_in_its_parameters() -> None:
    model, x = Linear(3, 2), torch.randn(5, 3)
    params0, params1 = random_params(model), random_params(model)

    f0, df = taylor_outputs(model, params0, params1, x)
    f1 = functional_call(model, params1, (x,))

    assert_close(f0 + df, f1)
    assert_close(explained_displacement(f0, df, f1), torch.tensor(1.0), rtol=0, atol=1e-10)


def test_halving_the_step_quarters_the_remainder() -> None:
    model, x = tanh_mlp(), torch.randn(5, 3)
    params0, direction = random_params(model), random_params(model)

    def remainder(step: float) -> torch.Tensor:
        params1 = shifted(params0, direction, step)
        f0, df = taylor_outputs(model, params0, params1, x)
        return (functional_call(model, params1, (x,)) - f0 - df).norm()

    assert_close(remainder(1e-3) / remainder(5e-4), torch.tensor(4.0), rtol=1e-2, atol=0)


@pytest.mark.parametrize("name", ["test_efficientnet", "test_vit"])
def test_halving_the_step_quarters_the_remainder_of_a_network(name: str) -> None:
    model, x, weights, delta = network(name)

    def remainder(step: float) -> torch.Tensor:
        f0, df = taylor_outputs(model, weights, shifted(weights, delta, step), x)
        with torch.no_grad():
            f1 = functional_call(model, shifted(weights, delta, step), (x,))
        return (f1 - f0 - df).norm()

    assert_close(remainder(2e-2) / remainder(1e-2), torch.tensor(4.0), rtol=2e-2, atol=0)


def test_change_matches_the_dense_jacobian() -> None:
    model, x = tanh_mlp(), torch.randn(5, 3)
    params0, params1 = random_params(model), random_params(model)

    outputs = lambda p: functional_call(model, p, (x,))
    dense = dense_change(outputs, params0, displacement(params0, params1))

    assert_close(taylor_outputs(model, params0, params1, x)[1], dense)


@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "test_convnext", "test_efficientnet"])
def test_change_of_a_network_matches_its_dense_jacobian_running_statistics_included(
    name: str,
) -> None:
    net = network(name)
    assert len(net.delta) == len(net.weights)

    df = taylor_outputs(net.model, net.weights, shifted(net.weights, net.delta), net.x)[1]

    assert_close(df, dense_change(net.outputs, net.weights, net.delta))


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_both_derivatives_match_reverse_mode_in_every_family(name: str) -> None:
    net = network(name, num_images=1)
    tolerance = TOLERANCE.get(name, {"rtol": 1e-9, "atol": 1e-11})

    f0, df = first_order(net.outputs, net.weights, net.delta)
    slope, curvature = second_order(net.outputs, net.weights, net.delta)
    first, second = line_derivatives(net.outputs, net.weights, net.delta)

    with torch.no_grad():
        assert_close(f0, net.model(net.x))
    assert_close(df, first, **tolerance)
    assert_close(slope, first, **tolerance)
    assert_close(curvature, second, **tolerance)


def test_the_list_of_families_is_complete() -> None:
    """A family that a later timm adds has to be looked at."""
    assert {*timm.list_models("test_*"), "glyphnet"} == set(FAMILIES)


@pytest.mark.parametrize("name", SMOOTH)
def test_both_derivatives_match_differences(name: str) -> None:
    net, step = network(name), 1e-3

    with torch.no_grad():
        ahead, here, behind = (
            net.outputs(shifted(net.weights, net.delta, a)) for a in (step, 0.0, -step)
        )
    slope, curvature = second_order(net.outputs, net.weights, net.delta)

    # Central differences are off by step^2 / 6 times the third derivative.
    scale = here.abs().max().item()
    assert_close(slope, (ahead - behind) / (2 * step), rtol=1e-4, atol=1e-6 * scale)
    assert_close(curvature, (ahead - 2 * here + behind) / step**2, rtol=1e-3, atol=1e-4 * scale)


def test_the_second_derivative_matches_the_dense_hessian() -> None:
    model, x = tanh_mlp(), torch.randn(3)
    params0, delta = random_params(model), random_params(model)

    outputs = lambda p: functional_call(model, p, (x,))
    blocks = hessian(outputs)(params0)
    dense = sum(
        torch.einsum(
            "cij,i,j->c", blocks[a][b].reshape(2, d.numel(), -1), d.flatten(), e.flatten()
        )
        for a, d in delta.items()
        for b, e in delta.items()
    )

    assert_close(second_order(outputs, params0, delta)[1], dense)


def test_running_statistics_alone_move_the_outputs() -> None:
    net = network("test_resnet")
    moved = {name: d for name, d in net.delta.items() if "running" in name}

    df = first_order(net.outputs, net.weights, moved)[1]

    assert df.norm() > 0
    assert_close(df, dense_change(net.outputs, net.weights, moved))


def test_only_what_moves_is_differentiated() -> None:
    model, x = tanh_mlp(), torch.randn(5, 3)
    params0, params1 = random_params(model), random_params(model)
    delta = displacement(params0, params1)

    outputs = lambda p: functional_call(model, p, (x,))
    parts = [first_order(outputs, params0, {name: d})[1] for name, d in delta.items()]

    assert_close(sum(parts), taylor_outputs(model, params0, params1, x)[1])


def test_shifted_leaves_what_does_not_move() -> None:
    params: Weights = {"a": torch.ones(2), "b": torch.ones(3)}
    moved = shifted(params, {"b": torch.full((3,), 2.0)}, 0.5)
    assert moved["a"] is params["a"]
    assert_close(moved["b"], torch.full((3,), 2.0))
    assert_close(params["b"], torch.ones(3))


def test_the_network_keeps_its_own_weights_and_mode() -> None:
    net = network("test_resnet")
    taylor_outputs(net.model, net.weights, shifted(net.weights, net.delta), net.x)
    second_order(net.outputs, net.weights, net.delta)
    state = net.model.state_dict()
    assert all(torch.equal(state[name], w) for name, w in net.weights.items())
    assert not any(module.training for module in net.model.modules())
