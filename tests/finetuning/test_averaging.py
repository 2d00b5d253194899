"""Tests for finetuning/averaging.py."""

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import BatchNorm1d, Linear, Module, Sequential
from torch.testing import assert_close

from core.errors import InputError
from finetuning.averaging import RunningAverage, average, interpolate


def network() -> Module:
    return Sequential(Linear(3, 4), BatchNorm1d(4))


def wander(model: Module, steps: int) -> list[dict[str, torch.Tensor]]:
    """Random weights, statistics and a counter for every step."""
    states = []
    for _ in range(steps):
        model(torch.randn(8, 3))  # moves statistics and the counter
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter))
        states.append(copy.deepcopy(model.state_dict()))
    return states


@given(count=st.integers(1, 30))
def test_the_average_is_the_mean_of_all_states(count: int) -> None:
    states, average = wander(network(), count), RunningAverage()
    for state in states:
        average.update(state)

    assert average.count == count
    for name, tensor in average.state.items():
        if tensor.is_floating_point():
            assert_close(tensor, torch.stack([state[name] for state in states]).mean(0))


def test_running_statistics_are_averaged_and_counters_keep_their_latest_value() -> None:
    states, average = wander(network(), 5), RunningAverage()
    for state in states:
        average.update(state)

    mean = torch.stack([state["1.running_var"] for state in states]).mean(0)
    assert_close(average.state["1.running_var"], mean)
    assert average.state["1.num_batches_tracked"].item() == 5


def test_the_average_loads_into_the_network() -> None:
    model, average = network(), RunningAverage()
    wander(model, 1)
    average.update(model.state_dict())

    other = network()
    other.load_state_dict(average.state)
    assert all(torch.equal(other.state_dict()[n], t) for n, t in model.state_dict().items())


def test_what_the_model_does_later_does_not_reach_the_average() -> None:
    model, average = network(), RunningAverage()
    before = copy.deepcopy(model.state_dict())
    average.update(model.state_dict())
    wander(model, 2)

    assert all(torch.equal(average.state[name], tensor) for name, tensor in before.items())


def test_averaging_does_not_change_the_model() -> None:
    model, average = network(), RunningAverage()
    average.update(network().state_dict())
    before = copy.deepcopy(model.state_dict())
    average.update(model.state_dict())

    assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in before.items())


def test_a_restored_average_goes_on_bit_for_bit() -> None:
    states, whole, first = wander(network(), 7), RunningAverage(), RunningAverage()
    for state in states:
        whole.update(state)
    for state in states[:3]:
        first.update(state)
    second = RunningAverage(copy.deepcopy(first.state), first.count)
    for state in states[3:]:
        second.update(state)

    assert second.count == whole.count
    assert all(torch.equal(second.state[name], tensor) for name, tensor in whole.state.items())


def test_single_precision_stays_close_over_many_steps() -> None:
    values = torch.randn(5_000, 3, dtype=torch.float32)
    average = RunningAverage()
    for value in values:
        average.update({"w": value})

    assert average.state["w"].dtype == torch.float32
    assert_close(average.state["w"], values.double().mean(0).float(), rtol=0, atol=2e-6)


def test_the_average_of_linear_networks_is_their_ensemble() -> None:
    networks = [Linear(5, 3) for _ in range(4)]
    x = torch.randn(7, 5)
    mean = Linear(5, 3)
    mean.load_state_dict(average(network.state_dict() for network in networks))

    assert_close(mean(x), torch.stack([network(x) for network in networks]).mean(0))


def test_an_average_of_several_is_that_along_a_run_and_leaves_them_alone() -> None:
    states, running = wander(network(), 4), RunningAverage()
    for state in states:
        running.update(state)
    before = copy.deepcopy(states)

    mean = average(states)
    assert all(torch.equal(mean[name], tensor) for name, tensor in running.state.items())
    for state, kept in zip(states, before, strict=True):
        assert all(torch.equal(state[name], tensor) for name, tensor in kept.items())


def test_the_path_has_the_weights_at_its_ends_and_their_average_in_the_middle() -> None:
    start, end = wander(network(), 2)
    for alpha, expected in ((0.0, start), (1.0, end), (0.5, average([start, end]))):
        found = interpolate(start, end, alpha)
        assert found["1.num_batches_tracked"].item() == 2  # a counter: the end's
        for name, tensor in found.items():
            if tensor.is_floating_point():
                assert_close(tensor, expected[name])


def test_weights_of_other_networks_and_no_weights_are_refused() -> None:
    states = [Linear(3, 2).state_dict(), Linear(4, 2).state_dict()]
    for refuse in (lambda: average(states), lambda: interpolate(states[0], states[1], 0.5)):
        with pytest.raises(InputError, match="differ in the tensors weight .1 in all"):
            refuse()
    with pytest.raises(InputError, match="at least one set was expected"):
        average([])
