"""Tests for probes/taylor.py and probes/forward_mode.py."""

import pytest
import timm
import torch
from torch.func import functional_call, jacrev, jvp
from torch.nn import Linear, Module, Sequential, Tanh
from torch.nn import functional as F
from torch.testing import assert_close

from core.forward_mode import forward_mode_rules
from core.linearization import Weights, displacement, first_order, second_order, shifted
from core.models import float_state
from probes.taylor import explained_displacement, taylor_outputs

SMOOTH = {  # no ReLU: differences across its kink are no oracle for a derivative
    "test_convnext": 64,
    "test_efficientnet": 64,
    "test_efficientnet_gn": 64,
    "test_efficientnet_ln": 64,
    "test_mambaout": 64,
    "test_vit": 160,
    "test_vit2": 160,
}
KINKED = {"test_resnet": 64, "test_byobnet": 64, "glyphnet": 32, "mobilenetv3_small_050": 64}


def tanh_mlp() -> Module:
    return Sequential(Linear(3, 8), Tanh(), Linear(8, 2))


def random_params(model: Module) -> Weights:
    return {name: torch.randn_like(p) for name, p in model.named_parameters()}


def network(name: str, size: int) -> tuple[Module, torch.Tensor, Weights, Weights]:
    model = timm.create_model(name, num_classes=3).eval()
    for parameter in model.parameters():  # away from layer scales and shifts of zero
        if parameter.ndim == 1:
            torch.nn.init.normal_(parameter, 1, 0.1)
    weights = float_state(model)
    delta = {name: 0.01 * torch.randn_like(w) for name, w in weights.items()}
    return model, torch.randn(2, 3, size, size), weights, delta


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


def test_change_matches_the_dense_jacobian() -> None:
    model, x = tanh_mlp(), torch.randn(5, 3)
    params0, params1 = random_params(model), random_params(model)

    jacobian = jacrev(lambda p: functional_call(model, p, (x,)))(params0)
    dense = sum(
        jacobian[name].flatten(2) @ (params1[name] - p).flatten() for name, p in params0.items()
    )

    assert_close(taylor_outputs(model, params0, params1, x)[1], dense)


@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "test_convnext", "glyphnet"])
def test_change_of_a_network_matches_its_dense_jacobian(name: str) -> None:
    model, x, weights, delta = network(name, (SMOOTH | KINKED)[name])
    params = {n: weights[n] for n, _ in model.named_parameters()}
    moves = {n: delta[n] for n in params}

    outputs = lambda p: functional_call(model, p, (x[:1],))
    jacobian = jacrev(outputs, chunk_size=1)(params)
    dense = sum(jacobian[n].flatten(2) @ moves[n].flatten() for n in params)
    first = first_order(lambda p: functional_call(model, p, (x[:1],)), weights, moves)[1]

    assert_close(first, dense)


@pytest.mark.parametrize("name", KINKED)
def test_rules_give_the_derivative_of_torch_where_torch_has_one(name: str) -> None:
    model, x, weights, delta = network(name, KINKED[name])
    params = {n: weights[n] for n, _ in model.named_parameters()}
    moves = {n: delta[n] for n in params}

    with torch.no_grad():
        expected = jvp(lambda p: functional_call(model, p, (x,)), (params,), (moves,))
    found = first_order(lambda p: functional_call(model, p, (x,)), weights, moves)

    assert_close(found, tuple(expected))


@pytest.mark.parametrize("name", SMOOTH)
def test_both_derivatives_match_differences_running_statistics_included(name: str) -> None:
    model, x, weights, delta = network(name, SMOOTH[name])

    def function(w: Weights) -> torch.Tensor:
        return functional_call(model, w, (x,))

    step = 1e-3
    with torch.no_grad():
        ahead, here, behind = (function(shifted(weights, delta, a)) for a in (step, 0.0, -step))
    f0, df = first_order(function, weights, delta)
    slope, curvature = second_order(function, weights, delta)

    assert_close(f0, here)
    assert_close(slope, df)
    # Central differences are off by step^2 / 6 times the third derivative.
    scale = here.abs().max().item()
    assert_close(df, (ahead - behind) / (2 * step), rtol=1e-4, atol=1e-6 * scale)
    assert_close(curvature, (ahead - 2 * here + behind) / step**2, rtol=1e-3, atol=1e-4 * scale)


def test_running_statistics_of_relu_networks_count_too() -> None:
    model, x, weights, _ = network("test_resnet", 64)
    moved = {n: 1e-7 * w for n, w in weights.items() if "running" in n}

    def function(w: Weights) -> torch.Tensor:
        return functional_call(model, w, (x,))

    df = first_order(function, weights, moved)[1]
    with torch.no_grad():
        change = function(shifted(weights, moved)) - function(weights)
    assert df.norm() > 0
    assert_close(df, change, rtol=1e-4, atol=1e-4 * change.abs().max().item())


@pytest.mark.parametrize("order", [1, 2])
@pytest.mark.parametrize("mask", [None, "bool", "float"])
def test_attention_is_written_out_and_restored(order: int, mask: str | None) -> None:
    q, k, v = torch.randn(3, 2, 4, 5, 8)
    allowed = torch.rand(5, 5) < 0.7
    allowed.fill_diagonal_(True)
    masks = {"bool": allowed, "float": torch.randn(5, 5), None: None}
    expected = F.scaled_dot_product_attention(q, k, v, attn_mask=masks[mask])

    with forward_mode_rules(order):  # type: ignore[arg-type]
        found = F.scaled_dot_product_attention(q, k, v, attn_mask=masks[mask])
        with pytest.raises(RuntimeError, match="no rule"):
            F.scaled_dot_product_attention(q, k, v, is_causal=True)

    assert_close(found, expected)
    F.scaled_dot_product_attention(q, k, v, is_causal=True)


def test_only_what_moves_is_differentiated() -> None:
    model, x = tanh_mlp(), torch.randn(5, 3)
    params0, params1 = random_params(model), random_params(model)
    delta = displacement(params0, params1)
    parts = [
        first_order(lambda p: functional_call(model, p, (x,)), params0, {n: d})[1]
        for n, d in delta.items()
    ]
    assert_close(sum(parts), taylor_outputs(model, params0, params1, x)[1])
