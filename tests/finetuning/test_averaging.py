"""Tests for finetuning/averaging.py."""

import copy

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import BatchNorm1d, Linear, Module, Sequential
from torch.testing import assert_close

from finetuning.averaging import RunningAverage


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
