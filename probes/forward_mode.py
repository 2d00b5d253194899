r"""Forward-mode rules that PyTorch lacks, or has only in a slow form, for networks being probed.

Inside `forward_mode_rules` some functions are replaced, for every network and without touching it.

`batch_norm` on running statistics becomes the affine map that it is,

.. math:: y = x s + t, \qquad s = w / \sqrt{\sigma^2 + \epsilon}, \qquad t = b - \mu s,

so that derivatives with respect to the running statistics exist; PyTorch has none.
`scaled_dot_product_attention` is written out, since the fused kernels have no forward-mode rule.

For first derivatives, `linear` and the softmax of attention have rules that touch memory less
often than PyTorch's. They are custom functions, through which nested forward mode would silently
return zero, so second derivatives do without them. There, normalisations are written out, since
PyTorch's nested rule for them takes mean and variance for constants (off by a quarter on a vision
transformer), and so are activations whose backward has no forward-mode rule.
"""

import math
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode


@contextmanager
def forward_mode_rules(order: Literal[1, 2] = 1) -> Generator[None]:
    """Replace the functions inside the block, for derivatives of an order."""
    with _Rules(_FIRST_ORDER if order == 1 else _SECOND_ORDER):
        yield


class _Rules(TorchFunctionMode):
    def __init__(self, rules: Mapping[Callable, Callable]) -> None:
        super().__init__()
        self.rules = rules

    def __torch_function__(
        self,
        func: Callable,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:  # ruff: ignore[any-type] - whatever the function returns
        return self.rules.get(func, func)(*args, **(kwargs or {}))


def _batch_norm(
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    if training or running_mean is None or running_var is None:
        # Some layers standardise their weights with it.
        others = [0, *range(2, x.ndim)]
        running_var, running_mean = torch.var_mean(x, others, correction=0)
    scale = torch.rsqrt(running_var + eps)
    scale = scale if weight is None else weight * scale
    shift = -running_mean * scale
    shift = shift if bias is None else bias + shift
    per_channel = (-1,) + (1,) * (x.ndim - 2)
    return torch.addcmul(shift.view(per_channel), x, scale.view(per_channel))


def _layer_norm(
    x: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    var, mean = torch.var_mean(
        x, list(range(-len(normalized_shape), 0)), correction=0, keepdim=True
    )
    y = (x - mean) * torch.rsqrt(var + eps)
    y = y if weight is None else y * weight
    return y if bias is None else y + bias


class _Linear(Function):
    """Rows of a matrix through a linear layer: Y = X W^T."""

    @staticmethod
    def forward(x: Tensor, weight: Tensor) -> Tensor:
        return x @ weight.t()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:  # ruff: ignore[any-type]
        ctx.save_for_forward(*inputs)

    @staticmethod
    def jvp(ctx: Any, dx: Tensor | None, dweight: Tensor | None) -> Tensor | None:  # ruff: ignore[any-type]
        x, weight = ctx.saved_tensors
        if dweight is None:
            return None if dx is None else dx @ weight.t()
        return x @ dweight.t() if dx is None else torch.addmm(x @ dweight.t(), dx, weight.t())


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    y: Tensor = _Linear.apply(x.reshape(-1, x.shape[-1]), weight)  # type: ignore[assignment]
    y = y if bias is None else y + bias
    return y.view(*x.shape[:-1], weight.shape[0])


def _attention(softmax: Callable[[Tensor], Tensor]) -> Callable[..., Tensor]:
    def attention(
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attn_mask: Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Tensor:
        if dropout_p or is_causal or enable_gqa:
            raise RuntimeError(
                "attention with dropout, causal mask or grouped queries has no rule"
            )
        scale = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
        scores = (query * scale) @ key.transpose(-2, -1)
        if attn_mask is not None and attn_mask.dtype == torch.bool:
            scores = scores.masked_fill(~attn_mask, -math.inf)
        elif attn_mask is not None:
            scores = scores + attn_mask
        return softmax(scores) @ value

    return attention


class _Softmax(Function):
    """Softmax over the last dimension; its derivative reuses the result."""

    @staticmethod
    def forward(scores: Tensor) -> Tensor:
        return torch.softmax(scores, -1)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:  # ruff: ignore[any-type]
        ctx.save_for_forward(output)

    @staticmethod
    def jvp(ctx: Any, dscores: Tensor) -> Tensor:  # ruff: ignore[any-type]
        (p,) = ctx.saved_tensors
        change = p * dscores
        return torch.addcmul(change, p, change.sum(-1, keepdim=True), value=-1)


def _fast_softmax(scores: Tensor) -> Tensor:
    return _Softmax.apply(scores)  # type: ignore[return-value]


def _softmax(scores: Tensor) -> Tensor:
    return scores.softmax(-1)


def _silu(x: Tensor, inplace: bool = False) -> Tensor:
    return x * x.sigmoid()


def _mish(x: Tensor, inplace: bool = False) -> Tensor:
    return x * F.softplus(x).tanh()


def _hardswish(x: Tensor, inplace: bool = False) -> Tensor:
    return x * (x + 3).clamp(0, 6) / 6


def _hardsigmoid(x: Tensor, inplace: bool = False) -> Tensor:
    return (x + 3).clamp(0, 6) / 6


def _relu6(x: Tensor, inplace: bool = False) -> Tensor:
    return x.clamp(0, 6)


_FIRST_ORDER: dict[Callable, Callable] = {
    F.batch_norm: _batch_norm,
    F.linear: _linear,
    F.scaled_dot_product_attention: _attention(_fast_softmax),
}
_SECOND_ORDER: dict[Callable, Callable] = {
    F.batch_norm: _batch_norm,
    F.layer_norm: _layer_norm,
    F.scaled_dot_product_attention: _attention(_softmax),
    F.silu: _silu,
    F.mish: _mish,
    F.hardswish: _hardswish,
    F.hardsigmoid: _hardsigmoid,
    F.relu6: _relu6,
}
