r"""A linear layer trained behind dropout: what SGD with fresh masks converges to.

With :math:`\tilde x_j = m_j x_j / (1 - \lambda)` and :math:`m_j \sim B(1 - \lambda)`, SGD with
momentum minimises

.. math::
    \frac1N \sum_i E\, \ell(y_i, W \tilde x_i + b) + \frac{\mathrm{decay}}{2} (\|W\|^2 + \|b\|^2)

for half the squared error (whose minimiser is `probes.dropout_ridge.least_squares_head`) or the
cross-entropy (which `probes.dropout_ridge.cross_entropy_head` approximates). Both have the
gradient :math:`(\mu(f) - y)\, \tilde x^T`, with the identity or the softmax for :math:`\mu`.

Features of a network are so badly conditioned that plain SGD stops far from the minimiser. It
therefore runs in coordinates in which the expected curvature is at most one,

.. math:: V = W H^{1/2}, \qquad
    H = c \Big( \mathrm{Cov}(x) + \tfrac{\lambda}{1 - \lambda} \operatorname{diag} E x_j^2 \Big)
        + \mathrm{decay} \, (I + \bar x \bar x^T),

and around the mean of the features, :math:`f = W (\tilde x - \bar x) + b + W \bar x`. Neither
moves the minimiser. c = 1 for the squared loss and 1/2 for the cross-entropy. Iterates are
averaged over the second half of the steps, and the step falls with the power 2/3 of their number:
the mean of iterates at a constant step is biased unless the loss is quadratic. The average over
the second quarter, which is the answer of half the steps, is kept beside it: what the loss still
fell by from one to the other says whether more steps are needed.

Shapes: N examples, D features, C outputs.

References:
    | Acceleration of Stochastic Approximation by Averaging (Polyak & Juditsky, 1992)
    | https://doi.org/10.1137/0330046
    | Multinomial Logistic Regression Algorithm (Böhning, 1992), the bound on the curvature
    | https://doi.org/10.1007/BF00048682
"""

from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Generator, Tensor

from core.arrays import Array, matrix
from core.errors import InputError
from probes.dropout_ridge import Features, Head, expected_squared_loss, odds

Loss = Literal["squared", "cross_entropy"]
Targets = Float[Tensor, "N C"]

STEPS = 2000
BATCH_SIZE = 256
MOMENTUM = 0.9
SAFETY = 0.5  # of the largest stable step
DECLINE = 20  # the first step is kept up to about that many times its inverse
RARE = 1e-3  # of the mean square of all features, below which a feature is rare
DRAWS = 32  # of masks, for the mean of a loss that has no closed form


class Trained(NamedTuple):
    """A layer that SGD trained.

    Attributes:
        head: After all steps.
        halfway: What half of the steps would have given.
    """

    head: Head
    halfway: Head


class _Link(NamedTuple):
    """The mean that logits stand for, and a bound on its derivative."""

    mean: Callable[[Tensor], Tensor]
    curvature: float


LINKS: dict[str, _Link] = {
    "squared": _Link(lambda logits: logits, 1.0),
    "cross_entropy": _Link(lambda logits: logits.softmax(1), 0.5),
}


def dropout_head(
    features: Array,
    targets: Array,
    rate: float,
    *,
    loss: Loss,
    decay: float = 0.0,
    steps: int = STEPS,
    batch_size: int = BATCH_SIZE,
    seed: int = 0,
) -> Trained:
    """The linear layer that SGD with momentum and fresh dropout masks trains.

    Args:
        features: One row per example.
        targets: What is predicted; of the cross-entropy, class probabilities (one-hot labels).
        rate: Of the dropout.
        loss: `squared` or `cross_entropy`.
        decay: Strength of the penalty on all weights and biases.
        steps: Of SGD; iterates of the second half are averaged.
        batch_size: Examples a step.
        seed: Decides batches and masks.

    Raises:
        InputError: If features and targets do not fit, the rate is not in [0, 1), or there are
            fewer than four steps.
    """
    x, y = matrix(features).double(), matrix(targets, "targets").double()
    _check(x, y, steps)
    generator = torch.Generator(x.device).manual_seed(seed)
    batch_size = min(batch_size, len(x))
    mean, inverse = x.mean(0), _inverse_curvature(x, rate, loss, decay)
    first = _stable_step(x, inverse, rate, loss, batch_size)
    # The columns of weights are those of the features, centred, and the bias.
    metric = torch.block_diag(inverse, inverse.new_full((1, 1), 1 / LINKS[loss].curvature))
    scaled = x / (1 - rate)
    weights, velocity, early, late = x.new_zeros(4, y.shape[1], x.shape[1] + 1).unbind()
    for at, rows in enumerate(_batches(len(x), batch_size, steps, generator)):
        masked, head = _masked(scaled[rows], rate, generator), _around_zero(weights, mean)
        residual = LINKS[loss].mean(masked @ head.weight.T + head.bias) - y[rows]
        by_bias = residual.mean(0)
        by_weight = residual.T @ masked / batch_size - torch.outer(by_bias, mean)
        gradient = torch.cat([by_weight, by_bias[:, None]], 1)
        if decay:
            gradient += decay * _penalty_gradient(weights, mean)
        velocity.mul_(MOMENTUM).add_(gradient @ metric)
        weights -= (1 - MOMENTUM) * first * (1 + first * at / DECLINE) ** (-2 / 3) * velocity
        if at >= steps // 2:
            late += weights / (steps - steps // 2)
        elif at >= steps // 4:
            early += weights / (steps // 2 - steps // 4)
    return Trained(_around_zero(late, mean), _around_zero(early, mean))


def _around_zero(weights: Float[Tensor, "C D1"], mean: Float[Tensor, " D"]) -> Head:
    return Head(weights[:, :-1], weights[:, -1] - weights[:, :-1] @ mean)


def dropped(x: Features, rate: float, generator: Generator) -> Features:
    """Features behind dropout, scaled so that their mean stays."""
    return _masked(x / (1 - rate), rate, generator)


def _masked(x: Features, rate: float, generator: Generator) -> Features:
    """The same array, with features dropped in place."""
    # Single precision is enough to draw masks with, and twice as fast.
    drawn = torch.rand(x.shape, generator=generator, device=x.device, dtype=torch.float32)
    return x.mul_(drawn >= rate)


def excess_loss(
    head: Head,
    reference: Head,
    features: Features,
    targets: Targets,
    rate: float,
    *,
    loss: Loss,
    decay: float = 0.0,
    seed: int = 0,
) -> tuple[float, float]:
    """The mean expected loss of a head less that of another, and its standard error.

    The squared loss is exact, with an error of 0; the cross-entropy is a mean over masks, the same
    for both heads. Of a reference that only approximates the minimiser, it may be negative.
    """
    penalty = decay / 2 * (_square(head) - _square(reference))
    if loss == "squared":
        losses = [expected_squared_loss(h, features, targets, rate) for h in (head, reference)]
        return float(losses[0] - losses[1]) / (2 * len(features)) + penalty, 0.0
    generator = torch.Generator(features.device).manual_seed(seed)
    draws = torch.stack(
        [
            _cross_entropy(head, masked, targets) - _cross_entropy(reference, masked, targets)
            for masked in (dropped(features, rate, generator) for _ in range(DRAWS))
        ]
    )
    return float(draws.mean()) + penalty, float(draws.std()) / DRAWS**0.5


def _inverse_curvature(x: Features, rate: float, loss: Loss, decay: float) -> Float[Tensor, "D D"]:
    """Inverse of H at the head of this module; its pseudo-inverse where nothing varies.

    Started from zero, SGD then never leaves the span of the features, and where the minimiser is
    not unique it comes to the one of least norm, as the closed form does. Features that are
    almost never active count as larger than they are: the rare batches that see them would allow
    tiny steps only.
    """
    mean, square = x.mean(0), x.square().mean(0)
    curvature = (x - mean).T @ (x - mean) / len(x)
    curvature.diagonal().add_(odds(rate) * square.clamp(min=RARE * float(square.mean())))
    curvature.mul_(LINKS[loss].curvature).add_(decay * torch.outer(mean, mean))
    curvature.diagonal().add_(decay)
    return torch.linalg.pinv(curvature, hermitian=True)


def _stable_step(
    x: Features, inverse: Float[Tensor, "D D"], rate: float, loss: Loss, batch_size: int
) -> float:
    r"""A step at which SGD on batches of B stays stable.

    In coordinates of unit curvature an example adds :math:`z z^T` to the curvature of its batch,
    and the mean square of the weights shrinks as long as the step lies below :math:`2 B / (B + q)`
    with :math:`E \|z\|^2 z z^T \preceq q\, E z z^T`. Feature by feature, and with
    :math:`M = H^{-1}`, that is

    .. math::
        q = \max_j \frac{\sum_i x_{ij}^2 \|z_i\|_j^2}{\sum_i x_{ij}^2}, \qquad
        \|z_i\|_j^2 = (x_i - \bar x)^T M (x_i - \bar x)
        + \tfrac{\lambda}{1 - \lambda} \sum_k M_{kk} x_{ik}^2
        + \frac{M_{jj} x_{ij}^2}{(1 - \lambda)^2} ,

    the squared length of an example whose feature j is kept, in expectation over the others.
    """
    centred, squares, diagonal = x - x.mean(0), x.square(), inverse.diagonal()
    lengths = ((centred @ inverse) * centred).sum(1) + odds(rate) * squares @ diagonal
    kept = diagonal * squares / (1 - rate) ** 2
    sums = squares.sum(0)
    totals = (squares * (lengths[:, None] + kept)).sum(0)
    q = LINKS[loss].curvature * float((totals[sums > 0] / sums[sums > 0]).max()) + 1  # the bias
    return SAFETY * 2 * batch_size / (batch_size + q)


def _penalty_gradient(
    weights: Float[Tensor, "C D1"], mean: Float[Tensor, " D"]
) -> Float[Tensor, "C D1"]:
    """Of half the squared norm of W and b, by W and the bias around the mean of the features."""
    bias = weights[:, -1] - weights[:, :-1] @ mean
    return torch.cat([weights[:, :-1] - torch.outer(bias, mean), bias[:, None]], 1)


def _batches(
    num: int, batch_size: int, steps: int, generator: Generator
) -> Iterator[Int64[Tensor, " _"]]:
    """Batches of one size, shuffled again whenever the examples run out."""
    per_epoch = num // batch_size
    for at in range(steps):
        if at % per_epoch == 0:
            order = torch.randperm(num, generator=generator, device=generator.device)
        start = at % per_epoch * batch_size
        yield order[start : start + batch_size]


def _cross_entropy(head: Head, x: Features, targets: Targets) -> Float[Tensor, ""]:
    return -(targets * head(x).log_softmax(1)).sum(1).mean()


def _square(head: Head) -> float:
    return float(head.weight.square().sum() + head.bias.square().sum())


def _check(x: Tensor, y: Tensor, steps: int) -> None:
    if len(x) != len(y):
        raise InputError(
            f"there are {len(x)} rows of features and {len(y)} of targets; one target per example "
            "was expected"
        )
    if steps < 4:
        raise InputError(f"there are {steps} steps; at least 4 were expected")
