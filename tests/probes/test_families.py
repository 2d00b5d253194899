"""Tests for probes/taylor.py on every family of networks, against reverse mode and Jacobians."""

import pytest
import timm
import torch
from torch.func import jvp
from torch.testing import assert_close

from core.forward_mode import forward_mode_rules
from core.linearization import first_order, second_order, shifted
from probes.taylor import taylor_outputs
from tests.models import FAMILIES, network
from tests.oracles import dense_change, line_derivatives

# Evolved normalisation computes its statistics in float32 whatever the network's precision.
ROUNDS = "test_efficientnet_evos"


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_the_rules_do_not_change_the_outputs(name: str) -> None:
    model, x, *_ = network(name, num_images=1)
    tolerance = 1e-6 if name == ROUNDS else 1e-12
    with torch.no_grad():
        expected = model(x)
        for order in (1, 2):
            with forward_mode_rules(order):
                assert_close(model(x), expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_both_derivatives_match_reverse_mode_running_statistics_included(name: str) -> None:
    net = network(name, num_images=1)
    assert len(net.delta) == len(net.weights)
    tolerance = {"rtol": 1e-5, "atol": 1e-6} if name == ROUNDS else {"rtol": 1e-9, "atol": 1e-11}

    df = first_order(net.outputs, net.weights, net.delta)[1]
    slope, curvature = second_order(net.outputs, net.weights, net.delta)
    first, second = line_derivatives(net.outputs, net.weights, net.delta)

    assert_close(df, first, **tolerance)
    assert_close(slope, first, **tolerance)
    assert_close(curvature, second, **tolerance)


def test_the_list_of_families_is_complete() -> None:
    """A family that a later timm adds has to be looked at."""
    assert {*timm.list_models("test_*"), "glyphnet"} == set(FAMILIES)


@pytest.mark.parametrize("name", ["test_convnext", "test_efficientnet", "test_resnet", "test_vit"])
def test_the_change_is_the_dense_jacobians_running_statistics_included(name: str) -> None:
    net = network(name)
    df = taylor_outputs(net.model, net.weights, shifted(net.weights, net.delta), net.x)[1]
    assert_close(df, dense_change(net.outputs, net.weights, net.delta))


def test_running_statistics_alone_move_the_outputs() -> None:
    net = network("test_resnet")
    moved = {name: d for name, d in net.delta.items() if "running" in name}
    df = first_order(net.outputs, net.weights, moved)[1]
    assert df.norm() > 0
    assert_close(df, dense_change(net.outputs, net.weights, moved))


@pytest.mark.parametrize("name", ["test_efficientnet", "test_vit"])
def test_halving_the_step_quarters_the_remainder_of_a_network(name: str) -> None:
    net = network(name)

    def remainder(step: float) -> torch.Tensor:
        end = shifted(net.weights, net.delta, step)
        f0, df = taylor_outputs(net.model, net.weights, end, net.x)
        with torch.no_grad():
            return (net.outputs(end) - f0 - df).norm()

    assert_close(remainder(2e-2) / remainder(1e-2), torch.tensor(4.0), rtol=2e-2, atol=0)


def test_the_network_keeps_its_own_weights_and_mode() -> None:
    net = network("test_resnet")
    taylor_outputs(net.model, net.weights, shifted(net.weights, net.delta), net.x)
    second_order(net.outputs, net.weights, net.delta)
    state = net.model.state_dict()
    assert all(torch.equal(state[name], w) for name, w in net.weights.items())
    assert not any(module.training for module in net.model.modules())


@pytest.mark.parametrize("name", ["glyphnet", "test_byobnet", "test_nfnet", "test_resnet"])
def test_first_derivatives_are_those_of_torch_where_torch_has_rules(name: str) -> None:
    net = network(name)
    params = {n: net.weights[n] for n, _ in net.model.named_parameters()}
    moves = {n: net.delta[n] for n in params}

    with torch.no_grad():
        expected = jvp(net.outputs, (params,), (moves,))
    found = first_order(net.outputs, net.weights, moves)

    assert_close(found, tuple(expected))
