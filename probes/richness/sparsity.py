r"""How many features are off: zeros, dead units, and how uneven the activity is.

Exact zeros only come from rectified features; transformers have none, and there the Hoyer, Gini
and kurtosis measures, which look at magnitudes, take their place.

Shapes: N examples, D features (units).

References:
    | Non-negative Matrix Factorization with Sparseness Constraints (Hoyer, 2004)
    | Comparing Measures of Sparsity (Hurley & Rickard, 2009), https://arxiv.org/abs/0811.4706
    | Sparse Coding and Decorrelation in Primary Visual Cortex (Vinje & Gallant, 2000)
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from core.arrays import Array, matrix, row_blocks
from core.errors import InputError

ROWS = 256  # small enough for the processor's cache, of which every row takes several copies


@dataclass(frozen=True, kw_only=True)
class Sparsity:
    """Activity of units, averaged over the examples or units where it is defined.

    Attributes:
        zero_share: Share of entries that are exactly zero.
        dead_units: Number of units whose magnitude never exceeds `tau` on these examples.
        dead_share: The same as a share of the units. Depends on `num_examples`.
        hoyer: Mean sparseness of an example, 0 for equal magnitudes and 1 for a single unit.
        gini: Mean Gini index of the magnitudes of an example.
        population_sparsity: Mean Treves-Rolls sparsity of an example over units.
        lifetime_sparsity: Mean Treves-Rolls sparsity of a unit over examples.
        kurtosis: Mean excess kurtosis of an example over units, 0 for Gaussian activity.
        tau: Largest magnitude that counts as dead.
        num_examples: N.
        zero_examples: Examples with no activity at all, which the means over examples leave out.
    """

    zero_share: float
    dead_units: int
    dead_share: float
    hoyer: float
    gini: float
    population_sparsity: float
    lifetime_sparsity: float
    kurtosis: float
    tau: float
    num_examples: int
    zero_examples: int


def sparsity(features: Array, tau: float = 0.0) -> Sparsity:
    r"""Every measure of sparsity, in one pass over blocks of rows.

    For an example (or, over its lifetime, a unit) with n magnitudes :math:`a_j = |z_j|`:

    .. math::
        \text{Hoyer} = \frac{\sqrt n - \|a\|_1 / \|a\|_2}{\sqrt n - 1}, \quad
        \text{Treves-Rolls} = \frac{1 - (\sum_j a_j / n)^2 / (\sum_j a_j^2 / n)}{1 - 1/n}, \quad
        \text{Gini} = 1 - 2 \sum_j \frac{a_{(j)}}{\|a\|_1} \frac{n - j + 1/2}{n}

    with :math:`a_{(1)} \le \dots \le a_{(n)}`. Firing rates are not negative, hence magnitudes.

    Args:
        features: N x D.
        tau: Largest magnitude of a dead unit.

    Raises:
        InputError: If there are fewer than two examples or features, or all features are zero.

    References:
        | Hoyer (2004); Hurley & Rickard (2009); Vinje & Gallant (2000)

    Example:
        >>> found = sparsity(torch.tensor([[1.0, 0, 0], [1, 1, 0]]))
        >>> found.zero_share, found.dead_units, round(found.population_sparsity, 3)
        (0.5, 1, 0.75)
    """
    x = matrix(features, least=2).detach()
    num, dim = x.shape
    _check(x, tau)
    zeros, means, num_active = 0, x.new_zeros(4, dtype=torch.float64), 0
    units, peak = x.new_zeros(2, dim, dtype=torch.float64), x.new_zeros(dim, dtype=torch.float64)
    for rows in _small_blocks(x):
        size = rows.abs()
        zeros += rows.numel() - int(rows.count_nonzero())
        units += torch.stack([size.sum(0), size.square().sum(0)])
        peak = torch.maximum(peak, size.amax(0))
        active = size.amax(1) > 0
        num_active += int(active.sum())
        means += _of_examples(rows[active], size[active])
    hoyer, gini, population, kurtosis = (means / num_active).tolist()
    dead = int((peak <= tau).sum())
    total, squares = units
    used = peak > 0
    return Sparsity(
        zero_share=zeros / x.numel(),
        dead_units=dead,
        dead_share=dead / dim,
        hoyer=hoyer,
        gini=gini,
        population_sparsity=population,
        lifetime_sparsity=float(treves_rolls(total[used], squares[used], num).mean()),
        kurtosis=kurtosis,
        tau=tau,
        num_examples=num,
        zero_examples=num - num_active,
    )


def treves_rolls(
    total: Float[Tensor, " _"], squares: Float[Tensor, " _"], num: int
) -> Float[Tensor, " _"]:
    r"""Sparsity from the sum and the sum of squares of `num` magnitudes, between 0 and 1."""
    return (1 - total.square() / (num * squares)) / (1 - 1 / num)


def _of_examples(rows: Float[Tensor, "N D"], size: Float[Tensor, "N D"]) -> Float[Tensor, "4"]:
    """Sums over examples of Hoyer, Gini, population sparsity and excess kurtosis."""
    dim = rows.shape[1]
    total, squares = size.sum(1), size.square().sum(1)
    hoyer = (dim**0.5 - total / squares.sqrt()) / (dim**0.5 - 1)
    # NumPy sorts rows several times as fast as PyTorch does on a CPU.
    ordered = torch.from_numpy(np.sort(size.cpu().numpy(), axis=1)).to(size.device)
    weights = (dim - torch.arange(dim, device=size.device, dtype=size.dtype) - 0.5) / dim
    gini = 1 - 2 * (ordered @ weights) / total
    spread = rows - rows.mean(1, keepdim=True)
    variance = spread.square().mean(1)
    varying = variance > 0  # equal activity everywhere has no kurtosis; it counts as Gaussian's
    kurtosis = (spread.pow(4).mean(1) / variance.square() - 3)[varying]
    parts = (hoyer, gini, treves_rolls(total, squares, dim), kurtosis)
    return torch.stack([part.sum() for part in parts])


def _small_blocks(x: Float[Tensor, "N D"]) -> Iterator[Float[Tensor, "_ D"]]:
    for rows in x.split(ROWS):
        yield from row_blocks(rows)


def _check(x: Float[Tensor, "N D"], tau: float) -> None:
    if x.shape[1] < 2:
        raise InputError("there is 1 feature; sparsity needs two or more")
    if tau < 0:
        raise InputError(f"tau is {tau}; a magnitude of zero or more was expected")
    if not x.count_nonzero():
        raise InputError(
            f"all {len(x)} examples are zero; features with some activity were expected: look at "
            "the network or the layer they come from"
        )
