r"""LiDAR: the rank of the linear discriminants between images, given several views of each.

Shapes: N views in all, D features, K images (surrogate classes).

References:
    | LiDAR: Sensing Linear Probing Performance (Thilak et al., 2024)
    | https://arxiv.org/abs/2312.04000
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int64
from scipy.special import entr
from torch import Tensor

from core.arrays import Array
from core.errors import InputError
from probes.richness.class_structure import ClassStructure, class_deviations

DELTA, EPS = 1e-4, 1e-8


@dataclass(frozen=True, kw_only=True)
class Lidar:
    """LiDAR with what bounds it.

    Attributes:
        value: Between 1 and min(D, K - 1).
        num_classes: Number K of surrogate classes: compare at equal K only.
        bound: min(D, K - 1).
    """

    value: float
    num_classes: int
    bound: int


def lidar(features: Array, surrogates: Array, *, delta: float = DELTA, eps: float = EPS) -> Lidar:
    r"""Effective rank of the discriminants between surrogate classes.

    .. math:: \exp \Bigl( -\sum_i p_i \ln p_i \Bigr), \quad
        p_i = \lambda_i / \sum_j \lambda_j + \epsilon, \quad
        \Sigma_b v_i = \lambda_i (\Sigma_w + \delta I) v_i

    :math:`\Sigma_b` is the covariance of class means and :math:`\Sigma_w` the mean covariance
    within a class, both unbiased. With :math:`\Sigma_w + \delta I = L L^T` and class means M the
    :math:`\lambda_i` are the eigenvalues of :math:`A^T A` (K x K) or :math:`A A^T`, whichever is
    smaller, of :math:`A = L^{-1} M^T`. Only min(D, K - 1) of them can differ from zero, and only
    these enter the sum. (reptrix multiplies by an inverse and calls a solver for
    non-symmetric matrices.)

    Args:
        features: N x D features of augmented views.
        surrogates: Index of the image that each is a view of; two views of each at least. The
            authors take about 1000 images and 50 views.
        delta: Variance added in every direction; it sets the scale below which features count
            as noise, so features are not to be rescaled.
        eps: Added to every share after normalisation, as in RankMe.

    Raises:
        InputError: If there is one image, an image has a single view, or all means are the same.

    References:
        | LiDAR: Sensing Linear Probing Performance (Thilak et al., 2024)
        | https://arxiv.org/abs/2312.04000
    """
    if delta <= 0:
        raise InputError(f"delta is {delta}; a positive variance was expected")
    structure = ClassStructure.of(features, surrogates)
    _check_views(structure.counts)
    num, bound = structure.num_classes, min(structure.means.shape[1], structure.num_classes - 1)
    means = structure.centred_means / (num - 1) ** 0.5
    noise = _mean_covariance(structure)
    noise.diagonal().add_(delta)
    factor = torch.linalg.cholesky(noise)
    whitened = torch.linalg.solve_triangular(factor, means.T, upper=False)
    small = whitened.T @ whitened if num <= len(whitened) else whitened @ whitened.T
    values = torch.linalg.eigvalsh(small).flip(0)[:bound].clamp(min=0).cpu().numpy()
    return Lidar(value=_entropy_rank(values, eps), num_classes=num, bound=bound)


def _mean_covariance(structure: ClassStructure) -> Float[Tensor, "D D"]:
    """Mean over classes of the unbiased covariance within one."""
    dim = structure.means.shape[1]
    total = structure.means.new_zeros(dim, dim)
    weights = (structure.num_classes * (structure.counts - 1)).double().rsqrt()
    parts = class_deviations(structure.features, structure.labels, structure.means)
    for part, classes in parts:
        part *= weights[classes, None]
        total.addmm_(part.T, part)
    return total


def _entropy_rank(values: Float[np.ndarray, " _"], eps: float) -> float:
    if not values.any():
        raise InputError(
            "the means of all surrogate classes are the same; features that tell images apart "
            "were expected"
        )
    return float(np.exp(entr(values / values.sum() + eps).sum()))


def _check_views(counts: Int64[Tensor, " K"]) -> None:
    single = int((counts == 1).sum())
    if single:
        raise InputError(
            f"{single} of {len(counts)} surrogate classes have a single view; two or more views "
            "of each image were expected"
        )
