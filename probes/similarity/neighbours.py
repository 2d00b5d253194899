r"""Whether two representations agree on who is near whom.

Shapes: N examples, D features, k neighbours.

References:
    | The Platonic Representation Hypothesis (Huh et al., 2024), mutual k-nearest neighbours
    | https://arxiv.org/abs/2405.07987
"""

from dataclasses import dataclass

import numpy as np
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
    require_same_examples(x, y)
    return shared_neighbours(Neighbours.of(x, k, "x"), Neighbours.of(y, k, "y"))


@dataclass(frozen=True)
class Neighbours:
    """The nearest neighbours of every example; `neighbours[order]` puts the examples in an order.

    Attributes:
        indices: Of the k nearest of each example, in no particular order.
    """

    indices: Int64[Tensor, "N k"]

    @classmethod
    def of(cls, features: Array, k: int, name: str = "features") -> "Neighbours":
        """Find the k nearest by cosine, without the example itself.

        Raises:
            InputError: If there are not more than k examples, or one has only zeros.
        """
        x = _directions(features, name)
        if not 1 <= k < len(x):
            raise InputError(
                f"k is {k} and there are {len(x)} examples; 1 to {len(x) - 1} neighbours were "
                "expected"
            )
        rows = max(1, BLOCK_BYTES // (8 * len(x)))
        return cls(torch.cat([_nearest(x, start, rows, k) for start in range(0, len(x), rows)]))

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, order: Int64[np.ndarray, " N"]) -> "Neighbours":
        places = torch.from_numpy(order).argsort()  # where each example comes to lie
        return Neighbours(places[self.indices[order]])


def shared_neighbours(x: Neighbours, y: Neighbours) -> float:
    """`mutual_knn` of two representations from the neighbours in each.

    Raises:
        InputError: If the examples differ in number.
    """
    require_same_examples(x, y)
    first = len(x) * torch.arange(len(x))[:, None]  # every example and neighbour, one number
    shared = torch.isin(first + x.indices, first + y.indices, assume_unique=True)
    return float(shared.double().mean())


def _directions(features: Array, name: str) -> Float[Tensor, "N D"]:
    x = matrix(features, name, least=2).double()
    if zeros := int((x == 0).all(1).sum()):
        raise InputError(
            f"{zeros} of {len(x)} rows of {name} are zero and have no direction; features that "
            "cosines can compare were expected: leave these examples out"
        )
    return normalize(x, dim=1, eps=0.0)


def _nearest(x: Float[Tensor, "N D"], start: int, rows: int, k: int) -> Int64[Tensor, "_ k"]:
    """Nearest neighbours of a block of rows."""
    cosines = x[start : start + rows] @ x.mT
    cosines.diagonal(start).fill_(-torch.inf)
    return cosines.topk(k, dim=1).indices.cpu()
