r"""How a weight is used: what it meets, and the gradient that comes of it.

Shapes: N examples, C outputs, S groups, T positions, I inputs and O outputs of a group.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from probes.ntk.factors import Dense, Factor, Outer
from probes.ntk.sizes import sizes

WORTH = 8  # cutting patches output by output saves memory only where gradients are far smaller


@dataclass(frozen=True)
class Product:
    """A linear layer or convolution: a matrix that meets inputs position by position."""

    weight: Tensor
    x: Tensor
    positions: Callable[[Tensor], Float[Tensor, "B S T I"]]
    channels: Callable[[Tensor], Float[Tensor, "B S T O"]]

    def early(self, grad: Tensor, num_examples: int) -> Dense | None:
        """The gradients for one output, where they are so small that they need not wait."""
        patches = num_examples * self.weight.numel() * WORTH < grad.numel()
        return self.factor([grad], num_examples).dense() if patches else None

    def factor(self, grads: Sequence[Tensor], num_examples: int) -> Factor:
        """The gradients of examples, from those of the layer's output, one tensor an output."""
        outputs = [_by_example(self.channels(grad), num_examples) for grad in grads]
        if not self._is_small(outputs):
            inputs = _by_example(self.positions(self.x), num_examples)
            return Outer(inputs, torch.stack(outputs, 3))
        _, _, positions, width = outputs[0].shape
        step = max(1, sizes(self.x.device).patches * width // (positions * self.weight.numel()))
        # A few examples at a time: patches are many times the size of what they are cut from.
        inputs = self.x.split(step * (len(self.x) // num_examples))
        parts = zip(inputs, *(output.split(step) for output in outputs), strict=True)
        return Dense(torch.cat([self._gradients(x, few) for x, *few in parts]))

    def _gradients(
        self, x: Tensor, outputs: list[Float[Tensor, "N S T O"]]
    ) -> Float[Tensor, "N C P"]:
        inputs = _by_example(self.positions(x), len(outputs[0]))
        return Outer(inputs, _stacked(outputs)).dense().rows

    def patch_bytes(self, grad: Tensor) -> int:
        """Bytes of what all positions meet, from the gradient of the layer's output."""
        rows, _, positions, width = self.channels(grad).shape
        return rows * positions * (self.weight.numel() // width) * grad.itemsize

    def _is_small(self, outputs: list[Float[Tensor, "N S T O"]]) -> bool:
        """Whether gradients are smaller, or nearly, than factors: they are then formed once."""
        _, groups, positions, width = outputs[0].shape
        inputs = self.weight.numel() // width
        factors = positions * (inputs + groups * len(outputs) * width)
        return len(outputs) * self.weight.numel() <= 1.5 * factors


def _by_example(x: Float[Tensor, "B S T I"], num_examples: int) -> Float[Tensor, "N S U I"]:
    """Several rows of one example (windows) are more positions of the same weight."""
    rows, groups, positions, width = x.shape
    if rows == num_examples:
        return x
    x = x.view(num_examples, rows // num_examples, groups, positions, width)
    return x.transpose(1, 2).reshape(num_examples, groups, -1, width)


def _stacked(outputs: list[Float[Tensor, "N S T O"]]) -> Float[Tensor, "N S T C O"]:
    """In the memory order of the parts, whether positions or channels lie side by side."""
    if outputs[0].stride(-1) == 1:
        return torch.stack(outputs, 3)
    return torch.stack([o.transpose(2, 3) for o in outputs], 2).permute(0, 1, 4, 2, 3)


@dataclass(frozen=True)
class Elementwise:
    """A weight that scales or shifts: its gradient is a sum of the output's, times what it met."""

    weight: Tensor
    part: Callable[[Tensor], Tensor]

    def early(self, grad: Tensor, num_examples: int) -> Dense:
        """The gradients for one output, which are small."""
        return self.factor([grad], num_examples)

    def factor(self, grads: Sequence[Tensor], num_examples: int) -> Dense:
        """The gradients of examples, from those of the layer's output, one tensor an output."""
        shape = self.weight.shape
        rows = [_summed_to(self.part(grad), shape, num_examples) for grad in grads]
        return Dense(torch.stack(rows, 1))


def _summed_to(x: Tensor, shape: torch.Size, num_examples: int) -> Tensor:
    """Sums over what the shape was broadcast to, for each example; flattened."""
    aligned = (1,) * (x.ndim - len(shape)) + tuple(shape)
    dims = [i for i in range(1, x.ndim) if aligned[i] == 1]
    x = x.sum(dims, keepdim=True) if dims else x
    return x.reshape(num_examples, -1, *aligned[1:]).sum(1).reshape(num_examples, -1)


@dataclass(frozen=True)
class Lookup:
    """An embedding: rows of a table by index."""

    weight: Tensor
    indices: Tensor
    padding: int | None = None

    def early(self, grad: Tensor, num_examples: int) -> Dense:
        """The gradients for one output, which are small."""
        return self.factor([grad], num_examples)

    def factor(self, grads: Sequence[Tensor], num_examples: int) -> Dense:
        """The gradients of examples, from those of the looked-up rows, one tensor an output."""
        num, width = self.weight.shape
        index = self.indices.reshape(num_examples, -1, 1).expand(-1, -1, width)
        table = grads[0].new_zeros(num_examples, num, width)
        rows = [table.scatter_add(1, index, grad.reshape(index.shape)) for grad in grads]
        if self.padding is not None:
            for row in rows:
                row[:, self.padding] = 0  # as PyTorch has it: padding does not learn
        return Dense(torch.stack(rows, 1).flatten(2))


Use = Product | Elementwise | Lookup


def same(x: Tensor) -> Tensor:
    """Itself."""
    return x


def last(x: Tensor) -> Tensor:
    """With the channels behind the other dimensions."""
    return x.movedim(1, -1)


def rows_of(x: Tensor) -> Float[Tensor, "B 1 T I"]:
    """The positions of a linear layer's input or output."""
    return x.reshape(x.shape[0], 1, -1, x.shape[-1])


def pixels_of(x: Float[Tensor, "B D ..."], groups: int) -> Float[Tensor, "B S T O"]:
    """The positions of a convolution's output."""
    return x.reshape(x.shape[0], groups, x.shape[1] // groups, -1).transpose(2, 3)


def patches_of(
    x: Float[Tensor, "B D H W"],
    kernel_size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int] | str,
    dilation: Sequence[int],
    groups: int,
) -> Float[Tensor, "B S T I"]:
    """The patches that a convolution multiplies with its kernel, kernel positions last."""
    before, behind = _padded(padding, kernel_size, dilation)
    if any(before) or any(behind):
        x = F.pad(x, (before[1], behind[1], before[0], behind[0]))
    patches = _windows(x, kernel_size, stride, dilation)
    return pixels_of(patches.reshape(len(x), -1, *patches.shape[-2:]), groups)


def _padded(
    padding: Sequence[int] | str, kernel_size: Sequence[int], dilation: Sequence[int]
) -> tuple[Sequence[int], Sequence[int]]:
    """Zeros before and behind either dimension."""
    if padding == "valid":
        return (0, 0), (0, 0)
    if padding == "same":
        totals = [d * (k - 1) for d, k in zip(dilation, kernel_size, strict=True)]
        return [total // 2 for total in totals], [total - total // 2 for total in totals]
    return padding, padding  # type: ignore[return-value]


def _windows(
    x: Float[Tensor, "B D H W"],
    kernel_size: Sequence[int],
    stride: Sequence[int],
    dilation: Sequence[int],
) -> Float[Tensor, "B D K L P Q"]:
    """What each position of a kernel meets, as a view; copying it is faster than `F.unfold`."""
    reach = [d * (k - 1) for d, k in zip(dilation, kernel_size, strict=True)]
    size = [(n - r - 1) // s + 1 for n, r, s in zip(x.shape[2:], reach, stride, strict=True)]
    steps = x.stride()[2:]
    within = [step * d for step, d in zip(steps, dilation, strict=True)]
    between = [step * s for step, s in zip(steps, stride, strict=True)]
    return x.as_strided((*x.shape[:2], *kernel_size, *size), (*x.stride()[:2], *within, *between))
