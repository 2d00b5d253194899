"""Tests for finetuning/noise.py."""

import math

import pytest
import torch
from torch.testing import assert_close

from core.errors import InputError
from finetuning.noise import check_drop_rate, dropout

RATES = [0.0, 0.5, 0.9, 0.99]


@pytest.mark.parametrize("rate", RATES)
def test_every_feature_is_dropped_or_scaled(rate: float) -> None:
    features = torch.randn(50, 200)

    noisy = dropout(rate)(features)

    kept = noisy != 0
    assert_close(noisy, torch.where(kept, features / (1 - rate), 0.0))
    # 10,000 draws: five standard errors.
    assert abs(kept.double().mean() - (1 - rate)) <= 5 * math.sqrt(rate * (1 - rate) / 10_000)


@pytest.mark.parametrize("rate", RATES)
def test_dropout_has_the_right_mean_and_variance(rate: float) -> None:
    noisy = dropout(rate)(torch.full((400, 500), 2.0))

    variance = 4 * rate / (1 - rate)
    assert abs(noisy.mean() - 2) <= 5 * math.sqrt(variance / 200_000)
    assert_close(noisy.var(), torch.tensor(variance), rtol=0.1, atol=1e-12)  # sampling error


def test_masks_are_fresh_and_independent_between_examples_and_features() -> None:
    kept = (dropout(0.5)(torch.ones(4_000, 6)) != 0).double()
    again = (dropout(0.5)(torch.ones(4_000, 6)) != 0).double()

    columns = torch.corrcoef(torch.cat([kept, again], 1).T)  # 12 masks
    rows = torch.corrcoef((dropout(0.5)(torch.ones(6, 4_000)) != 0).double())
    for correlations in (columns, rows):
        assert_close(correlations, torch.eye(len(correlations)), rtol=0, atol=5 / 4_000**0.5)


def test_the_same_seed_draws_the_same_mask() -> None:
    features, noise = torch.randn(5, 100), dropout(0.9)
    torch.manual_seed(3)
    first, second = noise(features), noise(features)

    torch.manual_seed(3)
    assert torch.equal(noise(features), first)
    assert not torch.equal(second, first)


def test_under_squared_loss_dropout_is_a_ridge_penalty() -> None:
    r"""E |y - (m x) w / (1 - l)|^2 = |y - x w|^2 + l / (1 - l) sum_j x_j^2 w_j^2."""
    rate, x, w, y = 0.8, torch.randn(5), torch.randn(5), torch.tensor(1.5)
    losses = (y - dropout(rate)(x.expand(400_000, 5)) @ w).square()

    expected = (y - x @ w).square() + rate / (1 - rate) * (x * w).square().sum()
    assert abs(losses.mean() - expected) <= 5 * losses.std() / 400_000**0.5


def test_gradients_flow_through_what_is_kept_only() -> None:
    features = torch.ones(3, 50, requires_grad=True)
    noisy = dropout(0.75)(features)
    noisy.sum().backward()

    assert features.grad is not None
    assert_close(features.grad, noisy.detach())


@pytest.mark.parametrize("rate", [1.0, 1.5, -0.1, math.nan, math.inf])
def test_a_rate_outside_the_unit_interval_is_refused(rate: float) -> None:
    for refuse in (check_drop_rate, dropout):
        with pytest.raises(InputError, match=f"{rate}; expected 0 <= rate < 1"):
            refuse(rate)
