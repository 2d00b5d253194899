"""Tests for finetuning/weight_noise.py."""

import copy

import pytest
import timm
import torch
from torch import Tensor
from torch.nn import Module
from torch.testing import assert_close

from core.errors import InputError
from core.models import classifier, features_and_logits
from finetuning.weight_noise import Mixout, dropconnect, insert_dropconnect, mixout


def network() -> Module:
    return timm.create_model("test_resnet", num_classes=3).eval()


def assert_mean(draws: Tensor, expected: Tensor) -> None:
    """The mean over the first axis is as expected, up to five of its standard errors."""
    error = draws.std(0) / len(draws) ** 0.5
    assert ((draws.mean(0) - expected).abs() <= 5 * error + 1e-12).all()


@pytest.mark.parametrize("rate", [0.5, 0.9])
def test_the_mean_of_dropconnect_is_the_linear_layer(rate: float) -> None:
    features, weight, bias = torch.randn(2, 6), torch.randn(3, 6), torch.randn(3)
    draws = torch.stack([dropconnect(features, weight, bias, rate) for _ in range(2_000)])

    assert_mean(draws, features @ weight.T + bias)
    # Independent weights: the variances of the terms add up.
    variance = rate / (1 - rate) * features.square() @ weight.square().T
    assert_mean((draws - features @ weight.T - bias).square(), variance)


def test_dropconnect_is_fresh_for_every_example_and_output() -> None:
    drawn = dropconnect(torch.ones(4_000, 1), torch.ones(5, 1), None, 0.5)

    assert drawn.unique().tolist() == [0.0, 2.0]
    assert_close(torch.corrcoef(drawn.T), torch.eye(5), rtol=0, atol=5 / 4_000**0.5)
    rows = dropconnect(torch.ones(5, 1), torch.ones(4_000, 1), None, 0.5)
    assert_close(torch.corrcoef(rows), torch.eye(5), rtol=0, atol=5 / 4_000**0.5)


def test_dropconnect_in_a_network_is_noise_on_the_classifier_in_training_mode_only() -> None:
    model, x = network(), torch.randn(2, 3, 32, 32)
    features, plain = features_and_logits(model, x)
    insert_dropconnect(model, 0.5)
    assert torch.equal(model(x), plain)

    head = classifier(model).train()
    torch.manual_seed(4)
    noisy = model(x)
    torch.manual_seed(4)
    assert_close(noisy, dropconnect(features, head.weight, head.bias, 0.5))  # type: ignore[arg-type]
    assert not torch.equal(noisy, plain)


@pytest.mark.parametrize("rate", [0.5, 0.9])
def test_the_mean_of_mixout_is_the_weight_and_what_is_put_back_is_the_origin(rate: float) -> None:
    weight, origin = torch.randn(7), torch.randn(7)
    draws = torch.stack([mixout(weight, origin, rate) for _ in range(2_000)])

    assert_mean(draws, weight)
    assert_mean((draws == origin).double(), torch.tensor(rate))
    # The published form, with a mask of those that are put back.
    back = (draws == origin).double()
    published = (back * origin + (1 - back) * weight - rate * origin) / (1 - rate)
    assert_close(draws, published)


def moved(model: Module) -> Module:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.01 * torch.randn_like(parameter))
    return model


def test_mixout_starts_as_the_network_and_is_the_network_in_evaluation_mode() -> None:
    model, x = network(), torch.randn(2, 3, 32, 32)
    mixed = Mixout(model, 0.9)
    before = model(x)
    classifier(model).train()
    model.training = True  # not its BatchNorm layers
    assert_close(mixed(x), before)

    moved(model)
    noisy = mixed(x), mixed(x)
    assert not torch.equal(*noisy)
    mixed.eval()
    assert torch.equal(mixed(x), model(x))


def test_mixout_leaves_the_classifier_and_sends_gradients_to_the_weights() -> None:
    model, x = network(), torch.randn(2, 3, 32, 32)
    mixed = Mixout(model, 0.5)
    moved(model)
    model.training = True
    before = copy.deepcopy(model.state_dict())
    mixed(x).sum().backward()

    assert not any(name.startswith("fc.") for name in mixed.origin)
    assert_close(model.fc.bias.grad, torch.full((3,), 2.0))
    gradient = model.layer1[0].conv1.weight.grad  # type: ignore[index]
    assert gradient is not None and 0.3 < (gradient == 0).double().mean() < 0.7
    assert all(torch.equal(model.state_dict()[n], t) for n, t in before.items())


def test_a_rate_of_one_is_refused() -> None:
    for refuse in (Mixout, insert_dropconnect):
        with pytest.raises(InputError, match="1.0; expected 0 <= rate < 1"):
            refuse(network(), 1.0)
