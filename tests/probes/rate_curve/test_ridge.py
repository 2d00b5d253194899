"""Tests for probes/rate_curve/ridge.py: scikit-learn's ridge and logistic regression."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression, Ridge
from torch import Tensor
from torch.nn.functional import one_hot
from torch.testing import assert_close

from core.errors import InputError
from probes.dropout_ridge import least_squares_head
from probes.rate_curve import ridge_head

N, D = 60, 5


def data(classes: int) -> tuple[Tensor, Tensor]:
    return torch.rand(N, D) + torch.linspace(0, 2, D), torch.arange(N) % classes


@pytest.mark.parametrize("rate", [0.0, 0.5, 0.99])
def test_of_the_squared_loss_it_is_scikit_learns_ridge(rate: float) -> None:
    x, y = data(3)
    strength = rate / (1 - rate) * float(x.square().sum()) / D
    other = Ridge(alpha=strength, solver="svd").fit(x.numpy(), one_hot(y).numpy())
    found = ridge_head(x, y, rate, loss="squared", decay=0.0)
    assert_close(found.weight, torch.from_numpy(other.coef_))
    assert_close(found.bias, torch.from_numpy(other.intercept_))


@pytest.mark.parametrize("classes", [2, 3])
def test_of_the_cross_entropy_it_is_scikit_learns_logistic_regression(classes: int) -> None:
    x, y = data(classes)
    penalty = 1e-2 + 1.0 * float(x.square().sum()) / D / (N * classes)  # odds of 1/2 are 1
    onehot = one_hot(y).double()
    found = ridge_head(x, y, 0.5, loss="cross_entropy", decay=1e-2)
    weight, bias = (t.clone().requires_grad_() for t in found[:2])
    loss = -(onehot * (x @ weight.T + bias).log_softmax(1)).sum(1).mean()
    loss = loss + penalty / 2 * weight.square().sum()
    for gradient in torch.autograd.grad(loss, (weight, bias)):
        # The solver stops at a gradient of 1e-5.
        assert_close(gradient, torch.zeros_like(gradient), atol=1e-4, rtol=0)
    if classes > 2:
        other = LogisticRegression(C=1 / (penalty * N), tol=1e-8, max_iter=1000)
        logits = other.fit(x.numpy(), y.numpy()).decision_function(x.numpy())
        ours = found(x) - found(x).mean(1, keepdim=True)
        np.testing.assert_allclose(ours.numpy(), logits, atol=1e-3)


def test_dropout_of_features_of_one_size_is_ridge() -> None:
    x, y = data(3)
    x = x / x.square().sum(0).sqrt()
    exact = least_squares_head(x, one_hot(y).double(), 0.9)
    found = ridge_head(x, y, 0.9, loss="squared", decay=0.0)
    assert_close(found.weight, exact.weight)
    assert_close(found.bias, exact.bias)


def test_wrong_input_is_refused_in_a_sentence() -> None:
    x, y = data(3)
    with pytest.raises(InputError, match="expected 0 <= rate < 1"):
        ridge_head(x, y, 1.0, loss="squared", decay=0.0)
    with pytest.raises(InputError, match="one label per example"):
        ridge_head(x, y[1:], 0.5, loss="squared", decay=0.0)
