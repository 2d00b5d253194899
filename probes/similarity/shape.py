r"""Distance between representations as shapes, and the correlation of their subspaces.

Shapes: N examples, D features, R principal components.

References:
    | Generalized Shape Metrics on Neural Representations (Williams et al., 2021)
    | https://arxiv.org/abs/2110.14739
    | SVCCA (Raghu et al., 2017), https://arxiv.org/abs/1706.05806
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from core.arrays import Array, matrix
from core.errors import InputError
from core.records import Metric
from probes.similarity.checks import require_same_examples, require_variation

METRICS = {
    "procrustes_distance": Metric(
        title="angular Procrustes distance",
        symbol="theta",
        low=0.0,
        high=math.pi / 2,
        reference="Williams et al. 2021, arXiv 2110.14739",
    ),
    "svcca": Metric(
        title="SVCCA", low=0.0, high=1.0, reference="Raghu et al. 2017, arXiv 1706.05806"
    ),
}
INVARIANCES = dict.fromkeys(METRICS, ("orthogonal", "isotropic scaling", "translation"))


def procrustes_distance(x: Array, y: Array) -> float:
    r"""Angle between two centred representations after the best rotation, in radians.

    .. math::
        \theta = \min_Q \arccos \frac{\langle X_c, Y_c Q \rangle}{\|X_c\|_F \|Y_c\|_F}
        = \arccos \frac{\|X_c^\top Y_c\|_*}{\|X_c\|_F \|Y_c\|_F}

    This is the angular shape distance, a metric: zero for representations equal up to rotation,
    scale and translation, at most :math:`\pi/2`. The narrower one counts as padded with zeros.
    Distances below 1e-7 are rounding, as the arc cosine is steep at one.

    Raises:
        InputError: If the examples differ in number or do not differ at all.

    Example:
        >>> x = torch.randn(20, 3)
        >>> procrustes_distance(x, 2 * x.flip(1)) < 1e-6
        True
    """
    return shape_angle(unit_shape(x, "x"), unit_shape(y, "y"))


def unit_shape(features: Array, name: str = "features") -> Float[Tensor, "N _"]:
    """Centred features of norm one in at most N dimensions, all that the distance sees of them.

    Raises:
        InputError: If the examples do not differ at all.
    """
    x = _narrow(_centred(features, name))
    return x / x.norm()


def shape_angle(x: Float[Tensor, "_ DX"], y: Float[Tensor, "_ DY"]) -> float:
    """`procrustes_distance` of two representations from their `unit_shape`s.

    Raises:
        InputError: If the examples differ in number.
    """
    require_same_examples(x, y)
    return float(torch.linalg.svdvals(x.mT @ y).sum().clamp(max=1).arccos())


def svcca(x: Array, y: Array, share: float = 0.99) -> float:
    r"""Mean canonical correlation of the principal subspaces that hold a share of the variance.

    With the left singular vectors :math:`U_x, U_y` kept, the canonical correlations are the
    singular values of :math:`U_x^\top U_y`; the mean is over the smaller number of components.

    Args:
        x: Features, one row per example.
        y: The same examples elsewhere.
        share: Of the variance that the kept components hold.

    Raises:
        InputError: If the examples differ in number or do not differ at all, the share is not in
            (0, 1], or if the subspaces together have as many dimensions as there are examples:
            they then meet for any two representations.
    """
    u, v = (principal_directions(z, share, name) for z, name in ((x, "x"), (y, "y")))
    return mean_canonical_correlation(u, v)


def principal_directions(
    features: Array, share: float = 0.99, name: str = "features"
) -> Float[Tensor, "N R"]:
    """Left singular vectors of the fewest components that hold the share of the variance.

    Raises:
        InputError: If the examples do not differ at all, or the share is not in (0, 1].
    """
    if not 0 < share <= 1:
        raise InputError(f"the share of variance is {share}; expected 0 < share <= 1")
    x = _centred(features, name)
    u, s, _ = torch.linalg.svd(x, full_matrices=False)
    rank = int((s > s[0] * max(x.shape) * torch.finfo(s.dtype).eps).sum())
    held = s[:rank].square().cumsum(0)
    return u[:, : 1 + int((held < share * held[-1]).sum())]


def mean_canonical_correlation(u: Float[Tensor, "_ RX"], v: Float[Tensor, "_ RY"]) -> float:
    """`svcca` of two representations from their `principal_directions`.

    Raises:
        InputError: If the examples differ in number, or the subspaces meet by counting alone.
    """
    require_same_examples(u, v)
    if u.shape[1] + v.shape[1] >= len(u):
        raise InputError(
            f"{u.shape[1]} and {v.shape[1]} components of {len(u)} examples correlate by counting "
            "alone; more examples than components of both together were expected: give more "
            "examples or a smaller share"
        )
    return float(torch.linalg.svdvals(u.mT @ v).clamp(max=1).mean())


def _centred(features: Array, name: str) -> Float[Tensor, "N D"]:
    x = matrix(features, name, least=2).double()
    require_variation(x, name)
    return x - x.mean(0)


def _narrow(x: Float[Tensor, "N D"]) -> Float[Tensor, "N _"]:
    """The same shape in at most N dimensions: X = (Q R)^T, of which R^T is X up to rotation."""
    if len(x) >= x.shape[1]:
        return x
    return torch.linalg.qr(x.mT, mode="r").R.mT
