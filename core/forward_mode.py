r"""Forward-mode rules that PyTorch lacks, or has only in a slow form, for networks being probed.

Inside `forward_mode_rules` some functions are replaced, for every network and without touching it.

`batch_norm` on running statistics becomes the affine map that it is,

.. math:: y = x s + t, \qquad s = w / \sqrt{\sigma^2 + \epsilon}, \qquad t = b - \mu s,

so that derivatives with respect to the running statistics exist; PyTorch has none.
`scaled_dot_product_attention` is written out, since the fused kernels have no forward-mode rule.

For first derivatives these and the products of layers have rules that touch memory less often
(`core.first_order_rules`). For second derivatives, normalisations are written out, since
PyTorch's nested rule for them takes mean and variance for constants (off by a quarter on a vision
transformer), and so are activations whose backward has no forward-mode rule.
"""

import math
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from core import first_order_rules


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
    *,
    normalised: Callable[..., Tensor],
) -> Tensor:
    if training or running_mean is None or running_var is None:
        # Some layers standardise their weights with it.
        others = [0, *range(2, x.ndim)]
        running_var, running_mean = torch.var_mean(x, others, correction=0)
    return normalised(x, running_mean, running_var, weight, bias, eps)


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


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
    *,
    attend: Callable[[Tensor, Tensor, Tensor, Tensor | None], Tensor],
) -> Tensor:
    """`torch.nn.functional.scaled_dot_product_attention`, by scaled queries and an added mask.

    Raises:
        NotImplementedError: For dropout, a causal mask or grouped queries.
    """
    if dropout_p or is_causal or enable_gqa:
        raise NotImplementedError(
            "attention with dropout, causal mask or grouped queries has no rule"
        )
    scale = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        attn_mask = torch.zeros_like(attn_mask, dtype=query.dtype).masked_fill(
            ~attn_mask, -math.inf
        )
    return attend(query * scale, key, value, attn_mask)


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """Attention written out."""
    scores = q @ k.mT
    return (scores if mask is None else scores + mask).softmax(-1) @ v


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
    F.batch_norm: partial(_batch_norm, normalised=first_order_rules.batch_norm),
    F.conv2d: first_order_rules.conv2d,
    F.hardtanh: first_order_rules.hardtanh,
    F.layer_norm: first_order_rules.layer_norm,
    F.linear: first_order_rules.linear,
    F.scaled_dot_product_attention: partial(attention, attend=first_order_rules.attention),
}
_SECOND_ORDER: dict[Callable, Callable] = {
    F.batch_norm: partial(_batch_norm, normalised=first_order_rules.written_out),
    F.layer_norm: _layer_norm,
    F.scaled_dot_product_attention: partial(attention, attend=attend),
    F.silu: _silu,
    F.mish: _mish,
    F.hardswish: _hardswish,
    F.hardsigmoid: _hardsigmoid,
    F.relu6: _relu6,
}
