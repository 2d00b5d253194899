"""Tests for probes/training_space.py: the functions that are compared, and the rows."""

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.func import functional_call
from torch.nn import Module
from torch.testing import assert_close

from analysis.intervals import proportion_interval
from analysis.paired_examples import paired_difference
from core.linearization import Weights
from probes.training_space import (
    COMPARISONS,
    METHODS,
    METRICS,
    decision_rows,
    network_at,
    tangent_at,
)
from reports import training_space
from tests.models import network
from tests.oracles import dense_change

LABELS = np.array([0, 1, 2, 0, 1, 2])
DECISIONS = {
    "ordinary": np.array([0, 1, 2, 0, 2, 1]),
    "tangent": np.array([0, 1, 2, 2, 1, 1]),
    "kernel": np.array([0, 0, 0, 0, 0, 0]),
}


def test_the_tangent_model_is_the_expansion_by_the_dense_jacobian() -> None:
    net = network("test_resnet")
    moved = {name: w + net.delta[name] for name, w in net.weights.items()}
    f0 = functional_call(net.model, net.weights, (net.x,))
    expected = f0 + dense_change(net.outputs, net.weights, net.delta)
    assert_close(tangent_at(net.model, net.weights, moved)(net.x), expected)


def test_at_its_origin_the_tangent_model_is_the_network(
    pair: tuple[Module, Weights, Weights, Tensor, Tensor],
) -> None:
    model, weights0, weights1, x, _ = pair
    assert_close(tangent_at(model, weights0, weights0)(x), network_at(model, weights0)(x))
    assert not torch.allclose(
        tangent_at(model, weights0, weights1)(x), network_at(model, weights1)(x)
    )


def test_a_network_that_is_linear_in_its_weights_decides_alike() -> None:
    model = torch.nn.Linear(5, 3).eval()
    weights0 = {n: p.detach().clone() for n, p in model.named_parameters()}
    weights1 = {n: w + torch.randn_like(w) for n, w in weights0.items()}
    x = torch.randn(7, 5)
    assert_close(tangent_at(model, weights0, weights1)(x), network_at(model, weights1)(x))


def test_the_rows_are_proportions_and_paired_differences() -> None:
    rows = {row["metric"]: row for row in decision_rows(DECISIONS, LABELS)}
    right = {method: (chosen == LABELS).astype(float) for method, chosen in DECISIONS.items()}
    alike = (DECISIONS["tangent"] == DECISIONS["ordinary"]).astype(float)
    expected = {
        "ordinary_accuracy": proportion_interval(right["ordinary"]),
        "tangent_accuracy": proportion_interval(right["tangent"]),
        "tangent_agreement": proportion_interval(alike),
        "tangent_accuracy_difference": paired_difference(right["tangent"], right["ordinary"]),
    }
    for metric, row in expected.items():
        assert rows[metric] == {"metric": metric} | row
    assert rows["tangent_accuracy_difference"]["value"] == 0  # four right each, on other images
    assert rows["tangent_agreement"]["value"] == pytest.approx(4 / 6)
    assert rows["kernel_to_tangent_agreement"]["value"] == pytest.approx(1 / 6)
    assert rows["kernel_to_tangent_accuracy_difference"]["value"] == pytest.approx(-2 / 6)
    assert "ordinary_agreement" not in rows
    assert rows.keys() <= METRICS.keys()


def test_every_method_declares_its_metrics() -> None:
    assert len(METRICS) == len(METHODS) + 2 * len(COMPARISONS)
    for name, metric in METRICS.items():
        assert metric.direction == "higher"
        assert metric.low == (-1 if name.endswith("difference") else 0)
        assert metric.high == 1
        assert metric.reference
    assert METRICS["kernel_to_tangent_agreement"].title.startswith("agreement with the tangent")


def test_without_a_tangent_model_nothing_is_compared_with_it() -> None:
    rows = decision_rows({n: c for n, c in DECISIONS.items() if n != "tangent"}, LABELS)
    assert not any("tangent" in row["metric"] for row in rows)


def test_the_report_knows_every_method_and_comparison() -> None:
    assert list(training_space.METHODS) == list(METHODS)
    assert training_space.ROWS.keys() == METHODS.keys() | COMPARISONS.keys()
