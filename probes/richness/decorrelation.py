r"""How far features repeat each other, and how evenly they cover the sphere.

Shapes: N examples, D features, S sampled examples.

References:
    | VICReg (Bardes et al., 2022), https://arxiv.org/abs/2105.04906
    | Understanding Contrastive Representation Learning (Wang & Isola, 2020)
    | https://arxiv.org/abs/2005.10242
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from core.arrays import Array, matrix
from core.errors import InputError
from probes.richness.spectrum import Moments, Source, deviations, moments_of

MAX_PAIRED = 1024  # examples whose pairs are all looked at
COLUMNS = 256  # of a correlation matrix that exist at once


@dataclass(frozen=True, kw_only=True)
class Correlation:
    """Mean magnitude of correlations between different features.

    Attributes:
        value: The mean.
        constant_columns: Features that do not vary, which are left out.
    """

    value: float
    constant_columns: int


@dataclass(frozen=True, kw_only=True)
class Uniformity:
    """Uniformity on the sphere, and the number of examples whose pairs it is the mean of."""

    value: float
    num_examples: int


def correlation(features: Source) -> Correlation:
    r"""Mean magnitude of the off-diagonal correlations.

    .. math:: \frac{1}{D(D-1)} \sum_{i \ne j} |C_{ij}| / \sqrt{C_{ii} C_{jj}}

    Independent features still have about :math:`\sqrt{2 / (\pi N)}`.

    Args:
        features: N x D, or their moments.

    Raises:
        InputError: If fewer than two features vary.

    Example:
        >>> found = correlation(torch.tensor([[1.0, 2, 7], [2, 4, 7], [4, 8, 7]]))
        >>> round(found.value, 6), found.constant_columns
        (1.0, 1)
    """
    moments = moments_of(features)
    varying = (moments.variances > 0).nonzero()[:, 0]
    count = len(varying)
    if count < 2:
        raise InputError(
            f"{count} of {moments.num_features} features vary; a correlation needs two or more"
        )
    blocks = varying.split(COLUMNS)
    total = sum(float(_correlations(moments, block, varying).abs().sum()) for block in blocks)
    value = (total - count) / (count * (count - 1))
    return Correlation(value=value, constant_columns=moments.num_features - count)


def _correlations(moments: Moments, rows: Tensor, columns: Tensor) -> Float[Tensor, "_ _"]:
    """Part of the correlation matrix; from the features themselves where N < D."""
    scale = moments.variances.mul(moments.num_examples - 1).sqrt()
    if moments.num_examples >= moments.num_features:
        products = moments.scatter[rows][:, columns]
    else:
        left = moments.features[:, rows] - moments.mean[rows]
        products = torch.cat(
            [left.T @ (moments.features[:, c] - moments.mean[c]) for c in columns.split(COLUMNS)],
            dim=1,
        )
    return products / scale[rows, None] / scale[columns]


def covariance_term(features: Source) -> float:
    r"""The covariance loss of VICReg, on raw features.

    .. math:: \frac{1}{D} \sum_{i \ne j} C_{ij}^2

    It grows with the fourth power of the features' scale; `correlation` does not.

    References:
        | VICReg (Bardes et al., 2022), https://arxiv.org/abs/2105.04906
    """
    moments = moments_of(features)
    # The Frobenius norm of the covariance is that of its N x N twin.
    squares = moments.total_of_squares() / (moments.num_examples - 1) ** 2
    return max(0.0, squares - float(moments.variances.square().sum())) / moments.num_features


def normalised_std(features: Source) -> float:
    r"""Standard deviation of the features of unit-norm examples, over that of a full sphere.

    .. math:: \frac{\sqrt D}{D} \sum_j \operatorname{std}_i \bigl( z_{ij} / \|z_i\| \bigr)

    One where examples cover the sphere evenly, zero where all point the same way.

    Raises:
        InputError: If an example is zero.

    References:
        | Exploring Simple Siamese Representation Learning (Chen & He, 2021)
        | https://arxiv.org/abs/2011.10566
    """
    x = moments_of(features).features
    _check_directions(x)
    zero = x.new_zeros(x.shape[1], dtype=torch.float64)
    mean, spread = zero.clone(), zero.clone()
    for part in deviations(x, zero):
        mean += _directions(part).sum(0) / len(x)
    for part in deviations(x, zero):
        around = _directions(part).sub_(mean)
        spread += torch.linalg.vector_norm(around, dim=0).square() / len(x)
    return float(spread.sqrt().mean()) * x.shape[1] ** 0.5


def uniformity(features: Source, *, seed: int = 0, max_examples: int = MAX_PAIRED) -> Uniformity:
    r"""Logarithm of the mean Gaussian potential of pairs on the unit sphere.

    .. math:: \ln \frac{1}{N(N-1)} \sum_{i \ne j} \exp(-2 \|x_i - x_j\|^2),
        \quad x_i = z_i / \|z_i\|

    Lower is more even; collapse onto fewer dimensions hardly shows.

    Args:
        features: N x D, or their moments.
        seed: Seed of the subsample.
        max_examples: Beyond so many examples, a random subsample of that size is used.

    Raises:
        InputError: If an example is zero, or `max_examples` is below two.

    References:
        | Understanding Contrastive Representation Learning (Wang & Isola, 2020)
        | https://arxiv.org/abs/2005.10242

    Example:
        >>> round(uniformity(torch.tensor([[1.0, 0], [0, 3]])).value, 12)
        -4.0
    """
    if max_examples < 2:
        raise InputError(f"max_examples is {max_examples}; two or more were expected")
    if max_examples < 2:
        raise InputError(f"max_examples is {max_examples}; two or more were expected")
    x = moments_of(features).features
    chosen = paired_examples(len(x), seed=seed, max_examples=max_examples)
    return Uniformity(value=mean_potential(pair_potentials(x, chosen)), num_examples=len(chosen))


def paired_examples(
    num: int, *, seed: int, max_examples: int = MAX_PAIRED
) -> Int[np.ndarray, " S"]:
    """All examples, or a random subsample of them in ascending order."""
    if num <= max_examples:
        return np.arange(num)
    return np.sort(np.random.default_rng(seed).choice(num, max_examples, replace=False))


def pair_potentials(
    x: Float[Tensor, "N D"], chosen: Int[np.ndarray, " S"]
) -> Float[np.ndarray, "S S"]:
    r"""Gaussian potential of every pair of directions, :math:`\exp(-2 \|x_i - x_j\|^2)`.

    Raises:
        InputError: If an example is zero.
    """
    _check_directions(x)
    # Indexing copies, so that the features stay as they are.
    directions = _directions(x[torch.from_numpy(chosen).to(x.device)].double())
    return torch.exp(4 * (directions @ directions.T).clamp(max=1) - 4).cpu().numpy()


def mean_potential(potentials: Float[np.ndarray, "S S"]) -> float:
    """Logarithm of the mean over pairs of different examples."""
    num = len(potentials)
    return float(np.log((potentials.sum() - potentials.trace()) / (num * (num - 1))))


def alignment(features0: Array, features1: Array) -> float:
    r"""Mean squared distance of two views of the same examples on the unit sphere.

    .. math:: \frac1N \sum_i \Bigl\| \frac{z_i}{\|z_i\|} - \frac{z_i'}{\|z_i'\|} \Bigr\|^2

    Args:
        features0: First views, N x D.
        features1: Second views of the same examples, in the same order.

    Raises:
        InputError: If the shapes differ or an example is zero.

    References:
        | Understanding Contrastive Representation Learning (Wang & Isola, 2020)
        | https://arxiv.org/abs/2005.10242

    Example:
        >>> alignment(torch.tensor([[1.0, 0]]), torch.tensor([[0.0, 2]]))
        2.0
    """
    x, y = (matrix(view, least=1).detach() for view in (features0, features1))
    if x.shape != y.shape:
        raise InputError(
            f"the views have shapes {tuple(x.shape)} and {tuple(y.shape)}; two views of the same "
            "examples, one row each, were expected"
        )
    for view in (x, y):
        _check_directions(view)
    zero = x.new_zeros(x.shape[1], dtype=torch.float64)
    pairs = zip(deviations(x, zero), deviations(y, zero), strict=True)
    total = sum(float((_directions(a) - _directions(b)).square().sum()) for a, b in pairs)
    return total / len(x)


def _directions(x: Float[Tensor, "N D"]) -> Float[Tensor, "N D"]:
    """Unit vectors, in the memory of what is given."""
    return x.div_(torch.linalg.vector_norm(x, dim=1, keepdim=True))


def _check_directions(x: Float[Tensor, "N D"]) -> None:
    zero = len(x) - int((x != 0).any(1).sum())
    if zero:
        raise InputError(
            f"{zero} of {len(x)} examples are zero and have no direction; leave them out"
        )
