r"""Kernel ridge regression with a tangent kernel, its ridge chosen by leave-one-out.

The prediction of lazy training: what gradient descent on the squared loss does to a network that
stays linear around :math:`\theta_0`.

.. math:: f(x) = f_0(x) + K(x, X)\,(K(X, X) + \rho I)^{-1} (Y - f_0(X))

Leaving example i out moves its residual by a factor that the inverse holds, so that no fit is
repeated: with :math:`G = (K + \rho I)^{-1}` and :math:`r = Y - f_0(X)`

.. math:: r_i - \hat f_{-i}(x_i) = (G_{ii})^{-1} (G r)_i ,

where :math:`G_{ii}` is a number for a kernel between examples, and a C x C block, all outputs of
the example, for a kernel between outputs of examples.

Shapes: N examples, M others, C outputs, R ridges.

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


def _check(kernel: Tensor, targets: Tensor, ridges: Sequence[float]) -> None:
    num, outputs = targets.shape
    if kernel.shape not in {(num, num), (num, outputs, num, outputs)}:
        raise InputError(
            f"the kernel has shape {tuple(kernel.shape)}, the targets {tuple(targets.shape)}; "
            f"{(num, num)} or {(num, outputs, num, outputs)} was expected"
        )
    if num < 2:
        raise InputError("there is one example; leave-one-out needs at least two")
    if not ridges or min(ridges) <= 0:
        raise InputError(f"the ridges are {list(ridges)}; positive numbers were expected")
