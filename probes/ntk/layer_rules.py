"""Rules for layers: products, look-ups and normalisations."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from core.errors import InputError
from probes.ntk.uses import (
    Elementwise,
    Lookup,
    Product,
    Use,
    last,
    patches_of,
    pixels_of,
    rows_of,
    same,
)

if TYPE_CHECKING:
    from probes.ntk.tape import Tape

Result = Any  # a tensor, or NotImplemented


def linear(
    tape: "Tape", func: Callable, x: Tensor, weight: Tensor, bias: Tensor | None = None
) -> Result:
    """Rows of a matrix through a matrix."""
    return _product(tape, func, (x, weight, bias), rows_of, rows_of, same)


def conv2d(
    tape: "Tape",
    func: Callable,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Sequence[int] = 1,
    padding: str | int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
) -> Result:
    """A convolution of any stride, padding, dilation and number of groups."""
    if x.ndim != 4:
        return NotImplemented
    positions = partial(
        patches_of,
        kernel_size=weight.shape[2:],
        stride=_pair(stride),
        padding=padding if isinstance(padding, str) else _pair(padding),
        dilation=_pair(dilation),
        groups=groups,
    )
    args = (x, weight, bias, stride, padding, dilation, groups)
    return _product(tape, func, args, positions, partial(pixels_of, groups=groups), last)


def _pair(value: int | Sequence[int]) -> tuple[int, ...]:
    return (value, value) if isinstance(value, int) else tuple(value) * (2 // len(value))


def conv1d(
    tape: "Tape",
    func: Callable,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Sequence[int] = 1,
    padding: str | int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    groups: int = 1,
) -> Result:
    """A convolution along one dimension, as one over rows of height one."""
    if x.ndim != 3 or isinstance(padding, str):
        return NotImplemented
    one = lambda value: value if isinstance(value, int) else value[0]
    positions = lambda x: patches_of(
        x[:, :, None],
        kernel_size=(1, weight.shape[2]),
        stride=(1, one(stride)),
        padding=(0, one(padding)),
        dilation=(1, one(dilation)),
        groups=groups,
    )
    args = (x, weight, bias, stride, padding, dilation, groups)
    return _product(tape, func, args, positions, partial(pixels_of, groups=groups), last)


def _product(
    tape: "Tape",
    func: Callable,
    args: tuple[Any, ...],
    positions: Callable[[Tensor], Tensor],
    channels: Callable[[Tensor], Tensor],
    order: Callable[[Tensor], Tensor],
) -> Result:
    """The uses of a matrix and a bias; `args` begin with input, matrix and bias."""
    x, weight, bias, *_ = args
    if not tape.by_example(x):
        return NotImplemented
    uses: list[Use] = []
    if tape.is_weight(weight):
        uses.append(Product(weight, tape.keep(x), positions, channels))
    if tape.is_weight(bias):
        uses.append(Elementwise(bias, order))
    return tape.watch(tape.constant(func, *args), uses)


def embedding(
    tape: "Tape",
    func: Callable,
    x: Tensor,
    weight: Tensor,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Result:
    """Rows of a table."""
    if not tape.by_example(x) or max_norm is not None or scale_grad_by_freq:
        return NotImplemented
    return tape.watch(tape.constant(func, x, weight), [Lookup(weight, x, padding_idx)])


def batch_norm(
    tape: "Tape",
    func: Callable,
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Result:
    """Batch normalisation on running statistics.

    Raises:
        InputError: If it would normalise by the batch.
    """
    if training or running_mean is None or running_var is None:
        raise InputError(
            "a BatchNorm layer normalises by its batch, so an example has no kernel of its own; "
            "put the model into evaluation mode, model.eval(), with layers that track running "
            "statistics"
        )
    shape = (-1,) + (1,) * (x.ndim - 2)
    scale = torch.rsqrt(running_var + eps).view(shape)
    centred = x - running_mean.view(shape)
    uses = []
    if tape.is_weight(weight):
        kept = tape.keep(centred.detach() * scale)
        uses.append(Elementwise(weight, lambda grad: last(grad * kept)))  # type: ignore[arg-type]
    if tape.is_weight(bias):
        uses.append(Elementwise(bias, last))  # type: ignore[arg-type]
    result = tape.constant(_scaled, centred, scale, weight, bias).to(x.dtype)
    return tape.watch(result, uses)


def _scaled(centred: Tensor, scale: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    """As one factor a channel, so that autograd keeps no activations for it."""
    factor = scale if weight is None else scale * weight.view_as(scale)
    if bias is None:
        return centred * factor
    return torch.addcmul(bias.view_as(scale), centred, factor)


def layer_norm(
    tape: "Tape",
    func: Callable,
    x: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Result:
    """Normalisation over the last dimensions."""
    return _normalised(tape, func, x, normalized_shape, (weight, bias), eps, same)


def rms_norm(
    tape: "Tape",
    func: Callable,
    x: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    eps: float | None = None,
) -> Result:
    """Scaling by the root mean square over the last dimensions."""
    return _normalised(tape, func, x, normalized_shape, (weight,), eps, same)


def group_norm(
    tape: "Tape",
    func: Callable,
    x: Tensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Result:
    """Normalisation over groups of channels."""
    return _normalised(tape, func, x, num_groups, (weight, bias), eps, last)


def _normalised(
    tape: "Tape",
    func: Callable,
    x: Tensor,
    size: int | Sequence[int],
    affine: tuple[Tensor | None, ...],
    eps: float | None,
    order: Callable[[Tensor], Tensor],
) -> Result:
    """The uses of a norm's scale and shift; the scale multiplies the norm without either."""
    if not tape.by_example(x):
        return NotImplemented
    kept = tape.keep(x)
    scaled = lambda grad: order(grad * func(kept, size, eps=eps))
    uses = [
        Elementwise(weight, part)
        for weight, part in zip(affine, (scaled, order), strict=False)
        if weight is not None and tape.is_weight(weight)
    ]
    return tape.watch(tape.constant(func, x, size, *affine, eps), uses)


def matmul(tape: "Tape", func: Callable, x: Tensor, y: Tensor) -> Result:
    """Data through a matrix on its right."""
    if not tape.by_example(x) or y.ndim != 2:
        return NotImplemented
    with torch.enable_grad():
        weight = y.t()
    tape.names[weight] = tape.names[y]
    use = Product(weight, tape.keep(x), rows_of, rows_of)
    return tape.watch(tape.constant(func, x, y), [use])
