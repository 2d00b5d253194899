r"""The tangent model: a network replaced by its first-order expansion in the weights.

.. math:: f_\mathrm{lin}(x; \theta) = f(x; \theta_0) + J_{\theta_0}(x)\,(\theta - \theta_0)

It is linear in its weights, so that training it is a convex problem for the usual losses. Its
weights are those of the network, so that optimiser, weight decay, averages and checkpoints are the
ordinary ones; checkpoints of it are read by every probe, as weights to put into the network.

Shapes: N examples, C outputs.

References:
    | Task Arithmetic in the Tangent Space (Ortiz-Jimenez et al., 2023)
    | https://arxiv.org/abs/2305.12827
    | On Lazy Training in Differentiable Programming (Chizat et al., 2019)
    | https://arxiv.org/abs/1812.07956
"""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.func import functional_call
from torch.nn import Module
from torch.nn.modules.batchnorm import _BatchNorm

from core.errors import InputError
from core.linearization import displacement, first_order


class TangentModel(Module):
    r"""A network, linearised around the weights that it has when this is built.

    The gradient of a loss of :math:`f_\mathrm{lin}` is :math:`J_{\theta_0}^T` times the loss's
    gradient in the outputs. Forward mode gives :math:`J_{\theta_0} \delta` without keeping
    activations, and reverse mode at :math:`\theta_0`, of the same outputs with the same random
    numbers, hands its result to the moving weights. Cost: about two ordinary steps, and no more
    memory than one needs beside a copy of the weights.

    Args:
        model: The network; it keeps its trainable weights, buffers and hooks. Its BatchNorm
            layers must be on their running statistics, which are constants here.

    Raises:
        InputError: If a BatchNorm layer would use the statistics of the batch.

    Example:
        >>> layer = torch.nn.Linear(2, 1, bias=False)  # linear: its own expansion
        >>> tangent = TangentModel(layer)
        >>> _ = torch.nn.init.constant_(layer.weight, 3.0)
        >>> tangent(torch.ones(1, 2)).item()
        6.0
    """

    def __init__(self, model: Module) -> None:
        super().__init__()
        _check_statistics(model)
        self.model = model
        self.origin = {name: p.detach().clone() for name, p in model.named_parameters()}

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "TangentModel":
        """Moves and casts the origin along with the weights; `Module.to` calls this."""
        super()._apply(fn, recurse)
        self.origin = {name: fn(tensor) for name, tensor in self.origin.items()}
        return self

    def forward(self, x: Float[Tensor, "N ..."]) -> Float[Tensor, "N C"]:
        """The linearised outputs, differentiable in the network's weights."""
        if not torch.is_grad_enabled():
            value, slope = self._expansion(x)
            return value + slope
        with same_random_numbers(x.device):
            _, slope = self._expansion(x)
        weights = dict(self.model.named_parameters())
        at_origin = {name: _at(p, self.origin[name]) for name, p in weights.items()}
        return functional_call(self.model, at_origin, (x,)) + slope

    def _expansion(
        self, x: Float[Tensor, "N ..."]
    ) -> tuple[Float[Tensor, "N C"], Float[Tensor, "N C"]]:
        weights = {name: p.detach() for name, p in self.model.named_parameters()}
        delta = displacement(self.origin, weights)
        return first_order(lambda p: functional_call(self.model, p, (x,)), self.origin, delta)


def _check_statistics(model: Module) -> None:
    for name, module in model.named_modules():
        if isinstance(module, _BatchNorm) and module.training:
            raise InputError(
                f"the BatchNorm layer '{name}' uses the statistics of the batch, around which "
                "there is no expansion in the weights alone; running statistics were expected: "
                "give --freeze_bn true"
            )


@contextmanager
def same_random_numbers(device: torch.device) -> Generator[None]:
    """What follows the block draws the numbers that the block has drawn, dropout masks say."""
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        yield


def _at(weight: Tensor, origin: Tensor) -> Tensor:
    """The value of `origin`, with a gradient that flows to `weight`."""
    return _At.apply(weight, origin)  # type: ignore[return-value]


class _At(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, origin: Tensor) -> Tensor:  # ruff: ignore[any-type]
        return origin.view_as(origin)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:  # ruff: ignore[any-type]
        return grad, None
