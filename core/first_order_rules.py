r"""Forward-mode rules for first derivatives that touch memory less often than PyTorch's own.

Each is a custom function, with its derivative along a tangent written beside it, accumulated in
place, for the dual numbers of `core.linearization.first_order`. These do not nest, and the
transforms of `torch.func` refuse the functions: second derivatives do without
(`core.forward_mode`).

| layer | value | derivative |
|---|---|---|
| product | y = x * W + b | dx * W + x * dW + db |
| BatchNorm | y = x s + t, s = w r, t = b - m s | dx s + x ds + dt |
| LayerNorm | y = z w + b, z = (x - mean) r of each row | dz w + z dw + db |
| attention | O = P V, P = softmax(S), S = Q K^T + M | dP V + P dV, dP = P (dS - <P, dS>) |

BatchNorm has mean m and variance v of each channel, and r = (v + eps)^(-1/2); its ds is
dw r - s r^2 dv / 2, its dt is db - dm s - m ds.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional as F

Context = Any  # PyTorch gives it no public type
Layer = Callable[[Tensor, Tensor, Tensor | None], Tensor]


class _Product(Function):
    """A layer whose product of activations and weights is linear in both."""

    @staticmethod
    def forward(
        ctx: Context, x: Tensor, weight: Tensor, bias: Tensor | None, layer: Layer
    ) -> Tensor:
        ctx.set_materialize_grads(False)  # what does not move costs nothing
        ctx.layer = layer
        ctx.save_for_forward(x, weight)
        return layer(x, weight, bias)

    @staticmethod
    def jvp(
        ctx: Context, dx: Tensor | None, dweight: Tensor | None, dbias: Tensor | None, _: None
    ) -> Tensor:
        x, weight = ctx.saved_tensors
        if dx is None and dweight is not None:
            return ctx.layer(x, dweight, dbias)
        dy = ctx.layer(torch.zeros_like(x) if dx is None else dx, weight, dbias)
        if dweight is None:
            return dy
        if ctx.layer is _matrix_product:
            return dy.addmm_(x, dweight.t())
        return dy.add_(ctx.layer(x, dweight, None))


def _matrix_product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return x @ weight.t() if bias is None else torch.addmm(bias, x, weight.t())


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`torch.nn.functional.linear`."""
    rows = x.reshape(-1, x.shape[-1])
    y: Tensor = _Product.apply(rows, weight, bias, _matrix_product)  # type: ignore[assignment]
    return y.view(*x.shape[:-1], weight.shape[0])


def conv2d(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, *options: object, **named: object
) -> Tensor:
    """`torch.nn.functional.conv2d`."""
    layer = lambda x, weight, bias: torch.conv2d(x, weight, bias, *options, **named)  # type: ignore
    return _Product.apply(x, weight, bias, layer)  # type: ignore[return-value]


class _Normalised(Function):
    """BatchNorm on given statistics. Its few operations on channels are here on plain tensors."""

    @staticmethod
    def forward(ctx: Context, *inputs: Any) -> Tensor:  # ruff: ignore[any-type] - see written_out
        ctx.set_materialize_grads(False)  # what does not move costs nothing
        x, mean, var, weight, _, ctx.eps = inputs
        ctx.save_for_forward(x, mean, var, weight)
        return written_out(*inputs)

    @staticmethod
    def jvp(
        ctx: Context,
        dx: Tensor | None,
        dmean: Tensor | None,
        dvar: Tensor | None,
        dweight: Tensor | None,
        dbias: Tensor | None,
        _: None,
    ) -> Tensor:
        x, mean, var, weight = ctx.saved_tensors
        inverse = torch.rsqrt(var + ctx.eps)
        scale = inverse if weight is None else inverse * weight
        dscale = torch.zeros_like(inverse) if dweight is None else dweight * inverse
        if dvar is not None:
            dscale = dscale - scale * inverse.square() * dvar / 2
        dshift = -mean * dscale
        dshift = dshift if dmean is None else dshift - dmean * scale
        dshift = dshift if dbias is None else dshift + dbias
        dy = torch.addcmul(per_channel(dshift, x), x, per_channel(dscale, x))
        return dy if dx is None else dy.addcmul_(dx, per_channel(scale, x))


def written_out(
    x: Tensor,
    mean: Tensor,
    var: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
) -> Tensor:
    """BatchNorm as a scale and a shift of every channel, which has derivatives of any order."""
    scale = torch.rsqrt(var + eps)
    scale = scale if weight is None else scale * weight
    shift = -mean * scale
    shift = shift if bias is None else shift + bias
    return torch.addcmul(per_channel(shift, x), x, per_channel(scale, x))


def batch_norm(
    x: Tensor,
    mean: Tensor,
    var: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    eps: float,
) -> Tensor:
    """`torch.nn.functional.batch_norm` on given statistics, which may move, too."""
    return _Normalised.apply(x, mean, var, weight, bias, eps)  # type: ignore[return-value]


def per_channel(values: Tensor, x: Tensor) -> Tensor:
    """A number a channel, shaped to broadcast over `x`."""
    return values.view(-1, *(1 for _ in x.shape[2:]))


class _LayerNorm(Function):
    """A standardised row has a symmetric derivative, which is PyTorch's backward kernel."""

    @staticmethod
    def forward(
        ctx: Context,
        x: Tensor,
        shape: Sequence[int],
        weight: Tensor | None,
        bias: Tensor | None,
        eps: float,
    ) -> Tensor:
        ctx.set_materialize_grads(False)  # what does not move costs nothing
        ctx.shape, ctx.eps = shape, eps
        ctx.save_for_forward(x, weight)
        return torch.layer_norm(x, shape, weight, bias, eps)

    @staticmethod
    def jvp(
        ctx: Context,
        dx: Tensor | None,
        _shape: None,
        dweight: Tensor | None,
        dbias: Tensor | None,
        _eps: None,
    ) -> Tensor:
        x, weight = ctx.saved_tensors
        row, mean, inverse = torch.native_layer_norm(x, ctx.shape, None, None, ctx.eps)
        if dweight is not None:
            dy = row.mul_(dweight) if dbias is None else torch.addcmul(dbias, row, dweight)
        else:
            dy = row.zero_() if dbias is None else dbias.expand_as(x).clone()
        if dx is None:
            return dy
        drow = torch.ops.aten.native_layer_norm_backward(
            dx.contiguous(), x, ctx.shape, mean, inverse, None, None, [True, False, False]
        )[0]
        return dy.add_(drow) if weight is None else dy.addcmul_(drow, weight)


def layer_norm(
    x: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """`torch.nn.functional.layer_norm`."""
    return _LayerNorm.apply(x.contiguous(), normalized_shape, weight, bias, eps)  # type: ignore[return-value]


class _Attention(Function):
    """Weighted values; the derivative reuses the weights."""

    @staticmethod
    def forward(ctx: Context, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        ctx.set_materialize_grads(False)  # what does not move costs nothing
        scores = q @ k.mT
        weights = (scores if mask is None else scores.add_(mask)).softmax(-1)
        ctx.save_for_forward(q, k, v, weights)
        return weights @ v

    @staticmethod
    def jvp(
        ctx: Context, dq: Tensor | None, dk: Tensor | None, dv: Tensor | None, dmask: Tensor | None
    ) -> Tensor:
        q, k, v, weights = ctx.saved_tensors
        dq, dk, dv = (
            torch.zeros_like(t) if d is None else d
            for t, d in zip((q, k, v), (dq, dk, dv), strict=True)
        )
        dscores = _product_sum(dq, k.mT, q, dk.mT)
        dscores = dscores if dmask is None else dscores.add_(dmask)
        # A softmax has a symmetric derivative, which is PyTorch's backward kernel.
        change = torch.ops.aten._softmax_backward_data(dscores, weights, -1, weights.dtype)
        return _product_sum(change, v, weights, dv)


def _product_sum(a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> Tensor:
    """A B + C D, matrix by matrix; without a sum apart where no factor is broadcast."""
    first = a @ b
    if first.ndim < 3 or any(m.shape[:-2] != first.shape[:-2] for m in (c, d)):
        return first.add_(c @ d)
    first.view(-1, *first.shape[-2:]).baddbmm_(c.flatten(0, -3), d.flatten(0, -3))
    return first


def attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """Attention to scaled queries; `mask` is added to the scores."""
    return _Attention.apply(q.contiguous(), k.contiguous(), v.contiguous(), mask)  # type: ignore[return-value]


def hardtanh(
    x: Tensor, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False
) -> Tensor:
    """`torch.nn.functional.hardtanh`, never in place: that derivative begins with a copy."""
    return F.hardtanh(x, min_val, max_val)
