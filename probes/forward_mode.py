r"""Forward-mode rules that PyTorch lacks, or has only in a slow form, for networks being probed.

Inside `forward_mode_rules` two functions are replaced, for every network and without touching it:

`batch_norm` on running statistics becomes the affine map that it is,

.. math:: y = x s + t, \qquad s = w / \sqrt{\sigma^2 + \epsilon}, \qquad t = b - \mu s,

so that derivatives with respect to the running statistics exist (PyTorch has none) and cost less
than those of PyTorch's own rule.
`scaled_dot_product_attention` is written out, since the fused kernels have no forward-mode rule.
"""

import math
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode


@contextmanager
def forward_mode_rules() -> Generator[None]:
    """Replace the two functions inside the block."""
    with _Rules():
        yield


class _Rules(TorchFunctionMode):
    def __torch_function__(
        self,
        func: Callable,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:  # ruff: ignore[any-type] - whatever the function returns
        return _REPLACED.get(func, func)(*args, **(kwargs or {}))


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
        raise RuntimeError("BatchNorm on batch statistics is no function of one example")
    scale = torch.rsqrt(running_var + eps)
    scale = scale if weight is None else weight * scale
    shift = -running_mean * scale
    shift = shift if bias is None else bias + shift
    per_channel = (-1,) + (1,) * (x.ndim - 2)
    return torch.addcmul(shift.view(per_channel), x, scale.view(per_channel))


def _attention(
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
        raise RuntimeError("attention with dropout, a causal mask or grouped queries is not known")
    scale = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    scores = (query * scale) @ key.transpose(-2, -1)
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        scores = scores.masked_fill(~attn_mask, -math.inf)
    elif attn_mask is not None:
        scores = scores + attn_mask
    return scores.softmax(-1) @ value


_REPLACED: dict[Callable, Callable] = {
    F.batch_norm: _batch_norm,
    F.scaled_dot_product_attention: _attention,
}
