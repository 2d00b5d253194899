"""Tests for probes/ntk: what cannot be computed says why, and what to do."""

import re
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import Module

from core.errors import InputError
from probes.ntk import NTKOperator, empirical_ntk, estimated_kernel, sketched_features
from probes.ntk.checks import check_directions, check_known

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


OUTPUTS = r"a matrix of 2 outputs x R combinations"
ARGUMENTS = {
    "rows": ({"outputs": torch.eye(3)}, rf"outputs is a tensor of shape \(3, 3\); {OUTPUTS}"),
    "no combination": ({"outputs": torch.ones(2, 0)}, rf"of shape \(2, 0\); {OUTPUTS}"),
    "NaN": ({"outputs": torch.full((2, 1), torch.nan)}, "outputs holds NaN or infinity; finite"),
    "blocks": ({"blocks": {"0.weight": "a"}}, r"no group for 3 weights, such as 0\.bias"),
    "other shape": ({"x2": torch.randn(2, 4)}, r"an example of x2 is \(4,\), one of x1 \(3,\)"),
    "memory": ({"memory": -5}, "memory is -5; a positive number of bytes was expected"),
}


@pytest.mark.parametrize("case", ARGUMENTS)
def test_wrong_arguments(case: str) -> None:
    options, message = ARGUMENTS[case]
    with pytest.raises(InputError, match=message):
        compute(empirical_ntk, mlp(), **options)


def test_a_vector_is_no_matrix_of_combinations() -> None:
    with pytest.raises(InputError, match=rf"outputs is a tensor of shape \(2,\); {OUTPUTS}"):
        check_directions(torch.ones(2), 2)


def test_words_are_those_of_a_list() -> None:
    with pytest.raises(InputError, match="kind is 'foo'; expected one of count, kronecker"):
        check_known("kind", "foo", ["count", "kronecker"])


@pytest.mark.parametrize("name", ["num_features", "replicates", "batch_size"])
def test_numbers_of_a_sketch_are_positive(name: str) -> None:
    with pytest.raises(InputError, match=f"{name} is 0; a positive number was expected"):
        compute(sketched_features, mlp(), **{name: 0})


@pytest.mark.parametrize("memory", ["1GB", "least"])
def test_an_example_that_is_no_number_is_said(memory: str) -> None:
    x = torch.randn(5, 3)
    x[3] = torch.nan
    with pytest.raises(InputError, match="holds NaN or infinity; finite numbers"):
        compute(empirical_ntk, mlp(), x, memory=least() if memory == "least" else memory)


def least() -> str:
    """The smallest budget that is enough, as the error names it."""
    with pytest.raises(InputError) as caught:
        compute(empirical_ntk, mlp(), memory=1)
    return re.findall(r"give at least (\S+)", str(caught.value))[0]


def test_derivatives_in_inference_mode() -> None:
    model, x = mlp(), torch.randn(3, 3)
    truth = compute(empirical_ntk, model, x)
    with torch.inference_mode():
        found = compute(empirical_ntk, model, x.clone())
        operator = compute(NTKOperator, model, x)
        compute(sketched_features, model, x)
    assert isinstance(truth, Tensor)
    torch.testing.assert_close(found, truth)
    assert isinstance(operator, NTKOperator)
    columns = torch.from_numpy(operator @ np.eye(6)).view(3, 2, 3, 2)
    torch.testing.assert_close(columns, truth, rtol=1e-5, atol=1e-6)
