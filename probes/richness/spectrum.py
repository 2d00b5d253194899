r"""The moments of features and their spectrum, computed once and shared by every measure.

Everything spectral follows from the mean and from one matrix of the centred features
:math:`Z_c = Z - \mathbf 1 \mu^T`, their scatter :math:`Z_c^T Z_c` or, where there are fewer
examples than features, its smaller twin :math:`Z_c Z_c^T`. Uncentred moments are the centred ones
plus the mean, which loses no digits; the other way round would.

Squaring the features costs half of the digits: eigenvalues below :math:`\max(N, D)\,\varepsilon`
times the largest one (singular values below about a millionth of the largest) are rounding noise
and are set to zero. Features in single precision hold no more than that either.

Shapes: N examples, D features, M = min(N, D).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Float, Int64
from scipy.linalg import eigvalsh
from torch import Tensor

from core.arrays import Array, matrix

BLOCK_BYTES = 16 << 20  # of the float64 differences that one block of rows makes

Spectrum = Float[np.ndarray, " M"]


def deviations(
    x: Float[Tensor, "N D"], centre: Float[Tensor, " D"]
) -> Iterator[Float[Tensor, "_ D"]]:
    """Rows minus a centre, block by block, in float64.

    Every block lies in the same memory, which spares the allocator: use it before the next one.
    """
    room = block_room(x)
    for block in x.split(len(room)):
        yield torch.sub(block, centre, out=room[: len(block)])


def block_room(x: Float[Tensor, "N D"]) -> Float[Tensor, "_ D"]:
    """Memory for one block of rows in float64."""
    rows = max(1, BLOCK_BYTES // (8 * x.shape[1]))
    return x.new_empty(min(rows, len(x)), x.shape[1], dtype=torch.float64)


@dataclass(frozen=True, eq=False)
class Moments:
    """Mean and scatter of features; what is derived from them is computed once, when asked for.

    Attributes:
        features: The features, not copied.
        mean: Mean over examples, in float64.
        scatter: :math:`Z_c^T Z_c`, or :math:`Z_c Z_c^T` where N < D, in float64.

    Example:
        >>> Moments.of(np.array([[3.0, 1.0], [1.0, 1.0]])).eigenvalues()
        array([2., 0.])
    """

    features: Float[Tensor, "N D"]
    mean: Float[Tensor, " D"]
    scatter: Float[Tensor, "M M"]

    @classmethod
    def of(cls, features: Array) -> "Moments":
        """Moments of a matrix of features, in two passes and without a copy of it.

        Raises:
            InputError: If this is no finite matrix of at least two examples.
        """
        x = matrix(features, least=2).detach()
        mean = _mean(x)
        return cls(x, mean, _scatter(x, mean))

    @property
    def num_examples(self) -> int:
        """N."""
        return self.features.shape[0]

    @property
    def num_features(self) -> int:
        """D."""
        return self.features.shape[1]

    def subset(self, kept: Int64[Tensor, " _"]) -> "Moments":
        r"""Moments of some of the examples.

        Where most are kept, the scatter is updated instead of computed anew:

        .. math:: S_\mathrm{kept} = S - \sum_\mathrm{dropped} z_c z_c^T - N_\mathrm{kept} s s^T

        with s the move of the mean. A jackknife over groups thus costs one Gram product in all.
        """
        kept = kept.to(self.features.device)
        x, dropped = self.features[kept], self._others(kept)
        wide = self.num_examples < self.num_features
        if not wide and (len(kept) < self.num_features or len(dropped) > len(kept)):
            return Moments.of(x)
        mean = _mean(x)
        if wide:
            return Moments(x, mean, _centred(self.scatter[kept][:, kept]))
        gone, moved = self.features[dropped] - self.mean, mean - self.mean
        scatter = torch.addmm(self.scatter, gone.T, gone, alpha=-1)
        return Moments(x, mean, scatter.addr_(moved, moved, alpha=-len(kept)))

    def _others(self, kept: Int64[Tensor, " _"]) -> Int64[Tensor, " _"]:
        dropped = torch.ones(self.num_examples, dtype=torch.bool, device=kept.device)
        dropped[kept] = False
        return dropped.nonzero()[:, 0]

    def eigenvalues(self, *, centred: bool = True) -> Spectrum:
        r"""Squared singular values of the features, largest first, noise set to zero.

        The eigenvalues of the covariance are these over :math:`N - 1`.
        """
        return self._centred_eigenvalues if centred else self._raw_eigenvalues

    @cached_property
    def _centred_eigenvalues(self) -> Spectrum:
        return _spectrum(self.scatter.clone(), max(self.features.shape))

    @cached_property
    def _raw_eigenvalues(self) -> Spectrum:
        return _spectrum(self._second_moment(), max(self.features.shape))

    def _second_moment(self) -> Float[Tensor, "M M"]:
        """The same as the scatter, of the features as they are."""
        if self.num_examples >= self.num_features:
            return torch.addr(self.scatter, self.mean, self.mean, alpha=self.num_examples)
        # <z_i, z_j> = <c_i, c_j> + <c_i, mean> + <c_j, mean> + <mean, mean>
        along = torch.cat([part @ self.mean for part in deviations(self.features, self.mean)])
        return self.scatter + (along + along[:, None] + self.mean @ self.mean)

    @cached_property
    def variances(self) -> Float[Tensor, " D"]:
        """Variance of every feature, with N - 1; exactly zero for a constant one."""
        total = torch.zeros_like(self.mean)
        for part in deviations(self.features, self.mean):
            total += torch.linalg.vector_norm(part, dim=0).square()
        return total / (self.num_examples - 1)

    @cached_property
    def square_norms(self) -> Float[Tensor, " N"]:
        """Squared distance of every example from the mean."""
        parts = deviations(self.features, self.mean)
        return torch.cat([torch.linalg.vector_norm(part, dim=1).square() for part in parts])

    def total(self, *, centred: bool = True) -> float:
        """Sum of the eigenvalues, without computing them."""
        mean = 0.0 if centred else self.num_examples * float(self.mean @ self.mean)
        return float(self.scatter.trace()) + mean

    def total_of_squares(self, *, centred: bool = True) -> float:
        """Sum of the squared eigenvalues, without computing them."""
        moment = self.scatter if centred else self._second_moment()
        return float(torch.linalg.matrix_norm(moment)) ** 2


Source = np.ndarray | Tensor | Moments  # what the measures take: features, or moments to share


def moments_of(source: Source) -> Moments:
    """The moments themselves, or those of the features."""
    return source if isinstance(source, Moments) else Moments.of(source)


def _mean(x: Float[Tensor, "N D"]) -> Float[Tensor, " D"]:
    """Relative to the first example, so that a constant feature deviates by exactly zero."""
    first = x[0].double()
    total = torch.zeros_like(first)
    for part in deviations(x, first):
        total += part.sum(0)
    return first + total / len(x)


def _scatter(x: Float[Tensor, "N D"], mean: Float[Tensor, " D"]) -> Float[Tensor, "M M"]:
    num, dim = x.shape
    total = mean.new_zeros(min(num, dim), min(num, dim))
    if num >= dim:
        for part in deviations(x, mean):
            total.addmm_(part.T, part)
        return total
    columns = max(1, BLOCK_BYTES // (8 * num))
    for block, centre in zip(x.split(columns, 1), mean.split(columns), strict=True):
        part = block - centre
        total.addmm_(part, part.T)
    return total


def _centred(kernel: Float[Tensor, "M M"]) -> Float[Tensor, "M M"]:
    rows = kernel.mean(0)
    return kernel - rows - rows[:, None] + rows.mean()


def _spectrum(symmetric: Float[Tensor, "M M"], size: int) -> Spectrum:
    """Eigenvalues, largest first, noise set to zero. The matrix is overwritten on the CPU."""
    if symmetric.is_cpu:
        # In place, where PyTorch would work on a copy; Fortran's order is the transpose.
        values = eigvalsh(symmetric.numpy().T, overwrite_a=True, check_finite=False)
    else:
        values = torch.linalg.eigvalsh(symmetric).cpu().numpy()
    values = values[::-1].clip(min=0)
    return np.where(values > size * np.finfo(np.float64).eps * values[0], values, 0)
