r"""The gradient of every example and output with respect to one weight, and products of two.

The gradient of a linear layer or convolution is a sum over T positions of outer products,

.. math:: J_{nc} = \sum_t G_{nct} A_{nt}^\top,

with layer inputs (patches) :math:`A` and output gradients :math:`G`. `Outer` keeps the two and
never the gradient; `Dense` keeps the gradient, where that is smaller.

Shapes: N examples, M others, C outputs, S groups, T positions, I inputs and O outputs of a group,
P weights.

References:
    | Fast Finite Width Neural Tangent Kernel (Novak et al., 2022)
    | https://arxiv.org/abs/2206.08720
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

Reduction = Literal["full", "trace", "diagonal"]
WORKSPACE = 2**24  # numbers in a temporary of a contraction: 64 MB in float32


@dataclass(frozen=True)
class Dense:
    """Gradients themselves."""

    rows: Float[Tensor, "N C P"]

    @property
    def nbytes(self) -> int:
        """Memory of the gradients."""
        return self.rows.nbytes

    def dense(self) -> "Dense":
        """Itself."""
        return self


@dataclass(frozen=True)
class Outer:
    """Gradients as sums of outer products, position by position."""

    inputs: Float[Tensor, "N S T I"]
    grads: Float[Tensor, "N C S T O"]

    @property
    def nbytes(self) -> int:
        """Memory of both factors."""
        return self.inputs.nbytes + self.grads.nbytes

    def dense(self) -> Dense:
        """The gradients, O x I weights of one group after the other."""
        return Dense(self._rows(slice(None)))

    def slabs(self, width: int) -> Iterator[Dense]:
        """The gradients of `width` outputs of the layer at a time."""
        for start in range(0, self.grads.shape[-1], width):
            yield Dense(self._rows(slice(start, start + width)))

    def _rows(self, outputs: slice) -> Float[Tensor, "N C P"]:
        grads = self.grads[..., outputs]
        num, num_outputs, groups, positions, width = grads.shape
        # All outputs of one example and group at once: (C O x T) (T x I).
        left = grads.permute(0, 2, 1, 4, 3).reshape(num * groups, num_outputs * width, positions)
        right = self.inputs.reshape(num * groups, positions, -1)
        rows = torch.bmm(left, right).view(num, groups, num_outputs, -1)
        return rows.transpose(1, 2).reshape(num, num_outputs, -1)


Factor = Dense | Outer


def compact(factor: Outer) -> Factor:
    """The smaller of the two forms."""
    num, num_outputs, groups, _, width = factor.grads.shape
    num_weights = groups * width * factor.inputs.shape[-1]
    dense_bytes = num * num_outputs * num_weights * factor.grads.element_size()
    return factor.dense() if dense_bytes <= factor.nbytes else factor


def concatenate(factors: list[Factor]) -> Factor:
    """The examples of several factors of one weight, in order."""
    if len(factors) == 1:
        return factors[0]
    if all(isinstance(factor, Outer) for factor in factors):
        inputs = torch.cat([factor.inputs for factor in factors])  # type: ignore[union-attr]
        return Outer(inputs, torch.cat([factor.grads for factor in factors]))  # type: ignore[union-attr]
    return Dense(torch.cat([factor.dense().rows for factor in factors]))


def contract(left: Factor, right: Factor, reduction: Reduction) -> Tensor:
    """Inner products of all gradients of one weight, in float64.

    Args:
        left: Of N examples.
        right: Of M examples.
        reduction: `full` keeps both outputs (N, C, M, C), `diagonal` equal ones (N, M, C),
            `trace` sums over them (N, M).
    """
    if isinstance(left, Dense) or isinstance(right, Dense):
        return _dense_product(left.dense(), right.dense(), reduction)
    order = cheapest_order(left, right, reduction)
    return {"grams": _grams, "applied": _applied, "gradients": _gradients}[order](
        left, right, reduction
    )


def cheapest_order(left: Outer, right: Outer, reduction: Reduction) -> str:
    """The contraction order with the fewest multiply-adds."""
    costs = contraction_costs(left, right, reduction)
    return min(costs, key=costs.__getitem__)


def contraction_costs(left: Outer, right: Outer, reduction: Reduction) -> dict[str, int]:
    r"""Multiply-adds of each order that applies.

    | order | full | trace and diagonal |
    |---|---|---|
    | both Grams, then their product | N M (T² I + T² C² O) | N M (T² I + T² C O) |
    | input Gram applied to G | N M (T² I + T² C O + T C² O) | |
    | the layer's own gradients | (N + M) T C O I + N M C² O I | (N + M) T C O I + N M C O I |

    Gradients of the same factor are formed once. Grouped layers always form their gradients,
    which are small.
    """
    num, num_outputs, groups, t, o = left.grads.shape
    m, s, i = right.grads.shape[0], right.grads.shape[3], left.inputs.shape[-1]
    pairs, products = num * m, num_outputs * (num_outputs if reduction == "full" else 1)
    formed = num * t + (0 if right is left else m * s)
    costs = {"gradients": groups * o * i * (formed * num_outputs + pairs * products)}
    if groups == 1:
        costs["grams"] = pairs * t * s * (i + products * o)
        if reduction == "full":
            costs["applied"] = pairs * t * (s * i + s * num_outputs * o + products * o)
    return costs


def _gradients(left: Outer, right: Outer, reduction: Reduction) -> Tensor:
    """In slabs of the layer's outputs, so that the gradients never stand whole."""
    num, num_outputs, groups, _, _ = left.grads.shape
    per_output = max(num, right.grads.shape[0]) * num_outputs * groups * left.inputs.shape[-1]
    width = max(1, WORKSPACE // per_output)
    pairs = (
        ((slab, slab) for slab in left.slabs(width))
        if right is left
        else zip(left.slabs(width), right.slabs(width), strict=True)
    )
    return torch.stack([_dense_product(a, b, reduction) for a, b in pairs]).sum(0)


def _grams(left: Outer, right: Outer, reduction: Reduction) -> Tensor:
    num, num_outputs, _, t, _ = left.grads.shape
    m, _, _, s, _ = right.grads.shape
    outputs = num_outputs**2 if reduction == "full" else num_outputs
    step = max(1, WORKSPACE // (m * t * s * (outputs if reduction != "trace" else 1)))
    parts = []
    for rows in range(0, num, step):
        a, g = left.inputs[rows : rows + step, 0], left.grads[rows : rows + step, :, 0]
        gram = torch.einsum("nti,msi->nmts", a, right.inputs[:, 0])
        other = right.grads[:, :, 0]
        if reduction == "trace":
            products = torch.einsum("ncto,mcso->nmts", g, other).mul_(gram)
            parts.append(products.sum((2, 3), dtype=torch.float64))
        elif reduction == "diagonal":
            products = torch.einsum("ncto,mcso->ncmts", g, other).mul_(gram[:, None])
            parts.append(products.sum((3, 4), dtype=torch.float64).transpose(1, 2))
        else:
            products = torch.einsum("ncto,mdso->nmcdts", g, other).mul_(gram[:, :, None, None])
            parts.append(products.sum((4, 5), dtype=torch.float64).transpose(1, 2))
    return torch.cat(parts)


def _applied(left: Outer, right: Outer, reduction: Reduction) -> Tensor:
    num, num_outputs, _, t, o = left.grads.shape
    m = right.grads.shape[0]
    step = max(1, WORKSPACE // (m * t * num_outputs * o))
    parts = []
    for rows in range(0, num, step):
        a, g = left.inputs[rows : rows + step, 0], left.grads[rows : rows + step, :, 0]
        gram = torch.einsum("nti,msi->nmts", a, right.inputs[:, 0])
        applied = torch.einsum("nmts,mdso->nmdto", gram, right.grads[:, :, 0])
        parts.append(torch.einsum("ncto,nmdto->ncmd", g, applied).double())
    return torch.cat(parts)


def _dense_product(left: Dense, right: Dense, reduction: Reduction) -> Tensor:
    a, b = left.rows, right.rows
    if reduction == "trace":
        return (a.flatten(1) @ b.flatten(1).t()).double()
    if reduction == "diagonal":
        return torch.bmm(a.transpose(0, 1), b.permute(1, 2, 0)).permute(1, 2, 0).double()
    product = a.flatten(0, 1) @ b.flatten(0, 1).t()
    return product.view(*a.shape[:2], *b.shape[:2]).double()
