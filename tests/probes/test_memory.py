"""Tests for probes/memory.py."""

import re

import pytest
import torch
from torch.nn import Flatten, Linear, Module, ReLU, Sequential

from core.command_line import parse_bytes
from core.errors import InputError
from probes.memory import activation_bytes, batch_size
from tests.models import network


def small() -> tuple[Module, torch.Tensor]:
    model = Sequential(Flatten(), Linear(6, 4), ReLU(), Linear(4, 2))
    return model, torch.ones(1, 2, 3)


def test_activations_are_the_outputs_of_all_layers_and_the_input() -> None:
    assert activation_bytes(*small()) == 8 * (6 + 6 + 4 + 4 + 2)


def test_activations_are_those_of_the_precision_and_the_batch() -> None:
    model, x = small()
    double = activation_bytes(model, x)
    assert activation_bytes(model, x.expand(3, 2, 3).contiguous()) == 3 * double
    assert activation_bytes(model.float(), x.float()) == double // 2


def test_counting_leaves_no_hooks_however_the_network_ends() -> None:
    model, x = small()
    activation_bytes(model, x)
    with pytest.raises(RuntimeError):
        activation_bytes(model, torch.ones(1, 5))
    assert not any(module._forward_hooks for module in model.modules())


def test_the_batch_grows_with_the_budget_up_to_the_limit() -> None:
    model, x, *_ = network("glyphnet", num_images=1)
    budgets = [10**8 * factor for factor in (1, 2, 4, 8)]
    sizes = [batch_size(model, x, budget, 10**6) for budget in budgets]
    assert sizes == sorted(set(sizes))
    assert sizes[0] > 0
    # What an image costs does not depend on how many there are.
    per_image = (budgets[3] - budgets[2]) / (sizes[3] - sizes[2])
    assert (budgets[1] - budgets[0]) / (sizes[1] - sizes[0]) == pytest.approx(per_image, rel=0.1)
    assert batch_size(model, x, budgets[3], 16) == 16


@pytest.mark.parametrize("name", ["glyphnet", "test_convnext", "test_resnet", "test_vit"])
def test_a_budget_that_is_too_small_says_how_much_is_enough(name: str) -> None:
    model, x, *_ = network(name, num_images=1)
    with pytest.raises(InputError, match="--memory is 0MB") as error:
        batch_size(model, x, 1000, 16)
    asked = re.search(r"give --memory (\S+) or more", str(error.value))
    assert asked is not None
    assert batch_size(model, x, parse_bytes(asked[1]), 16) >= 1


def test_numbers_twice_as_wide_fit_as_often_as_those_of_a_network_in_float64() -> None:
    model, x = small()
    single = batch_size(model.float(), x.float(), 20_000, 10**6, widening=2)
    assert single == batch_size(model.double(), x.double(), 20_000, 10**6) > 1
    with pytest.raises(InputError, match="needs at least"):
        batch_size(model.float(), x.float(), 2_000, 8, widening=2)
    assert batch_size(model.float(), x.float(), 2_000, 8) >= 1
