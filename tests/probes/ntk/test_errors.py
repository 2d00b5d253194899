"""Tests for probes/ntk: what cannot be computed says why, and what to do."""

import re
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import Module

from core.errors import InputError
from probes.ntk import NTKOperator, empirical_ntk, estimated_kernel, sketched_features

CALLS = [empirical_ntk, NTKOperator, sketched_features]
every_call = pytest.mark.parametrize("call", CALLS)


class Power(Module):
    """A weight in a function without a rule."""

    def __init__(self) -> None:
        super().__init__()
        self.p = nn.Parameter(torch.rand(3))

    def forward(self, x: Tensor) -> Tensor:
        return x.abs() ** self.p


class Pair(nn.Linear):
    """No tensor as output."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        return super().forward(x), x


def mlp() -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).eval()


def compute(call: Callable, model: Module, x: Tensor | None = None, **options: object) -> object:
    params = options.pop("params", dict(model.named_parameters()))
    return call(model, params, torch.randn(3, 3) if x is None else x, **options)


@every_call
def test_training_mode(call: Callable) -> None:
    with pytest.raises(InputError, match=r"in training mode.*call model\.eval\(\) first"):
        compute(call, mlp().train())


@every_call
def test_no_examples(call: Callable) -> None:
    with pytest.raises(InputError, match=r"no examples \(N = 0\)"):
        compute(call, mlp(), torch.randn(0, 3))


def test_no_other_examples() -> None:
    with pytest.raises(InputError, match=r"no examples \(N = 0\)"):
        compute(empirical_ntk, mlp(), x2=torch.randn(0, 3))


@every_call
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_weights_that_are_no_numbers(call: Callable, value: float) -> None:
    model = mlp()
    with torch.no_grad():
        dict(model.named_parameters())["2.bias"][1] = value
    with pytest.raises(InputError, match=r"1 weights hold NaN or infinity, the first is 2\.bias"):
        compute(call, model)


@every_call
def test_images_that_are_no_numbers(call: Callable) -> None:
    with pytest.raises(InputError, match="output is NaN or infinite"):
        compute(call, mlp(), torch.full((2, 3), torch.nan))


@every_call
def test_unknown_layer(call: Callable) -> None:
    sentence = (
        r"layer 'layer5' is not in Sequential; expected logits, features or.*such as 0, 1, 2"
    )
    with pytest.raises(InputError, match=sentence):
        compute(call, mlp(), layer="layer5")


@every_call
def test_unknown_weights(call: Callable) -> None:
    params = {"fc.weight": torch.ones(2, 2), "0.weight": torch.ones(4, 3)}
    with pytest.raises(InputError, match=r"1 of params are not in Sequential: fc\.weight"):
        compute(call, mlp(), params=params)


@every_call
def test_no_weights(call: Callable) -> None:
    with pytest.raises(InputError, match="params holds no parameter"):
        compute(call, mlp(), params={})


@every_call
def test_output_that_is_no_matrix(call: Callable) -> None:
    sentence = r"output is \(2, 4, 4, 4\); a matrix of 2 examples x C was expected"
    with pytest.raises(InputError, match=sentence):
        compute(call, nn.Conv2d(1, 4, 3).eval(), torch.randn(3, 1, 6, 6))


@every_call
def test_output_that_is_no_tensor(call: Callable) -> None:
    with pytest.raises(InputError, match="output is tuple; a matrix of 2 examples"):
        compute(call, Pair(3, 2).eval())


@pytest.mark.parametrize("call", [empirical_ntk, sketched_features])
def test_normalisation_by_the_batch(call: Callable) -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4, track_running_stats=False)).eval()
    with pytest.raises(InputError, match="normalises by its batch"):
        compute(call, model)


@pytest.mark.parametrize("rectangular", [False, True])
@pytest.mark.parametrize("outputs", ["full", "trace", "diagonal"])
def test_budget_too_small(outputs: str, rectangular: bool) -> None:
    model, x = mlp(), torch.randn(5, 3)
    options = {"outputs": outputs, "x2": torch.randn(2, 3) if rectangular else None}
    with pytest.raises(InputError, match="does not hold one pair of examples") as caught:
        compute(empirical_ntk, model, x, memory="1MB", **options)
    least = re.search(r"give at least (\d+)MB", str(caught.value))
    assert least is not None
    small = compute(empirical_ntk, model, x, memory=f"{least[1]}MB", **options)
    same = compute(empirical_ntk, model, x, memory=int(least[1]) * 10**6, **options)
    torch.testing.assert_close(small, compute(empirical_ntk, model, x, **options))
    torch.testing.assert_close(same, small, rtol=0, atol=0)
    with pytest.raises(InputError, match="does not hold one pair of examples"):
        compute(empirical_ntk, model, x, memory=f"{int(least[1]) - 2}MB", **options)


def test_structured_does_not_guess() -> None:
    sentence = r"does not know how Power uses p \(1 weights\); choose method='auto'"
    with pytest.raises(InputError, match=sentence):
        compute(empirical_ntk, Power().eval(), method="structured")


@pytest.mark.parametrize("num", [0, -4])
def test_number_of_features(num: int) -> None:
    with pytest.raises(InputError, match=f"num_features is {num}; a positive number was expected"):
        compute(sketched_features, mlp(), num_features=num)


def test_one_replicate_has_no_standard_error() -> None:
    features = sketched_features(mlp(), dict(mlp().named_parameters()), torch.randn(2, 3))
    with pytest.raises(InputError, match="one replicate has no standard error.*replicates=2"):
        estimated_kernel(features)
