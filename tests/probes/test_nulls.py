"""Tests for probes/nulls.py."""

from collections.abc import Callable

import pytest
import torch
from torch import Generator
from torch.testing import assert_close

from core.linearization import Weights
from probes.nulls import permuted_displacement, random_displacement
from tests.models import network

BOTH = pytest.mark.parametrize("draw", [random_displacement, permuted_displacement])
Draw = Callable[..., Weights]


def seeded(seed: int) -> Generator:
    return Generator().manual_seed(seed)


@pytest.fixture
def delta() -> Weights:
    return network("test_resnet").delta


@pytest.fixture
def parameters() -> set[str]:
    return {name for name, _ in network("test_resnet").model.named_parameters()}


@BOTH
def test_every_parameter_keeps_its_norm_and_loses_its_direction(
    draw: Draw, delta: Weights, parameters: set[str]
) -> None:
    null = draw(delta, parameters, seeded(1))
    assert list(null) == list(delta)
    for name in parameters:
        d, moved = delta[name].flatten(), null[name].flatten()
        assert null[name].shape == delta[name].shape
        assert_close(moved.norm(), d.norm())
        if d.numel() > 500:  # the cosine of two random directions is about 1 / sqrt(numel)
            assert abs(torch.cosine_similarity(d, moved, dim=0)) < 5 / d.numel() ** 0.5


@BOTH
def test_running_statistics_keep_their_own_displacement(
    draw: Draw, delta: Weights, parameters: set[str]
) -> None:
    null = draw(delta, parameters, seeded(1))
    buffers = set(delta) - parameters
    assert buffers
    assert all(torch.equal(null[name], delta[name]) for name in buffers)


def test_a_permuted_displacement_has_the_same_entries(
    delta: Weights, parameters: set[str]
) -> None:
    null = permuted_displacement(delta, parameters, seeded(1))
    for name in parameters:
        assert torch.equal(null[name].flatten().sort()[0], delta[name].flatten().sort()[0])


@BOTH
def test_the_seed_decides(draw: Draw, delta: Weights, parameters: set[str]) -> None:
    name = "layer3.0.conv1.weight"
    first, again, other = (draw(delta, parameters, seeded(s))[name] for s in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@BOTH
def test_one_generator_draws_independently(
    draw: Draw, delta: Weights, parameters: set[str]
) -> None:
    generator, name = seeded(1), "layer3.0.conv1.weight"
    first, second = (draw(delta, parameters, generator)[name] for _ in range(2))
    assert not torch.equal(first, second)


@BOTH
def test_what_did_not_move_does_not_move(draw: Draw) -> None:
    still = {"weight": torch.zeros(3, 4)}
    assert torch.equal(draw(still, {"weight"}, seeded(0))["weight"], still["weight"])


@BOTH
def test_the_draw_does_not_depend_on_the_precision(draw: Draw) -> None:
    d = torch.randn(40, 5)
    double = draw({"w": d}, {"w"}, seeded(3))["w"]
    single = draw({"w": d.float()}, {"w"}, seeded(3))["w"]
    assert single.dtype == torch.float32
    assert_close(single.double(), double, rtol=1e-6, atol=1e-7)
