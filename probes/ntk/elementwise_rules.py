"""Rules for sums, products and concatenations of data and weights.

Weights that belong to no layer are met here: class tokens, positions, layer scales, biases of
attention.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from core import forward_mode
from probes.ntk.uses import Elementwise, same

if TYPE_CHECKING:
    from probes.ntk.tape import Tape

Result = Any  # a tensor, or NotImplemented
Operand = Any  # a tensor or a number


def add(tape: "Tape", func: Callable, x: Operand, y: Operand, *, alpha: float = 1.0) -> Result:
    """A sum of data and a weight, in either order."""
    if alpha not in (1,):
        return NotImplemented
    return _met(tape, func, x, y, same)


def sub(tape: "Tape", func: Callable, x: Operand, y: Operand) -> Result:
    """A weight taken from data."""
    return _met(tape, func, x, y, torch.neg) if tape.is_data(x) else NotImplemented


def mul(tape: "Tape", func: Callable, x: Operand, y: Operand) -> Result:
    """A product of data and a weight, element by element, in either order."""
    data = x if tape.is_data(x) else y
    # In place, the product is written over the data.
    kept = data.detach().clone() if _in_place(func) else tape.keep(data)
    return _met(tape, func, x, y, lambda grad: grad * kept)


def div(tape: "Tape", func: Callable, x: Operand, y: Operand) -> Result:
    """Data divided by a weight, element by element."""
    if not tape.is_data(x):
        return NotImplemented
    kept, divisor = x.detach().clone() if _in_place(func) else tape.keep(x), y.detach()
    return _met(tape, func, x, y, lambda grad: -grad * kept / divisor.square())


def _in_place(func: Callable) -> bool:
    name = func.__name__
    return name.startswith("__i") or (name.endswith("_") and not name.endswith("__"))


def _met(
    tape: "Tape", func: Callable, x: Operand, y: Operand, part: Callable[[Tensor], Tensor]
) -> Result:
    data, weight = (x, y) if tape.is_data(x) else (y, x)
    weight_once = tape.original(weight)
    whole = tape.is_data(data) and not tape.is_data(weight) and tape.by_example(data)
    if not whole or not _broadcasts(weight_once, data) or data.ndim < weight.ndim:
        return NotImplemented
    return tape.watch(tape.constant(func, x, y), [Elementwise(weight_once, part)])


def _broadcasts(weight: Tensor, data: Tensor) -> bool:
    """Whether the weight is the same for all examples."""
    return weight.ndim < data.ndim or (weight.ndim == data.ndim and weight.shape[0] == 1)


def addcmul(
    tape: "Tape", func: Callable, x: Operand, y: Operand, z: Operand, *, value: float = 1.0
) -> Result:
    """A sum and a product, one after the other."""
    if value not in (1,) or _in_place(func):
        return NotImplemented
    with tape:
        return x + y * z


def cat(tape: "Tape", func: Callable, tensors: Sequence[Tensor], dim: int = 0) -> Result:
    """Weights repeated for every example, beside data (a class token)."""
    dim = dim % tensors[0].ndim
    weights = [tensor for tensor in tensors if tape.is_weight(tensor)]
    once = [tape.original(weight) for weight in weights]
    if dim == 0 or any(len(weight) != 1 for weight in once):
        return NotImplemented
    result = tape.constant(func, tensors, dim)
    starts = [sum(t.shape[dim] for t in tensors[:i]) for i in range(len(tensors))]
    spans = [
        (start, t.shape[dim])
        for start, t in zip(starts, tensors, strict=True)
        if tape.is_weight(t)
    ]
    uses = [
        Elementwise(weight, partial(torch.narrow, dim=dim, start=start, length=length))
        for weight, (start, length) in zip(once, spans, strict=True)
    ]
    return tape.watch(result, uses)


def attention(tape: "Tape", func: Callable, *args: object, **kwargs: object) -> Result:
    """Attention written out, for a weight among its inputs (a table of position biases)."""
    try:
        with tape:
            return forward_mode.attention(*args, attend=forward_mode.attend, **kwargs)  # type: ignore[arg-type]
    except NotImplementedError:
        return NotImplemented
