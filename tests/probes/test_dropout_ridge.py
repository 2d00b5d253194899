"""Tests for probes/dropout_ridge.py: the identity, Monte Carlo, scikit-learn."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression, Ridge
from torch import Tensor
from torch.nn.functional import cross_entropy, dropout
from torch.testing import assert_close

from core.errors import InputError
from probes.dropout_ridge import (
    Head,
    cross_entropy_head,
    expected_squared_loss,
    least_squares_head,
    marginalised_cross_entropy,
    odds,
)

N, D, C = 60, 8, 3
RATES = (0.0, 0.5, 0.9, 0.99)


def data() -> tuple[Tensor, Tensor]:
    x = torch.rand(N, D) + torch.linspace(0, 2, D)
    return x, x @ torch.randn(D, C) + 0.1 * torch.randn(N, C)


def random_head(scale: float = 1.0) -> Head:
    return Head(scale * torch.randn(C, D), torch.randn(C))


def mean_and_error(draws: Tensor) -> tuple[Tensor, Tensor]:
    return draws.mean(), draws.std() / len(draws) ** 0.5


@pytest.mark.parametrize("rate", RATES[1:])
def test_squared_loss_is_the_mean_over_masks(rate: float) -> None:
    x, y = data()
    head = random_head()
    draws = torch.stack(
        [(y - head(dropout(x, rate))).square().sum() for _ in range(4000)],
    )
    mean, error = mean_and_error(draws)
    assert abs(mean - expected_squared_loss(head, x, y, rate)) < 3 * error


@pytest.mark.parametrize("rate", RATES)
def test_the_closed_form_is_the_minimiser(rate: float) -> None:
    x, y = data()
    solved = least_squares_head(x, y, rate)
    weight, bias = (t.clone().requires_grad_() for t in solved[:2])
    loss = expected_squared_loss(Head(weight, bias), x, y, rate)
    for gradient in torch.autograd.grad(loss, (weight, bias)):
        assert_close(gradient / loss.item(), torch.zeros_like(gradient), atol=1e-10, rtol=0)


@pytest.mark.parametrize("rate", RATES[1:])
def test_the_closed_form_is_scikit_learns_ridge_after_rescaling(rate: float) -> None:
    x, y = data()
    scale = x.square().sum(0).sqrt()
    ridge = Ridge(alpha=odds(rate), tol=1e-12).fit((x / scale).numpy(), y.numpy())
    solved = least_squares_head(x, y, rate)
    assert_close(solved.weight, torch.from_numpy(ridge.coef_) / scale, atol=1e-8, rtol=1e-8)
    assert_close(solved.bias, torch.from_numpy(ridge.intercept_), atol=1e-8, rtol=1e-8)


def test_duplicated_features_share_the_weight() -> None:
    """What dropout is for: of two copies each takes half, and together more than one alone."""
    x, y = data()
    twice = least_squares_head(torch.cat([x, x], 1), y, 0.9).weight
    once = least_squares_head(x, y, 0.9).weight
    assert_close(twice[:, :D], twice[:, D:])
    assert 2 * twice[:, :D].norm() > once.norm()


def test_marginalised_cross_entropy_is_the_mean_over_masks_up_to_third_order() -> None:
    """Halving the weights divides what is left by sixteen: fourth order, for symmetric noise.

    At rate 1/2 the noise of every feature is symmetric, so that odd orders vanish.
    """
    x, _ = data()
    labels = torch.arange(N) % C
    masks = torch.cartesian_prod(*[torch.tensor([0.0, 2.0])] * D)  # all of them, equally likely

    def gap(scale: float) -> float:
        torch.manual_seed(1)
        head = Head(scale * torch.randn(C, D), torch.zeros(C))
        exact = torch.stack([cross_entropy(head(m * x), labels) for m in masks]).mean()
        return float(exact - marginalised_cross_entropy(head, x, labels, 0.5))

    assert gap(0.02) / gap(0.01) == pytest.approx(16, rel=0.05)


def test_without_dropout_the_head_is_logistic_regression() -> None:
    x, _ = data()
    labels = torch.arange(N) % C
    decay = 1e-2
    solved = cross_entropy_head(x, labels, 0.0, decay=decay)
    # The bias decays as well here: one more column of ones, and no intercept there.
    ones = np.concatenate([x.numpy(), np.ones((N, 1))], 1)
    other = LogisticRegression(
        C=1 / (decay * N), fit_intercept=False, solver="newton-cg", tol=1e-10, max_iter=1000
    )
    expected = torch.from_numpy(other.fit(ones, labels.numpy()).coef_)
    assert solved.converged
    # A gradient below 1e-7 where the curvature is at least the decay leaves errors below 1e-5.
    found = torch.cat([solved.weight, solved.bias[:, None]], 1)
    assert_close(found, expected, atol=1e-5, rtol=0)


def test_a_higher_rate_shrinks_and_spreads_the_weights() -> None:
    x, _ = data()
    labels = torch.arange(N) % C
    norms = [cross_entropy_head(x, labels, r, decay=1e-4).weight.norm() for r in RATES]
    assert norms == sorted(norms, reverse=True)


def test_wrong_input_is_refused_in_a_sentence() -> None:
    x, y = data()
    with pytest.raises(InputError, match="expected 0 <= rate < 1"):
        least_squares_head(x, y, 1.0)
    with pytest.raises(InputError, match="60 rows of features and 59 of targets"):
        least_squares_head(x, y[1:], 0.5)
    with pytest.raises(InputError, match="a positive one was expected"):
        cross_entropy_head(x, torch.arange(N) % C, 0.5, decay=0.0)
