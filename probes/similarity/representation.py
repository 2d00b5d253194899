r"""A layer's features, reduced once to what comparisons with other layers need.

With D < N everything goes through the D x D cross-products and no N x N kernel is formed; with
N <= D the kernels are smaller than the features.

Shapes: N examples, D features (their number differs between layers).
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from core.arrays import BLOCK_BYTES, Array, matrix, row_blocks
from probes.similarity.checks import require_variation


@dataclass(frozen=True)
class Representation:
    """One layer's features, with everything about them alone that CKA needs.

    Kept by whoever compares one representation with many; `representation[order]` puts its
    examples in another order without recomputing anything.

    Attributes:
        features: As they were given.
        mean: Of each feature.
        squares: Squared norms of the centred rows.
        gram: Inner products of the centred rows, where they are no more than the features.
        own: The squared norm of the centred kernel.
    """

    features: Float[Tensor, "N D"]
    mean: Float[Tensor, " D"]
    squares: Float[Tensor, " N"]
    gram: Float[Tensor, "N N"] | None
    own: float

    @classmethod
    def of(cls, features: Array, name: str = "features") -> "Representation":
        """Reduce features to what comparisons with them need.

        Raises:
            InputError: If they are no matrix of finite numbers, have fewer than 4 examples, or
                are the same for every example.
        """
        x = matrix(features, name, least=4)  # HSIC_1 divides by n - 3
        require_variation(x, name)
        mean = x.mean(0, dtype=torch.float64)
        squares = torch.cat([(block - mean).square().sum(1) for block in row_blocks(x)])
        gram = _gram(x, mean) if len(x) <= x.shape[1] else None
        bare = cls(x, mean, squares, gram, own=0.0)
        return replace(bare, own=cross_norm(bare, bare))

    def centred(self, rows: slice = slice(None)) -> Float[Tensor, "_ D"]:
        """Rows of the centred features, in float64."""
        return self.features[rows].double() - self.mean

    def __len__(self) -> int:
        return len(self.features)

    def __getitem__(self, order: Int64[np.ndarray, " N"]) -> "Representation":
        index = torch.as_tensor(order, device=self.features.device)
        gram = None if self.gram is None else self.gram[index][:, index]
        return replace(self, features=self.features[index], squares=self.squares[index], gram=gram)


def cross_norm(x: Representation, y: Representation) -> float:
    r"""What two representations share, :math:`\|Y_c^\top X_c\|_F^2 = \langle K_c, L_c \rangle`.

    Through the D x D cross-product or the N x N kernels, on the side that each is kept on.
    """
    if x.gram is not None and y.gram is not None:
        return float(torch.dot(x.gram.flatten(), y.gram.flatten()))
    if x.gram is not None:
        centred = y.centred()
        return float((x.gram @ centred).mul_(centred).sum())  # tr(Y^T K Y)
    if y.gram is not None:
        return cross_norm(y, x)
    return float(_cross_product(x, y).square().sum())


def _gram(x: Float[Tensor, "N D"], mean: Float[Tensor, " D"]) -> Float[Tensor, "N N"]:
    """Inner products of centred rows, by blocks of columns, so that no whole copy is made."""
    gram = torch.zeros(len(x), len(x), dtype=torch.float64, device=x.device)
    columns = max(1, BLOCK_BYTES // (8 * len(x)))
    for block, center in zip(x.split(columns, dim=1), mean.split(columns), strict=True):
        centred = block.double() - center
        gram.addmm_(centred, centred.mT)
    return gram


def _cross_product(x: Representation, y: Representation) -> Float[Tensor, "DX DY"]:
    width = x.features.shape[1] + y.features.shape[1]
    rows = max(1, BLOCK_BYTES // (8 * width))
    blocks = [slice(start, start + rows) for start in range(0, len(x), rows)]
    product = x.mean.new_zeros(len(x.mean), len(y.mean))
    for block in blocks:
        product.addmm_(x.centred(block).mT, y.centred(block))
    return product
