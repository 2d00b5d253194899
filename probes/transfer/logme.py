r"""LogME: the evidence of a Bayesian linear model for the labels, given the features.

For the one-hot column :math:`y` of a class, weights :math:`w \sim N(0, I / \alpha)` and noise
:math:`N(0, 1 / \beta)`, so that

.. math:: y \sim N(0,\; I / \beta + F F^T / \alpha), \qquad
    \mathrm{LogME} = \frac{1}{K} \sum_c \max_{\alpha, \beta} \frac{1}{N} \ln p(y_c \mid F)

With the singular values :math:`\sigma_i` of F, the coordinates :math:`z_i` of y along its left
singular vectors and the squared rest :math:`r^2`, at :math:`t = \alpha / \beta`

.. math:: \ln p = \tfrac{N}{2} \ln \tfrac{\beta}{2 \pi} - \tfrac{\beta}{2} q(t)
    - \tfrac{1}{2} \sum_i \ln (1 + \sigma_i^2 / t), \quad
    q(t) = \sum_i \frac{z_i^2}{1 + \sigma_i^2 / t} + r^2

The best :math:`\beta = N / q(t)` is known, and one bounded search over :math:`\ln t` is left,
where the fixed point of the original takes up to eleven steps and may stop at a lesser maximum.
Written so, the D - R directions of weight space that no example reaches cancel, as they must; the
original code leaves their :math:`-\frac{D - R}{2} \ln \alpha` out, which makes N < D look far
too good.

There is no intercept and the one-hot columns are not centred, as in the original. The value is a
density, not a probability: it may be above zero.

Shapes: N examples, D features, R = min(N, D), K classes.

References:
    | LogME: Practical Assessment of Pre-trained Models for Transfer Learning (You et al., 2021)
    | https://arxiv.org/abs/2102.11005
"""

import math
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from scipy.optimize import minimize_scalar

from core.arrays import Array
from core.errors import InputError
from probes.transfer.checks import labelled

SEARCH = (-32.0, 24.0)  # of ln t relative to the largest squared singular value
NUM_STARTS = 57  # a unit of ln t apart


class Evidence(NamedTuple):
    """The maximum of the log evidence of one class, and where it lies."""

    log_evidence: float
    alpha: float
    beta: float


class Projected(NamedTuple):
    """What the evidence of one class depends on.

    Attributes:
        squared_singular_values: Of the features.
        squared_coordinates: Of the labels along the left singular vectors.
        squared_rest: Of the labels outside the span of the features.
        num_examples: Number of examples.
    """

    squared_singular_values: Float[np.ndarray, " R"]
    squared_coordinates: Float[np.ndarray, " R"]
    squared_rest: float
    num_examples: int

    def log_evidence(self, alpha: float, beta: float) -> float:
        """Log density of the labels."""
        spread = 1 + self.squared_singular_values * (beta / alpha)
        fit = float((self.squared_coordinates / spread).sum()) + self.squared_rest
        normal = self.num_examples * math.log(beta / (2 * math.pi)) - beta * fit
        return (normal - float(np.log(spread).sum())) / 2

    def best_beta(self, ratio: float) -> float:
        """The noise precision of largest evidence, at a given alpha / beta."""
        spread = 1 + self.squared_singular_values / ratio
        fit = float((self.squared_coordinates / spread).sum()) + self.squared_rest
        return self.num_examples / fit

    def maximum(self) -> Evidence:
        """Best of a grid of t, refined between its neighbours."""
        largest = math.log(self.squared_singular_values.max())
        grid = largest + np.linspace(*SEARCH, NUM_STARTS)
        best = int(np.argmin([self._loss(x) for x in grid]))
        ends = grid[max(0, best - 1)], grid[min(len(grid) - 1, best + 1)]
        found = minimize_scalar(
            self._loss, bounds=ends, method="bounded", options={"xatol": 1e-10}
        )
        ratio = math.exp(found.x)
        beta = self.best_beta(ratio)
        return Evidence(-float(found.fun), ratio * beta, beta)

    def _loss(self, log_ratio: float) -> float:
        ratio = math.exp(log_ratio)
        beta = self.best_beta(ratio)
        return -self.log_evidence(ratio * beta, beta)


def logme(features: Array, labels: Array) -> float:
    """Mean over the classes present of the maximal log evidence per example; higher is better.

    A scaling of all features changes nothing, since the prior is fitted; a scaling of single
    columns does.

    Args:
        features: Features, one row per example; not centred here.
        labels: Class indices.

    Raises:
        InputError: If features and labels do not fit, or the labels are an exact linear function
            of fewer features than examples, where the evidence has no bound.

    Example:
        >>> x = np.array([[1.0, 0.1], [0.9, 0.0], [0.1, 1.0], [0.0, 0.8]])
        >>> logme(x, np.array([0, 0, 1, 1])) > logme(x, np.array([0, 1, 0, 1]))
        True
    """
    evidences = class_evidences(features, labels)
    return float(np.mean([e.log_evidence for e in evidences.values()])) / len(labels)


def class_evidences(features: Array, labels: Array) -> dict[int, Evidence]:
    """The maximal log evidence of every class present, not divided by N.

    Raises:
        InputError: As for `logme`.
    """
    return {c: part.maximum() for c, part in projections(features, labels).items()}


def projections(features: Array, labels: Array) -> dict[int, Projected]:
    """The labels of every class present in the singular basis of the features.

    Raises:
        InputError: As for `logme`.
    """
    x, y = labelled(features, labels)
    classes = np.unique(y)
    onehot = torch.from_numpy((y[:, None] == classes).astype(np.float64)).to(x.device)
    left, singular, _ = torch.linalg.svd(x.double(), full_matrices=False)
    coordinates = left.T @ onehot
    # Not as a difference of squares, which would lose the digits of a small rest.
    rest = (onehot - left @ coordinates).square().sum(0).cpu()
    squares, coordinates = singular.square().cpu().numpy(), coordinates.square().cpu().numpy()
    found = {
        int(c): Projected(squares, coordinates[:, i], float(rest[i]), len(y))
        for i, c in enumerate(classes)
    }
    _check_bounded(found)
    return found


def _check_bounded(found: dict[int, Projected]) -> None:
    """At t = 0 the evidence is infinite where y lies in a span of fewer than N dimensions."""
    for c, (squares, coordinates, rest, num) in found.items():
        # Singular values below this are rounding (NumPy's matrix_rank).
        reached = squares > squares.max() * (num * np.finfo(float).eps) ** 2
        outside = float(coordinates[~reached].sum()) + rest
        rank = int(reached.sum())
        if rank < num and outside <= num * coordinates.sum() * np.finfo(float).eps ** 2:
            raise InputError(
                f"the labels of class {c} are an exact linear function of the features, of rank "
                f"{rank} for {num} examples, and the evidence has no bound; noise was expected: "
                "give more examples, or features that are not the labels themselves"
            )
