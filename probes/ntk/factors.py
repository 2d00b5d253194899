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
from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from probes.ntk.sizes import sizes

Reduction = Literal["full", "trace", "diagonal"]
LONGEST = 2**20  # numbers that are summed in the precision of the network
TRAFFIC = 100  # multiply-adds in the time of one number to memory and back, on two cores


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

    def single(self) -> "Dense":
        """In single precision at least, in which products neither overflow nor round away."""
        return Dense(_single(self.rows))

    def output(self, c: int) -> "Dense":
        """The gradients of one output."""
        return Dense(self.rows[:, c : c + 1])


@dataclass(frozen=True)
class Outer:
    """Gradients as sums of outer products, position by position."""

    inputs: Float[Tensor, "N S T I"]
    grads: Float[Tensor, "N S T C O"]

    @property
    def nbytes(self) -> int:
        """Memory of both factors."""
        return self.inputs.nbytes + self.grads.nbytes

    def single(self) -> "Outer":
        """In single precision at least, in which products neither overflow nor round away."""
        return Outer(_single(self.inputs), _single(self.grads))

    def dense(self) -> Dense:
        """The gradients, O x I weights of one group after the other."""
        return next(self.slabs(self.inputs.shape[-1]))

    def output(self, c: int) -> "Outer":
        """The gradients of one output."""
        return Outer(self.inputs, self.grads[..., c : c + 1, :])

    def slabs(self, width: int) -> Iterator[Dense]:
        """The gradients for `width` inputs of the layer at a time."""
        num, groups, positions, num_outputs, _ = self.grads.shape
        # All outputs of one example and group at once: (C O x T) (T x I).
        left = self.grads.reshape(num * groups, positions, -1).transpose(1, 2)
        right = self.inputs.reshape(num * groups, positions, -1)
        for start in range(0, right.shape[-1], width):
            rows = torch.bmm(left, right[..., start : start + width])
            rows = rows.view(num, groups, num_outputs, -1).transpose(1, 2)
            yield Dense(rows.reshape(num, num_outputs, -1))


Factor = Dense | Outer


def _single(x: Tensor) -> Tensor:
    return x.float() if x.dtype.itemsize < torch.float32.itemsize else x


def concatenate(factors: list[Factor]) -> Factor:
    """The examples of several factors of one weight, in order."""
    if len(factors) == 1:
        return factors[0]
    if all(isinstance(factor, Outer) for factor in factors):
        inputs = torch.cat([factor.inputs for factor in factors])  # type: ignore[union-attr]
        return Outer(inputs, torch.cat([factor.grads for factor in factors]))  # type: ignore[union-attr]
    return Dense(torch.cat([factor.dense().rows for factor in factors]))


def contract(
    left: Factor, right: Factor, reduction: Reduction, *, grams: "Grams | None" = None
) -> Tensor:
    """Inner products of all gradients of one weight, in float64.

    Args:
        left: Of N examples.
        right: Of M examples.
        reduction: `full` keeps both outputs (N, C, M, C), `diagonal` equal ones (N, M, C),
            `trace` sums over them (N, M).
        grams: Where the same inputs meet the gradients of several outputs in turn.
    """
    same, left = right is left, left.single()
    right = left if same else right.single()
    if isinstance(left, Dense) or isinstance(right, Dense):
        return _dense_product(left.dense(), right.dense(), reduction)
    grams = Grams() if grams is None else grams
    costs = contraction_costs(left, right, reduction, grams.repeats)
    if min(costs, key=costs.__getitem__) == "gradients":
        return _through_gradients(left, right, reduction)
    return _through_grams(left, right, reduction, grams)


@dataclass
class Grams:
    """Input Grams of one weight, computed once for `repeats` contractions."""

    repeats: int = 1
    found: dict[int, Tensor] = field(default_factory=dict)

    def get(self, left: Tensor, right: Tensor, start: int) -> Float[Tensor, "N T M R"]:
        """Of some rows of the left side, the first of which is `start`."""
        if start in self.found:
            return self.found[start]
        gram = (left.flatten(0, 1) @ right.flatten(0, 1).t()).view(
            *left.shape[:2], *right.shape[:2]
        )
        if self.repeats > 1:
            self.found[start] = gram
        return gram


def contraction_costs(
    left: Outer,
    right: Outer,
    reduction: Reduction,
    repeats: int = 1,
    traffic: float = TRAFFIC,
) -> dict[str, float]:
    r"""Cost of each order that applies, in multiply-adds.

    | order | full | trace and diagonal |
    |---|---|---|
    | both Grams, then their product | N M (T² I + T² C² O) | N M (T² I + T² C O) |
    | the layer's own gradients | (N + M) T C O I + N M C² O I | (N + M) T C O I + N M C O I |

    Gradients of the same factor are formed once. Grouped layers always form their gradients,
    which are small. A number written to memory and read back counts as `traffic` multiply-adds.
    An order between the two, the input Gram applied to G, has the fewest for some layers of the
    full kernel, and was slower on nearly all of them: its intermediate result is the largest.
    """
    num, groups, t, num_outputs, o = left.grads.shape
    m, _, s, i = right.inputs.shape
    pairs, products = num * m, num_outputs * (num_outputs if reduction == "full" else 1)
    formed = groups * num_outputs * o * i
    sides = (num, num * t) if right is left else (num + m, num * t + m * s)
    costs = {
        "gradients": formed * (sides[1] + traffic * sides[0])
        + pairs * products * formed / num_outputs
    }
    if groups == 1:
        written = 1 if reduction == "trace" else products
        costs["grams"] = pairs * t * s * (i / repeats + products * o + traffic * written)
    return costs


def _through_gradients(left: Outer, right: Outer, reduction: Reduction) -> Tensor:
    """In slabs of the layer's inputs, so that the gradients never stand whole."""
    num, groups, _, num_outputs, o = left.grads.shape
    per_input = max(num, right.grads.shape[0]) * num_outputs * groups * o
    width = max(1, sizes(left.grads.device).workspace // per_input)
    pairs = (
        ((slab, slab) for slab in left.slabs(width))
        if right is left
        else zip(left.slabs(width), right.slabs(width), strict=True)
    )
    return torch.stack([_dense_product(a, b, reduction) for a, b in pairs]).sum(0)


def _through_grams(left: Outer, right: Outer, reduction: Reduction, grams: Grams) -> Tensor:
    """In rows, so that the position by position products stay small."""
    num, _, t, num_outputs, _ = left.grads.shape
    m, _, s, _ = right.inputs.shape
    outputs = {"full": num_outputs**2, "diagonal": num_outputs, "trace": 1}[reduction]
    step = max(1, sizes(left.grads.device).workspace // (m * t * s * outputs))
    parts = []
    for start in range(0, num, step):
        rows = slice(start, start + step)
        gram = grams.get(left.inputs[rows, 0], right.inputs[:, 0], start)
        parts.append(_weighed(left.grads[rows, 0], right.grads[:, 0], gram, reduction))
    return torch.cat(parts)


def _weighed(
    left: Float[Tensor, "N T C O"],
    right: Float[Tensor, "M R C O"],
    gram: Float[Tensor, "N T M R"],
    reduction: Reduction,
) -> Tensor:
    """Products of output gradients, summed over pairs of positions with the weights of a Gram."""
    (num, t, num_outputs, o), (m, s) = left.shape, right.shape[:2]
    if reduction == "full":
        rows, cols = (g.transpose(1, 2).reshape(-1, o) for g in (left, right))
        products = (rows @ cols.t()).view(num, num_outputs, t, m, num_outputs, s)
        products.mul_(gram[:, None, :, :, None])
        return products.sum(5, dtype=torch.float64).sum(2)
    if reduction == "trace":
        rows, cols = (g.reshape(-1, num_outputs * o) for g in (left, right))
        products = (rows @ cols.t()).view(num, t, m, s).mul_(gram)
        return products.sum(3, dtype=torch.float64).sum(1)
    rows, cols = (g.permute(2, 0, 1, 3).reshape(num_outputs, -1, o) for g in (left, right))
    products = torch.bmm(rows, cols.transpose(1, 2)).view(num_outputs, num, t, m, s).mul_(gram)
    return products.sum(4, dtype=torch.float64).sum(2).permute(1, 2, 0)


def _dense_product(left: Dense, right: Dense, reduction: Reduction) -> Tensor:
    """In pieces, since single precision loses digits in sums of very many numbers."""
    pieces = zip(left.rows.split(LONGEST, 2), right.rows.split(LONGEST, 2), strict=True)
    return torch.stack([_product(a, b, reduction) for a, b in pieces]).sum(0)


def _product(a: Float[Tensor, "N C P"], b: Float[Tensor, "M C P"], reduction: Reduction) -> Tensor:
    if reduction == "trace":
        return (a.flatten(1) @ b.flatten(1).t()).double()
    if reduction == "diagonal":
        return torch.bmm(a.transpose(0, 1), b.permute(1, 2, 0)).permute(1, 2, 0).double()
    product = a.flatten(0, 1) @ b.flatten(0, 1).t()
    return product.view(*a.shape[:2], *b.shape[:2]).double()
