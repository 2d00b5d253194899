"""Tests for finetuning/linear/model.py: model (1) written out, and its options."""

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from core.errors import InputError
from finetuning.linear import LinearModel, stacked

N, L, D, C = 40, 3, 5, 4


def blocks() -> list[Tensor]:
    return [torch.rand(N, D) * (layer + 1) + layer for layer in range(L)]


def test_outputs_and_logits_are_those_of_the_formula() -> None:
    parts = blocks()
    x = stacked(parts)
    model = LinearModel(x, C).eval()
    adapted = sum(model.scales[layer] * block for layer, block in enumerate(parts))
    assert isinstance(adapted, Tensor)
    assert_close(model.adapted(x), adapted)
    assert_close(model(x), adapted @ model.head.weight.T + model.head.bias)


def test_increments_add_up_to_the_outputs() -> None:
    parts = blocks()
    outputs, increments = stacked(parts), stacked(parts, "increments")
    assert_close(increments.cumsum(1), outputs)
    assert_close(increments[:, 0], outputs[:, 0])


def test_layers_of_different_widths_are_put_beside_each_other() -> None:
    a, b = torch.rand(N, 2), torch.rand(N, 3)
    model = LinearModel(stacked([a, b]), C)
    adapted = torch.cat([a * model.scales[0, :2], b * model.scales[0, 2:]], 1)
    assert_close(model.adapted(stacked([a, b])), adapted)


@pytest.mark.parametrize("norm", ["batchnorm", "standardise"])
def test_normalised_inputs_have_mean_zero_and_variance_one(norm: str) -> None:
    x = stacked(blocks())
    model = LinearModel(x, C, norm=norm)  # type: ignore[arg-type]
    normalised = model.norm(x)
    assert_close(normalised.mean(0), torch.zeros(L, D), atol=1e-12, rtol=0)
    # BatchNorm divides by the biased deviation, and adds 1e-5 to its square.
    assert_close(normalised.std(0), torch.ones(L, D), atol=0.02, rtol=0)


def test_standardising_keeps_the_statistics_it_was_made_with() -> None:
    x = stacked(blocks())
    model = LinearModel(x, C, norm="standardise")
    assert_close(model.norm(x[:2] + 1), (x[:2] + 1 - x.mean(0)) / x.std(0))
    constant = LinearModel(torch.ones(N, L, D), C, norm="standardise")
    assert not constant.adapted(torch.ones(N, L, D)).any()


def test_dropout_is_on_the_adapted_features_and_while_training_only() -> None:
    x = stacked(blocks())
    model = LinearModel(x, C, drop_rate=0.5)
    torch.nn.init.zeros_(model.head.bias)
    draws = torch.stack([model(x) for _ in range(4000)])
    model.eval()
    error = draws.std(0) / len(draws) ** 0.5
    assert ((draws.mean(0) - model(x)).abs() < 5 * error).all()
    assert_close(model(x), model(x))


def test_wrong_input_is_refused_in_a_sentence() -> None:
    with pytest.raises(InputError, match="5, 7 channels; increments need layers of one width"):
        stacked([torch.ones(2, 5), torch.ones(2, 7)], "increments")
    with pytest.raises(InputError, match="dropout rate is 1"):
        LinearModel(stacked(blocks()), C, drop_rate=1.0)
