r"""Softmax regression for many C on the same features: principal axes, curvature, warm starts.

.. math:: \min_{W, b}\; \frac{1}{2 C N} \|W\|_F^2
    + \frac{1}{N} \sum_n -\ln \mathrm{softmax}(W x_n + b)_{y_n}

This is scikit-learn's objective divided by :math:`C N`. Three exact facts make a path of it cheap:

1. The penalty does not change under rotation. In the R principal axes of centred features the
   Gram matrix is diagonal, and for N < D only R < N columns are left.
2. There the Hessian is close to :math:`\mathrm{diag}(h_k \lambda_i + 1/CN)`, with
   :math:`\lambda_i` the variance along axis i and :math:`h_k` the mean of
   :math:`p_k (1 - p_k)`. In coordinates scaled by its root, L-BFGS needs a handful of steps.
3. Along increasing C the solution moves smoothly in :math:`\ln C`, so the line through the last
   two solutions is an excellent start.

Shapes: N examples, D features, R principal axes, K classes; weights carry the intercept as the
last of R + 1 columns.

References:
    | Multinomial logistic regression algorithm (Böhning, 1992)
    | https://doi.org/10.1007/BF00048682
    | On the limited memory BFGS method (Liu & Nocedal, 1989)
    | https://doi.org/10.1007/BF01589116
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float, Int64
from scipy.linalg import eigh
from scipy.optimize import minimize

FLOOR = 1e-3  # nats; an objective this small leaves nothing that a probability would show
Weights = Float[np.ndarray, "K R1"]


@dataclass(frozen=True, kw_only=True)
class Solution:
    """Weights at one C, and what the next solve starts from.

    Attributes:
        C: Inverse strength of the penalty, as in scikit-learn.
        weights: In principal axes, the intercept last.
        objective: Value of the objective above.
        curvature: Mean over examples of p (1 - p) for each class.
        converged: Whether the solver reached its tolerance.
    """

    C: float
    weights: Weights
    objective: float
    curvature: Float[np.ndarray, " K"]
    converged: bool


class Problem:
    """Softmax regression on centred features, in their principal axes.

    Args:
        features: Centred features.
        classes: Class index of every example, every class present.
    """

    def __init__(
        self, features: Float[np.ndarray, "N D"], classes: Int64[np.ndarray, " N"]
    ) -> None:
        components, self.axes = principal_components(features)
        self.num_examples = len(features)
        self.inputs = np.column_stack([components, np.ones(self.num_examples)])
        self.variance = np.square(self.inputs).mean(0)
        self.prior = np.bincount(classes) / self.num_examples
        self.onehot = np.eye(len(self.prior))[:, classes]
        # Two classes: scikit-learn penalises the one difference w1 - w0, which for w1 = -w0 is
        # twice the penalty of the rows.
        self.penalty = np.full(len(self.variance), 2.0 if len(self.prior) == 2 else 1.0)
        self.penalty[-1] = 0

    def null(self) -> Solution:
        """The solution at C = 0: no weights, intercepts that give the class frequencies."""
        weights = np.zeros((len(self.prior), len(self.variance)))
        weights[:, -1] = np.log(self.prior)
        entropy = -float((self.prior * weights[:, -1]).sum())
        curvature = self.prior * (1 - self.prior)
        return Solution(
            C=0.0, weights=weights, objective=entropy, curvature=curvature, converged=True
        )

    def loss(
        self, weights: Weights
    ) -> tuple[float, Float[np.ndarray, "K R1"], Float[np.ndarray, "K N"]]:
        """Mean cross-entropy, its gradient, and the probabilities."""
        # (K, N) and not (N, K): twice as fast in BLAS for few classes.
        logits = weights @ self.inputs.T
        logits -= logits.max(0)
        right = float((logits * self.onehot).sum())
        p = np.exp(logits, out=logits)
        total = p.sum(0)
        p /= total
        # Differences example by example: sums over examples would cancel where all are right.
        gradient = (p - self.onehot) @ self.inputs / self.num_examples
        return (float(np.log(total).sum()) - right) / self.num_examples, gradient, p

    def path(
        self, values_of_C: Iterable[float], tolerance: float, max_iter: int
    ) -> Iterator[Solution]:
        """Solutions at increasing C, each started on the line through the two before it."""
        before = last = self.null()
        for C in values_of_C:
            start = last.weights
            if before.C:
                step = math.log(C / last.C) / math.log(last.C / before.C)
                start = start + step * (last.weights - before.weights)
            before, last = last, self.solve(C, start, last, tolerance, max_iter)
            yield last

    def solve(
        self, C: float, start: Weights, neighbour: Solution, tolerance: float, max_iter: int
    ) -> Solution:
        r"""Minimise at one C.

        In scaled coordinates the Hessian is about the identity, and the distance to the minimum
        about half the squared gradient. The largest entry of the gradient is brought below
        `tolerance` times that of the null model, or times the root of the objective (or of
        `FLOOR`) where that is smaller: relative to what was gained, and to what is left.

        Args:
            C: Inverse strength of the penalty.
            start: Weights to start from.
            neighbour: Solution nearby, whose curvature scales the coordinates.
            tolerance: See above.
            max_iter: Most steps of L-BFGS.
        """
        ridge = self.penalty / (C * self.num_examples)
        scale = np.sqrt(_positive(neighbour.curvature)[:, None] * self.variance + ridge)
        seen: dict[str, Float[np.ndarray, "K N"]] = {}

        def function(scaled: np.ndarray) -> tuple[float, np.ndarray]:
            weights = scaled.reshape(scale.shape) / scale
            loss, gradient, seen["p"] = self.loss(weights)
            penalty = float((ridge * weights**2).sum()) / 2
            return loss + penalty, ((gradient + ridge * weights) / scale).ravel()

        gained = np.abs(self._null_gradient / scale).max()
        options = {
            "gtol": tolerance * min(gained, math.sqrt(max(neighbour.objective, FLOOR))),
            "ftol": 4 * np.finfo(float).eps,
            "maxiter": max_iter,
            "maxfun": 50 * max_iter,
        }
        found = minimize(
            function, (start * scale).ravel(), jac=True, method="L-BFGS-B", options=options
        )
        return Solution(
            C=C,
            weights=found.x.reshape(scale.shape) / scale,
            objective=float(found.fun),
            curvature=(seen["p"] * (1 - seen["p"])).mean(1),
            converged=bool(found.success),
        )

    @cached_property
    def _null_gradient(self) -> Weights:
        return self.loss(self.null().weights)[1]


def principal_components(
    features: Float[np.ndarray, "N D"],
) -> tuple[Float[np.ndarray, "N R"], Float[np.ndarray, "D R"]]:
    """Components and orthonormal axes, without the axes along which nothing varies.

    Wide features are first reduced to N columns by a QR decomposition, which keeps the axes
    orthonormal to the last digit where an eigendecomposition of the N x N Gram matrix would not.
    """
    if features.shape[1] > len(features):
        basis, reduced = np.linalg.qr(features.T)
        components, axes = principal_components(reduced.T)
        return components, basis @ axes
    variance, axes = eigh(features.T @ features, driver="evd")
    axes = axes[:, variance > variance[-1] * len(features) * np.finfo(float).eps]
    return features @ axes, axes


def _positive(curvature: Float[np.ndarray, " K"]) -> Float[np.ndarray, " K"]:
    """Above zero where every probability is 0 or 1 to the last digit."""
    return np.maximum(curvature, np.finfo(float).eps)
