r"""Whether two representations agree on who is near whom.

Shapes: N examples, D features, k neighbours.

References:
    | The Platonic Representation Hypothesis (Huh et al., 2024), mutual k-nearest neighbours
    | https://arxiv.org/abs/2405.07987
"""

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn.functional import normalize

from core.arrays import BLOCK_BYTES, Array, matrix
from core.errors import InputError
from core.records import Metric
from probes.similarity.checks import require_same_examples

METRICS = {
    "mutual_knn": Metric(
        title="shared nearest neighbours",
        low=0.0,
        high=1.0,
        coordinate="neighbours k",
        reference="Huh et al. 2024, arXiv 2405.07987",
    )
}
INVARIANCES = {"mutual_knn": ("orthogonal", "isotropic scaling")}


def mutual_knn(x: Array, y: Array, k: int = 10) -> float:
    r"""Mean share of the k nearest neighbours that both representations agree on.

    .. math:: \frac{1}{Nk} \sum_i |\mathcal{N}_k^X(i) \cap \mathcal{N}_k^Y(i)|

    Neighbours are by cosine, without the example itself. Unrelated representations share
    :math:`k / (N - 1)` of them.

    Args:
        x: Features, one row per example.
        y: The same examples elsewhere; the number of features may differ.
        k: Neighbours of each example.

    Raises:
        InputError: If the examples differ in number, there are not more than k, or one has only
            zeros, which have no direction.

    Example:
        >>> x = torch.randn(20, 3)
        >>> mutual_knn(x, 2 * x.flip(1), k=3)
        1.0
    """
    a, b = _directions(x, "x"), _directions(y, "y")
    require_same_examples(a, b)
    if not 1 <= k < len(a):
        raise InputError(
            f"k is {k} and there are {len(a)} examples; 1 to {len(a) - 1} neighbours were expected"
        )
    rows = max(1, BLOCK_BYTES // (8 * len(a)))
    starts = range(0, len(a), rows)
    shared = sum(
        int((_neighbours(a, s, rows, k)[:, :, None] == _neighbours(b, s, rows, k)[:, None]).sum())
        for s in starts
    )
    return shared / (len(a) * k)


def _directions(features: Array, name: str) -> Float[Tensor, "N D"]:
    x = matrix(features, name, least=2).double()
    if zeros := int((x == 0).all(1).sum()):
        raise InputError(
            f"{zeros} of {len(x)} rows of {name} are zero and have no direction; features that "
            "cosines can compare were expected: leave these examples out"
        )
    return normalize(x, dim=1, eps=0.0)


def _neighbours(x: Float[Tensor, "N D"], start: int, rows: int, k: int) -> Int64[Tensor, "_ k"]:
    """Nearest neighbours of a block of rows."""
    cosines = x[start : start + rows] @ x.mT
    cosines.diagonal(start).fill_(-torch.inf)
    return cosines.topk(k, dim=1).indices.cpu()
