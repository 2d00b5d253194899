"""Tests for probes/dropout_head.py: SGD comes to the closed form, in any units of the features."""

import pytest
import torch
from torch import Tensor
from torch.nn.functional import one_hot
from torch.testing import assert_close

from core.errors import InputError
from probes.dropout_head import dropout_head, dropped, excess_loss
from probes.dropout_ridge import Head, cross_entropy_head, least_squares_head

N, D, C = 60, 6, 3


def data() -> tuple[Tensor, Tensor]:
    x = torch.rand(N, D) + torch.linspace(0, 2, D)
    return x, x @ torch.randn(D, C) + 0.1 * torch.randn(N, C)


def classes() -> Tensor:
    return one_hot(torch.arange(N) % C, C).double()


@pytest.mark.parametrize("rate", [0.0, 0.5, 0.9])
def test_of_the_squared_loss_it_comes_to_the_closed_form(rate: float) -> None:
    """The excess of an average over masks falls with the number of steps."""
    x, y = data()
    exact = least_squares_head(x, y, rate)
    excesses = []
    for steps in (200, 6000):
        trained = dropout_head(x, y, rate, loss="squared", steps=steps, batch_size=32)
        excesses.append(excess_loss(trained.head, exact, x, y, rate, loss="squared")[0])
    alone = (y - y.mean(0)).square().sum() / (2 * N)  # the loss without features
    assert 0 <= excesses[1] < 1e-3 * alone
    assert excesses[1] < excesses[0] / 5


@pytest.mark.parametrize("decay", [1e-2, 1e-1])
def test_of_the_cross_entropy_without_dropout_it_comes_to_the_minimiser(decay: float) -> None:
    x, y = data()[0], classes()
    exact = cross_entropy_head(x, y.argmax(1), 0.0, decay=decay)
    trained = dropout_head(x, y, 0.0, loss="cross_entropy", decay=decay, steps=6000)
    # All examples are in every batch, so that only the optimiser is left.
    assert_close(trained.head.weight, exact.weight, atol=1e-3, rtol=0)
    assert_close(trained.head.bias, exact.bias, atol=1e-3, rtol=0)


def test_units_of_the_features_do_not_matter() -> None:
    """In coordinates of unit curvature, step by step."""
    x, y = data()
    scale = torch.linspace(0.5, 2, D)
    options = {"loss": "squared", "steps": 40, "batch_size": 16}
    ours = dropout_head(x, y, 0.5, **options).head
    other = dropout_head(x * scale, y, 0.5, **options).head
    assert_close(other.weight * scale, ours.weight)
    assert_close(other.bias, ours.bias)


def test_halfway_is_the_answer_of_half_the_steps() -> None:
    x, y = data()
    options = {"loss": "squared", "batch_size": 16}
    whole = dropout_head(x, y, 0.5, steps=80, **options)
    half = dropout_head(x, y, 0.5, steps=40, **options)
    assert_close(whole.halfway.weight, half.head.weight)
    assert not torch.allclose(whole.head.weight, half.head.weight)


def test_the_seed_decides_masks_and_batches() -> None:
    x, y = data()
    options = {"loss": "squared", "steps": 20, "batch_size": 16}
    first, again, other = (dropout_head(x, y, 0.5, seed=s, **options).head for s in (0, 0, 1))
    assert_close(first.weight, again.weight, atol=0, rtol=0)
    assert not torch.allclose(first.weight, other.weight)


def test_the_excess_of_the_cross_entropy_is_the_mean_over_all_masks() -> None:
    x, y = data()[0], classes()
    heads = [Head(torch.randn(C, D) / 4, torch.randn(C)) for _ in range(2)]
    masks = torch.cartesian_prod(*[torch.tensor([0.0, 2.0])] * D)  # equally likely at rate 1/2
    losses = [
        torch.stack([-(y * h(m * x).log_softmax(1)).sum(1).mean() for m in masks]).mean()
        for h in heads
    ]
    squares = [h.weight.square().sum() + h.bias.square().sum() for h in heads]
    expected = float(losses[0] - losses[1] + 0.1 / 2 * (squares[0] - squares[1]))
    found, error = excess_loss(heads[0], heads[1], x, y, 0.5, loss="cross_entropy", decay=0.1)
    assert 0 < error < abs(expected)
    assert abs(found - expected) < 3 * error


def test_dropped_features_keep_their_mean() -> None:
    x = torch.ones(2000, 5)
    masked = dropped(x, 0.75, torch.Generator().manual_seed(0))
    assert set(masked.unique().tolist()) == {0.0, 4.0}
    assert abs(float(masked.mean()) - 1) < 3 * 3**0.5 / 1e4**0.5  # variance odds = 3


def test_wrong_input_is_refused_in_a_sentence() -> None:
    x, y = data()
    with pytest.raises(InputError, match="60 rows of features and 59 of targets"):
        dropout_head(x, y[1:], 0.5, loss="squared")
    with pytest.raises(InputError, match="at least 4 were expected"):
        dropout_head(x, y, 0.5, loss="squared", steps=3)
    with pytest.raises(InputError, match="expected 0 <= rate < 1"):
        dropout_head(x, y, 1.0, loss="squared")
