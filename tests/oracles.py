r"""Slow but independent ways to the derivatives that the probes compute by forward mode.

Everything here is reverse mode in the precision of the weights, through PyTorch's own rules; only
BatchNorm is written by hand, since PyTorch does not differentiate its running statistics.
"""

import contextlib
from collections.abc import Callable, Generator
from unittest import mock

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd import grad
from torch.func import jacrev
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from core.linearization import Weights

Function = Callable[[Weights], Float[Tensor, "N C"]]


def dense_change(function: Function, weights: Weights, delta: Weights) -> Float[Tensor, "N C"]:
    r""":math:`J\delta` by building the whole Jacobian."""
    moving = {name: weights[name] for name in delta}
    with reverse_mode():
        jacobian = jacrev(lambda w: function(weights | w), chunk_size=1)(moving)
    parts = [jacobian[name].flatten(2) @ d.flatten() for name, d in delta.items()]
    return torch.stack(parts).sum(0)


def line_slope(function: Function, weights: Weights, delta: Weights) -> Float[Tensor, "N C"]:
    r""":math:`J\delta` as the derivative of :math:`u \mapsto u^\top J\delta`."""
    with reverse_mode():
        outputs, t = _on_the_line(function, weights, delta)
        u = torch.zeros_like(outputs, requires_grad=True)
        (along,) = grad(outputs, t, u, create_graph=True)
        return grad(along, u)[0]


def line_derivatives(
    function: Function, weights: Weights, delta: Weights
) -> tuple[Float[Tensor, "N C"], Float[Tensor, "N C"]]:
    r""":math:`g'(0)` and :math:`g''(0)` of :math:`g(t) = f(\theta_0 + t\delta)`.

    Output by output: a third pass back through normalisations, which all outputs at once would
    take, is wrong in PyTorch.
    """
    with reverse_mode():
        outputs, t = _on_the_line(function, weights, delta)
        slopes = [grad(y, t, create_graph=True)[0] for y in outputs.flatten()]
        curvatures = [grad(s, t, retain_graph=True, materialize_grads=True)[0] for s in slopes]
    first, second = torch.stack(slopes).detach(), torch.stack(curvatures)
    return first.view_as(outputs), second.view_as(outputs)


def _on_the_line(function: Function, weights: Weights, delta: Weights) -> tuple[Tensor, Tensor]:
    t = torch.zeros((), requires_grad=True)
    moving = {name: weights[name] + t * d for name, d in delta.items()}
    return function(weights | moving), t


@contextlib.contextmanager
def reverse_mode() -> Generator[None]:
    """BatchNorm by hand, and the one attention kernel that PyTorch can differentiate twice."""
    with mock.patch.object(F, "batch_norm", batch_norm), sdpa_kernel(SDPBackend.MATH):
        yield


_torch_batch_norm = F.batch_norm


def batch_norm(
    x: Float[Tensor, "N D ..."],
    mean: Float[Tensor, " D"] | None,
    var: Float[Tensor, " D"] | None,
    weight: Float[Tensor, " D"] | None = None,
    bias: Float[Tensor, " D"] | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Float[Tensor, "N D ..."]:
    """BatchNorm on running statistics as its definition says; PyTorch's on batch statistics."""
    if training or mean is None or var is None:
        return _torch_batch_norm(x, mean, var, weight, bias, training, momentum, eps)
    ones = torch.ones_like(mean)
    weight, bias = ones if weight is None else weight, 0 * ones if bias is None else bias
    rows = x.movedim(1, -1)
    return ((rows - mean) / (var + eps).sqrt() * weight + bias).movedim(-1, 1)
