r"""Linear centred kernel alignment (CKA), of all examples at once and debiased.

With the kernels :math:`K = XX^\top` and :math:`L = YY^\top` of the two representations,

.. math::
    \mathrm{CKA} = \frac{\mathrm{HSIC}(K, L)}{\sqrt{\mathrm{HSIC}(K, K)\,\mathrm{HSIC}(L, L)}}

The biased estimate takes :math:`\mathrm{HSIC} \propto \|Y_c^\top X_c\|_F^2`, which tends to one
for anything as soon as D exceeds N. The debiased one takes the unbiased HSIC of Song et al.,

.. math::
    n(n-3)\,\mathrm{HSIC}_1 = \mathrm{tr}\,\tilde K \tilde L
    + \frac{1^\top \tilde K 1\; 1^\top \tilde L 1}{(n-1)(n-2)}
    - \frac{2}{n-2}\, 1^\top \tilde K \tilde L 1,

where the tilde sets the diagonal to zero. No kernel is needed for it. HSIC_1 does not change when
:math:`u 1^\top + 1 u^\top` is added to a kernel, so the features may be centred first; then
:math:`K1 = 0`, hence :math:`\tilde K 1 = -k` with the squared row norms :math:`k_i = K_{ii}`, and

.. math::
    n(n-3)\,\mathrm{HSIC}_1 = \|Y_c^\top X_c\|_F^2 - k^\top l
    + \frac{(1^\top k)(1^\top l)}{(n-1)(n-2)} - \frac{2}{n-2}\, k^\top l .

`probes.similarity.representation` takes the norm on whichever side is smaller.

Shapes: N examples, D features (their number differs between layers), R components, LX and LY
layers, M numbers of removed components.

References:
    | Similarity of Neural Network Representations Revisited (Kornblith et al., 2019)
    | https://arxiv.org/abs/1905.00414
    | Feature Selection via Dependence Maximization (Song et al., 2012), equation 5
    | Do Wide and Deep Networks Learn the Same Things? (Nguyen et al., 2021), debiased CKA
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from core.arrays import Array
from core.errors import InputError
from core.records import Metric
from probes.similarity.checks import require_same_examples
from probes.similarity.representation import Representation, cross_norm

KORNBLITH = "Kornblith et al. 2019, arXiv 1905.00414"
DEBIASED: dict[str, Any] = {"low": -1.0, "high": 1.0}

METRICS = {
    "cka": Metric(
        title="linear CKA, debiased",
        symbol='"CKA"',
        reference=f"{KORNBLITH}; Song et al. 2012, JMLR 13",
        **DEBIASED,
    ),
    "cka_biased": Metric(
        title="linear CKA, biased", symbol='"CKA"_b', low=0.0, high=1.0, reference=KORNBLITH
    ),
    "cka_without_top": Metric(
        title="linear CKA without top components",
        symbol='"CKA"_(>m)',
        coordinate="top principal components removed",
        reference="Davari et al. 2022, arXiv 2210.16156",
        **DEBIASED,
    ),
}
INVARIANCES = dict.fromkeys(METRICS, ("orthogonal", "isotropic scaling", "translation"))


def linear_cka(
    x: Array | Representation, y: Array | Representation, debiased: bool = True
) -> float:
    """Linear CKA of two representations of the same examples, in float64.

    One for representations that agree up to rotation, scale and translation. The debiased value is
    zero on average for unrelated ones and may be negative; the biased one is not, and can only be
    compared at equal N and D.

    Args:
        x: Features, one row per example; or a `Representation`, which is not reduced again.
        y: The same examples elsewhere; the number of features may differ.
        debiased: Whether to use the unbiased HSIC.

    Raises:
        InputError: If the examples differ in number, are fewer than 4, or if nothing varies.

    Example:
        >>> x = torch.randn(20, 3)
        >>> round(linear_cka(x, -2 * x.flip(1) + 1), 6)
        1.0
    """
    a, b = _represented(x, "x"), _represented(y, "y")
    require_same_examples(a, b)
    own = _own_hsic(a, "x", debiased) * _own_hsic(b, "y", debiased)
    return _hsic(cross_norm(a, b), a, b, debiased) / own**0.5


def cka_map(
    list_x: Sequence[Array], list_y: Sequence[Array], debiased: bool = True
) -> Float[np.ndarray, "LX LY"]:
    """Linear CKA of every layer of one network with every layer of another.

    Each layer is centred and reduced once.

    Raises:
        InputError: As `linear_cka`.
    """
    xs, ys = [Representation.of(x) for x in list_x], [Representation.of(y) for y in list_y]
    return np.array([[linear_cka(x, y, debiased) for y in ys] for x in xs]).reshape(
        len(xs), len(ys)
    )


def top_component_sensitivity(
    x: Array, y: Array, removed: Sequence[int] = (0, 1, 2, 5, 10), debiased: bool = True
) -> Float[np.ndarray, " M"]:
    """Linear CKA after the top principal components of both representations are removed.

    CKA weighs components by their squared variance, so that a few can decide it. A value that
    falls at once says that the two share little beyond them.

    Args:
        x: Features, one row per example.
        y: The same examples elsewhere.
        removed: How many components to remove.
        debiased: As in `linear_cka`.

    Returns:
        One CKA for each number of removed components.

    Raises:
        InputError: As `linear_cka`, or if a representation has no component left.

    References:
        | Reliability of CKA as a Similarity Measure in Deep Learning (Davari et al., 2022)
        | https://arxiv.org/abs/2210.16156
    """
    scores_x, scores_y = _component_scores(x, "x"), _component_scores(y, "y")
    left = min(scores_x.shape[1], scores_y.shape[1])
    if not all(0 <= m < left for m in removed):
        raise InputError(
            f"cannot remove {list(removed)} components of representations of rank {left}; numbers "
            f"from 0 to {left - 1} were expected"
        )
    return np.array([linear_cka(scores_x[:, m:], scores_y[:, m:], debiased) for m in removed])


def _component_scores(features: Array, name: str) -> Float[Tensor, "N R"]:
    """Coordinates along the principal components, largest first, without those of rounding."""
    representation = Representation.of(features, name)
    u, s, _ = torch.linalg.svd(representation.centred(), full_matrices=False)
    rank = int((s > s[0] * max(representation.features.shape) * torch.finfo(s.dtype).eps).sum())
    return u[:, :rank] * s[:rank]


def _represented(x: Array | Representation, name: str) -> Representation:
    return x if isinstance(x, Representation) else Representation.of(x, name)


def _hsic(cross: float, x: Representation, y: Representation, debiased: bool) -> float:
    """HSIC up to a factor that CKA does not see; derived at the top of this file."""
    if not debiased:
        return cross
    n, diagonals = len(x), float(x.squares @ y.squares)
    sums = float(x.squares.sum() * y.squares.sum())
    return cross - n / (n - 2) * diagonals + sums / ((n - 1) * (n - 2))


def _own_hsic(x: Representation, name: str, debiased: bool) -> float:
    r"""HSIC of a representation with itself.

    Never negative: debiased, it is the squared norm of the kernel centred without its diagonal.
    It vanishes where all pairs of examples are equally alike.
    """
    own = _hsic(x.own, x, x, debiased)
    if own <= len(x) * torch.finfo(torch.float64).eps * x.own:
        raise InputError(
            f"all pairs of the {len(x)} examples are equally alike in {name}, which leaves CKA "
            "undefined; representations in which some are closer than others were expected"
        )
    return own
