r"""Kernel ridge regression with a tangent kernel, its ridge chosen by leave-one-out.

The prediction of lazy training: what gradient descent on the squared loss does to a network that
stays linear around :math:`\theta_0`.

.. math:: f(x) = f_0(x) + K(x, X)\,(K(X, X) + \rho I)^{-1} (Y - f_0(X))

Leaving example i out moves its residual by a factor that the inverse holds, so that no fit is
repeated: with :math:`G = (K + \rho I)^{-1}` and :math:`r = Y - f_0(X)`

.. math:: r_i - \hat f_{-i}(x_i) = (G_{ii})^{-1} (G r)_i ,

where :math:`G_{ii}` is a number for a kernel between examples, and a C x C block, all outputs of
the example, for a kernel between outputs of examples.

Where the kernel is too large, it may be one of k features, :math:`K = Z Z^\top`: the same fit is
ridge regression on the features, and leaving out takes blocks of the hat matrix,

.. math:: r_i - \hat f_{-i}(x_i) = (I - H_{ii})^{-1} (r - H r)_i, \qquad
    H = Z (Z^\top Z + \rho I)^{-1} Z^\top .

Shapes: N examples, M others, C outputs, R ridges, k features.

References:
    | A Kernel-Based View of Language Model Fine-Tuning (Malladi et al., 2023)
    | https://arxiv.org/abs/2210.05643
    | Regularized Least-Squares Classification (Rifkin, Yeo & Poggio, 2003), leave-one-out
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from core.errors import InputError

# Ridges in units of the mean eigenvalue.
RIDGES = tuple(float(ridge) for ridge in np.logspace(-8, 2, 31))


class KernelRidge(NamedTuple):
    """A fitted kernel ridge regression.

    Attributes:
        dual: Coefficients, one row per example.
        ridge: The ridge in units of the mean eigenvalue of the kernel.
        errors: Mean squared leave-one-out residual of every ridge tried.
        residuals: Leave-one-out residuals at the chosen ridge.
    """

    dual: Float[Tensor, "N C"]
    ridge: float
    errors: dict[float, float]
    residuals: Float[Tensor, "N C"]

    def predict(self, kernel: Float[Tensor, "M N"] | Float[Tensor, "M C N C"]) -> Tensor:
        """The change of the outputs at other examples, from their kernel with the fitted ones."""
        if kernel.ndim == 2:
            return kernel.to(self.dual) @ self.dual
        return torch.einsum("mcnd,nd->mc", kernel.to(self.dual), self.dual)


def kernel_ridge(
    kernel: Tensor,
    targets: Float[Tensor, "N C"],
    ridges: Sequence[float] = RIDGES,
) -> KernelRidge:
    """Fit with the ridge that has the least squared leave-one-out residual.

    Args:
        kernel: Between examples (N, N), shared by all outputs, or between outputs of examples
            (N, C, N, C).
        targets: What is predicted: labels less the outputs before training.
        ridges: Candidates, in units of the mean eigenvalue of the kernel.

    Raises:
        InputError: If kernel and targets do not fit, or a ridge is not positive.
    """
    _check(kernel, targets, ridges)
    between_outputs = kernel.ndim == 4
    size = targets.numel() if between_outputs else len(targets)
    square = kernel.double().reshape(size, size)
    values, vectors = torch.linalg.eigh((square + square.T) / 2)
    scale = float(values.mean())
    r = targets.double().reshape(size, -1)
    projected = vectors.T @ r
    fits = {}
    for ridge in ridges:
        shrunk = 1 / (values.clamp(min=0) + ridge * scale)
        dual = vectors @ (shrunk[:, None] * projected)
        fits[ridge] = dual, _left_out(vectors, shrunk, dual, targets)
    errors = {ridge: float(left.square().mean()) for ridge, (_, left) in fits.items()}
    best = min(errors, key=lambda ridge: errors[ridge])
    dual, left = fits[best]
    return KernelRidge(dual.reshape(targets.shape), best, errors, left)


def _left_out(
    vectors: Float[Tensor, "S S"],
    shrunk: Float[Tensor, " S"],
    dual: Float[Tensor, "S _"],
    targets: Float[Tensor, "N C"],
) -> Float[Tensor, "N C"]:
    """Residuals of every example in the fit without it."""
    if len(vectors) == len(targets):
        return dual / (vectors.square() @ shrunk)[:, None]
    rows = vectors.reshape(*targets.shape, -1)
    inverse = torch.einsum("ncs,s,nds->ncd", rows, shrunk, rows)
    return torch.linalg.solve(inverse, dual.reshape(targets.shape))


class FeatureRidge(NamedTuple):
    """A fitted ridge regression on features that the outputs of an example have each.

    Attributes:
        weights: One number a feature, shared by all outputs.
        ridge: The ridge in units of the mean eigenvalue of the features' kernel.
        errors: Mean squared leave-one-out residual of every ridge tried.
        residuals: Leave-one-out residuals at the chosen ridge.
    """

    weights: Float[Tensor, " k"]
    ridge: float
    errors: dict[float, float]
    residuals: Float[Tensor, "N C"]

    def predict(self, features: Float[Tensor, "M C k"]) -> Float[Tensor, "M C"]:
        """The change of the outputs at other examples, from their features."""
        return features.to(self.weights) @ self.weights


def feature_ridge(
    features: Float[Tensor, "N C k"],
    targets: Float[Tensor, "N C"],
    ridges: Sequence[float] = RIDGES,
) -> FeatureRidge:
    """`kernel_ridge` on the kernel of some features, which is never formed.

    Args:
        features: Of every output of every example, such as `probes.ntk.sketched_features`.
        targets: What is predicted: labels less the outputs before training.
        ridges: Candidates, in units of the mean eigenvalue of the kernel.

    Raises:
        InputError: If there is one example only, or a ridge is not positive.
    """
    _check_ridges(len(targets), ridges)
    rows = features.double().flatten(0, 1)
    left, scales, right = torch.linalg.svd(rows, full_matrices=False)
    r = targets.double().flatten()
    projected, values = left.T @ r, scales.square()
    outside = r - left @ projected
    fits = {}
    for ridge in ridges:
        penalty = ridge * float(values.sum()) / len(rows)
        kept = penalty / (values + penalty)  # of a residual along a singular vector
        residual = (outside + left @ (kept * projected)).reshape(targets.shape)
        fits[ridge] = scales / (values + penalty) * projected, _without(left, kept, residual)
    errors = {ridge: float(left_out.square().mean()) for ridge, (_, left_out) in fits.items()}
    best = min(errors, key=lambda ridge: errors[ridge])
    return FeatureRidge(right.T @ fits[best][0], best, errors, fits[best][1])


def _without(
    left: Float[Tensor, "S k"], kept: Float[Tensor, " k"], residual: Float[Tensor, "N C"]
) -> Float[Tensor, "N C"]:
    r"""Residuals of every example in the fit without it: :math:`I - H_{ii}` solved against."""
    rows = left.reshape(*residual.shape, -1)
    hat = torch.einsum("nck,k,ndk->ncd", rows, 1 - kept, rows)
    return torch.linalg.solve(torch.eye(residual.shape[1]).to(hat) - hat, residual)


def _check(kernel: Tensor, targets: Tensor, ridges: Sequence[float]) -> None:
    num, outputs = targets.shape
    if kernel.shape not in {(num, num), (num, outputs, num, outputs)}:
        raise InputError(
            f"the kernel has shape {tuple(kernel.shape)}, the targets {tuple(targets.shape)}; "
            f"{(num, num)} or {(num, outputs, num, outputs)} was expected"
        )
    _check_ridges(num, ridges)


def _check_ridges(num: int, ridges: Sequence[float]) -> None:
    if num < 2:
        raise InputError("there is one example; leave-one-out needs at least two")
    if not ridges or min(ridges) <= 0:
        raise InputError(f"the ridges are {list(ridges)}; positive numbers were expected")
