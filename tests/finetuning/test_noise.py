"""Tests for finetuning/noise.py."""

import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from core.errors import InputError
from finetuning.noise import (
    BLOCK,
    FEWEST_MASKS,
    FeatureNoise,
    batch_masks,
    block_masks,
    check_drop_rate,
    dropout,
    feature_noise,
    fixed_masks,
    gaussian,
    masksembles,
)

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


RIVALS = ["dropout", "gaussian", "masksembles", "block", "batch"]


def assert_mean(draws: Tensor, expected: Tensor) -> None:
    """The mean over the first axis is as expected, up to five of its standard errors."""
    error = draws.std(0) / len(draws) ** 0.5
    assert ((draws.mean(0) - expected).abs() <= 5 * error + 1e-12).all()


@pytest.mark.parametrize("kind", RIVALS)
@pytest.mark.parametrize("rate", [0.5, 0.9])
def test_the_mean_over_draws_is_what_came_in(kind: FeatureNoise, rate: float) -> None:
    features, noise = torch.randn(2, 21), feature_noise(kind, rate)  # blocks of 8, 8 and 5

    draws = torch.stack([noise(features) for _ in range(2_000)])

    assert_mean(draws, features)


@pytest.mark.parametrize("kind", RIVALS)
def test_at_rate_zero_nothing_changes(kind: FeatureNoise) -> None:
    features = torch.randn(5, 21)
    assert_close(feature_noise(kind, 0.0)(features), features)


@pytest.mark.parametrize("kind", RIVALS)
def test_every_rival_refuses_a_rate_of_one(kind: FeatureNoise) -> None:
    with pytest.raises(InputError, match="1.0; expected 0 <= rate < 1"):
        feature_noise(kind, 1.0)


@pytest.mark.parametrize("kind", ["gaussian", "block", "batch"])
@pytest.mark.parametrize("rate", [0.5, 0.9])
def test_rivals_have_the_variance_of_dropout(kind: FeatureNoise, rate: float) -> None:
    noise, ones = feature_noise(kind, rate), torch.ones(1, 8)
    squares = torch.stack([(noise(ones) - 1).square() for _ in range(2_000)])

    assert_mean(squares, torch.tensor(rate / (1 - rate)))


def test_gaussian_noise_is_fresh_for_every_example_and_feature_and_drops_nothing() -> None:
    drawn = gaussian(0.5)(torch.ones(4_000, 6))

    assert drawn.unique().numel() == drawn.numel() and (drawn != 0).all()
    assert_close(torch.corrcoef(drawn.T), torch.eye(6), rtol=0, atol=5 / 4_000**0.5)


def test_a_batch_shares_its_mask_and_the_next_one_has_another() -> None:
    noise = batch_masks(0.5)
    first, second = noise(torch.ones(7, 100)), noise(torch.ones(7, 100))

    assert torch.equal(first, first[:1].expand(7, 100))
    assert not torch.equal(first, second)


def test_blocks_of_neighbours_share_their_fate() -> None:
    drawn = block_masks(0.5)(torch.ones(500, 3 * BLOCK + 1))
    blocks = drawn[:, :-1].view(500, 3, BLOCK)

    assert torch.equal(blocks, blocks[..., :1].expand_as(blocks))
    fates = torch.cat([blocks[..., 0], drawn[:, -1:]], 1)  # the rest is a block of its own
    assert_close(torch.corrcoef(fates.T), torch.eye(4), rtol=0, atol=5 / 500**0.5)


@pytest.mark.parametrize(("rate", "width"), [(0.9, 512), (0.5, 64), (0.7, 10), (0.95, 33)])
def test_fixed_masks_keep_as_many_units_and_use_every_unit_alike(rate: float, width: int) -> None:
    masks = fixed_masks(rate, width, seed=3)
    kept, uses = (masks > 0).sum(1), (masks > 0).sum(0)

    assert len(masks) >= FEWEST_MASKS
    assert (kept == math.ceil(round((1 - rate) * width, 6))).all()
    assert uses.min() >= 1 and uses.max() - uses.min() <= 1
    assert_close(masks.mean(0), torch.ones(width))  # unbiased exactly, not only in the long run


def test_masksembles_gives_every_example_one_of_the_masks_of_the_run() -> None:
    drawn = masksembles(0.5, seed=1)(torch.ones(200, 20))

    masks = fixed_masks(0.5, 20, seed=1)
    assert {tuple(row) for row in drawn.tolist()} == {tuple(row) for row in masks.tolist()}
    assert not torch.equal(masks, fixed_masks(0.5, 20, seed=2))
