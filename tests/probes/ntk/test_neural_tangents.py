"""Tests for probes/ntk: agreement with neural_tangents (see scripts/reference_ntk.py)."""

import functools
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from core.linearization import Weights
from probes.ntk import NTKOperator, empirical_ntk

ARRAYS = Path(__file__).parent / "data" / "neural_tangents_cnn.npz"


@functools.cache
def arrays() -> dict[str, Tensor]:
    """The reference, images turned from N x H x W x channels to N x channels x H x W."""
    with np.load(ARRAYS) as found:
        tensors = {name: torch.from_numpy(array) for name, array in found.items()}
    return tensors | {name: tensors[name].permute(0, 3, 1, 2) for name in ("x1", "x2")}


class ChannelsLast(nn.Module):
    """Flattening reads height, width, channels in this order."""

    def forward(self, x: Tensor) -> Tensor:
        return x.permute(0, 2, 3, 1).flatten(1)


@functools.cache
def network() -> tuple[nn.Module, Weights]:
    weights = arrays()
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding="same"),
        nn.ReLU(),
        nn.AvgPool2d(2),
        nn.Conv2d(8, 12, 3),
        nn.ReLU(),
        ChannelsLast(),
        nn.Linear(48, 4),
    )
    taken = {"0": "conv1", "3": "conv2", "6": "dense"}
    state = {f"{i}.bias": weights[f"{name}.bias"] for i, name in taken.items()}
    state |= {f"{i}.weight": weights[f"{taken[i]}.weight"].permute(3, 2, 0, 1) for i in "03"}
    model.load_state_dict(state | {"6.weight": weights["dense.weight"].T})
    return model.eval(), dict(model.named_parameters())


def assert_equal(found: object, truth: Tensor) -> None:
    assert_close(found, truth, rtol=1e-10, atol=1e-10)


def test_the_network_is_the_same() -> None:
    model, _ = network()
    assert_equal(model(arrays()["x1"]).detach(), arrays()["outputs"])


@pytest.mark.parametrize("method", ["structured", "dense", "reference"])
def test_full_kernel(method: str) -> None:
    (model, params), known = network(), arrays()
    full = empirical_ntk(model, params, known["x1"], known["x2"], method=method)  # type: ignore[arg-type]
    assert_equal(full, known["full"].permute(0, 2, 1, 3))
    itself = empirical_ntk(model, params, known["x1"], method=method)  # type: ignore[arg-type]
    assert_equal(itself, known["full_with_itself"].permute(0, 2, 1, 3))


@pytest.mark.parametrize("method", ["structured", "dense", "reference"])
def test_trace_is_the_number_of_outputs_times_their_mean(method: str) -> None:
    (model, params), known = network(), arrays()
    options = {"outputs": "trace", "method": method}
    trace = empirical_ntk(model, params, known["x1"], known["x2"], **options)  # type: ignore[arg-type]
    assert_equal(trace, 4 * known["mean"])
    itself = empirical_ntk(model, params, known["x1"], **options)  # type: ignore[arg-type]
    assert_equal(itself, 4 * known["mean_with_itself"])


def test_operator() -> None:
    (model, params), known = network(), arrays()
    truth = known["full_with_itself"].permute(0, 2, 1, 3).reshape(20, 20)
    vectors = torch.randn(20, 2)
    found = NTKOperator(model, params, known["x1"]) @ vectors.numpy()
    assert_equal(torch.from_numpy(found), truth @ vectors)
