r"""Dropout on the inputs of a linear model is a ridge penalty, in closed form or to second order.

With :math:`\tilde x_j = m_j x_j / (1 - \lambda)` and :math:`m_j \sim B(1 - \lambda)` the expected
squared loss is, exactly,

.. math::
    E \|Y - \tilde X W - 1 b^T\|^2 = \|Y - X W - 1 b^T\|^2
        + \frac{\lambda}{1 - \lambda} \sum_j \Big(\sum_i x_{ij}^2\Big) \|W_j\|^2 ,

and the expected cross-entropy to second order in the noise of the logits

.. math::
    E\, \ell(y, W^T \tilde x + b) \approx \ell(y, W^T x + b)
        + \tfrac12 \operatorname{tr}\big( H(p)\, W^T \Sigma_x W \big), \qquad
    \Sigma_x = \tfrac{\lambda}{1 - \lambda} \operatorname{diag}(x_j^2), \quad
    H(p) = \operatorname{diag}(p) - p p^T .

Shapes: N examples, D features, C outputs.

References:
    | Dropout Training as Adaptive Regularization (Wager, Wang & Liang, 2013)
    | https://arxiv.org/abs/1307.1493
    | Dropout: A Simple Way to Prevent Neural Networks from Overfitting, 9.1 (Srivastava et al.)
"""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn.functional import cross_entropy

from core.arrays import Array, labels_of, matrix
from core.errors import InputError

Features = Float[Tensor, "N D"]
TOLERANCE = 1e-7  # of the gradient, by which the minimiser of a mean loss has converged
ITERATIONS = 2000


class Head(NamedTuple):
    """A linear layer, and whether its optimiser has converged."""

    weight: Float[Tensor, "C D"]
    bias: Float[Tensor, " C"]
    converged: bool = True

    def __call__(self, features: Features) -> Float[Tensor, "N C"]:
        """Its outputs."""
        return features.to(self.weight) @ self.weight.T + self.bias


def expected_squared_loss(
    head: Head, features: Features, targets: Float[Tensor, "N C"], rate: float
) -> Float[Tensor, ""]:
    """The squared loss, summed, in expectation over dropout masks of a rate; exact."""
    residual = (targets - head(features)).square().sum()
    return residual + odds(rate) * (features.square().sum(0) @ head.weight.square().sum(0))


def least_squares_head(features: Array, targets: Array, rate: float) -> Head:
    r"""The minimiser of the expected squared loss, in closed form.

    .. math:: W = (X_c^T X_c + \tfrac{\lambda}{1-\lambda} \operatorname{diag}(X^T X))^{+} X_c^T Y_c

    The bias is not dropped out and takes the means: :math:`X_c`, :math:`Y_c` are centred, while
    the penalty keeps the uncentred second moments.

    Raises:
        InputError: If features and targets do not fit, or the rate is not in [0, 1).
    """
    x, y = matrix(features).double(), matrix(targets, "targets").double()
    if len(x) != len(y):
        raise InputError(
            f"there are {len(x)} rows of features and {len(y)} of targets; one target per example "
            "was expected"
        )
    mean_x, mean_y = x.mean(0), y.mean(0)
    centred = x - mean_x
    penalised = centred.T @ centred + torch.diag(odds(rate) * x.square().sum(0))
    weight = torch.linalg.pinv(penalised, hermitian=True) @ centred.T @ (y - mean_y)
    return Head(weight.T, mean_y - mean_x @ weight)


def odds(rate: float) -> float:
    r"""The strength of the penalty, :math:`\lambda / (1 - \lambda)`.

    Raises:
        InputError: If the rate is not in [0, 1).

    Example:
        >>> round(odds(0.9), 12)
        9.0
    """
    if not 0 <= rate < 1:
        raise InputError(f"the dropout rate is {rate}; expected 0 <= rate < 1")
    return rate / (1 - rate)


def marginalised_cross_entropy(
    head: Head, features: Features, labels: Int64[Tensor, " N"], rate: float
) -> Float[Tensor, ""]:
    r"""The mean cross-entropy in expectation over dropout masks, to second order.

    The trace is a variance over classes, :math:`\operatorname{tr}(H(p) W^T \Sigma_x W) =
    \sum_j \Sigma_{jj} \operatorname{Var}_{c \sim p} W_{jc}`, so no class pairs are formed.
    """
    logits = head(features)
    p = logits.softmax(1)
    variances = p @ head.weight.square() - (p @ head.weight).square()
    penalty = odds(rate) * (features.square() * variances).sum(1).mean() / 2
    return cross_entropy(logits, labels) + penalty


def cross_entropy_head(features: Array, labels: Array, rate: float, *, decay: float) -> Head:
    r"""The minimiser of the marginalised cross-entropy plus weight decay, by L-BFGS.

    .. math:: \frac1N \sum_i E\,\ell_i + \frac{\mathrm{decay}}{2} (\|W\|^2 + \|b\|^2)

    This is what SGD with weight decay on all weights of a linear layer behind dropout approaches;
    started from zero. The objective is not convex for large penalties, where the answer is a
    local minimum; `converged` says whether the gradient vanished.

    Raises:
        InputError: If features and labels do not fit, the rate is not in [0, 1), or there is no
            decay (the minimiser of separable data then lies at infinity).
    """
    x = matrix(features).double()
    y = labels_of(labels, len(x)).to(x.device)
    if not decay > 0:
        raise InputError(f"the weight decay is {decay}; a positive one was expected")
    num_classes = int(y.max()) + 1
    weight = x.new_zeros(num_classes, x.shape[1]).requires_grad_()
    bias = x.new_zeros(num_classes).requires_grad_()
    solver = torch.optim.LBFGS(
        [weight, bias],
        max_iter=ITERATIONS,
        history_size=100,
        tolerance_grad=TOLERANCE,
        tolerance_change=0.0,
        line_search_fn="strong_wolfe",
    )

    def objective() -> Tensor:
        solver.zero_grad()
        loss = marginalised_cross_entropy(Head(weight, bias), x, y, rate)
        loss = loss + decay / 2 * (weight.square().sum() + bias.square().sum())
        loss.backward()
        return loss

    solver.step(objective)  # type: ignore[arg-type]
    objective()
    assert weight.grad is not None and bias.grad is not None
    gradient = torch.maximum(weight.grad.abs().max(), bias.grad.abs().max())
    return Head(weight.detach(), bias.detach(), bool(gradient <= TOLERANCE))
