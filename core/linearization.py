r"""First and second derivatives of a network along a displacement of its weights.

.. math:: f_\mathrm{lin}(x; \theta_1) = f(x; \theta_0) + J_{\theta_0}(x)\,(\theta_1 - \theta_0)

Weights are dictionaries from names to tensors: parameters, and float buffers where they moved.

References:
    | Task Arithmetic in the Tangent Space (Ortiz-Jimenez et al., 2023)
    | https://arxiv.org/abs/2305.12827
"""

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.func import jvp
from torch.utils._pytree import tree_map

from core.forward_mode import forward_mode_rules

Weights = dict[str, Tensor]
Outputs = TypeVar("Outputs")


def displacement(params0: Weights, params1: Weights) -> Weights:
    r""":math:`\delta = \theta_1 - \theta_0`, tensor by tensor."""
    return {name: params1[name] - p for name, p in params0.items()}


def shifted(params0: Weights, delta: Weights, alpha: float = 1.0) -> Weights:
    r""":math:`\theta_0 + \alpha \delta`; weights that `delta` leaves out stay."""
    return params0 | {name: torch.add(params0[name], d, alpha=alpha) for name, d in delta.items()}


def first_order(
    function: Callable[[Weights], Outputs], params0: Weights, delta: Weights
) -> tuple[Outputs, Outputs]:
    r"""The function at :math:`\theta_0` and its derivative along :math:`\delta`.

    Only the tensors that `delta` names move; the others cost nothing.
    """
    # Dual numbers of autograd itself: `torch.func.jvp`, which nests, costs a small network as much
    # again as its arithmetic.
    with (
        torch.inference_mode(False),  # which knows no derivatives, and gives zero for them
        torch.no_grad(),
        forward_mode_rules(),
        forward_ad.dual_level(),
    ):
        moving = {
            name: forward_ad.make_dual(_tracked(params0[name]), _tracked(d))
            for name, d in delta.items()
        }
        outputs = function(params0 | moving)
        value = tree_map(lambda dual: forward_ad.unpack_dual(dual).primal, outputs)
        slope = tree_map(_tangent, outputs)
    return value, slope


def _tracked(tensor: Tensor) -> Tensor:
    """A tensor that may become a part of a dual number."""
    return tensor.clone() if tensor.is_inference() else tensor


def _tangent(dual: Tensor) -> Tensor:
    """The derivative that a dual number carries; none is zero."""
    primal, tangent = forward_ad.unpack_dual(dual)
    return torch.zeros_like(primal) if tangent is None else tangent


def second_order(
    function: Callable[[Weights], Outputs], params0: Weights, delta: Weights
) -> tuple[Outputs, Outputs]:
    r"""The derivatives :math:`Df[\delta]` and :math:`D^2f[\delta, \delta]` at :math:`\theta_0`.

    The second is the derivative of the first, by nesting forward mode.
    """
    moving = {name: params0[name] for name in delta}

    def slope(weights: Weights) -> Outputs:
        return jvp(lambda p: function(params0 | p), (weights,), (delta,))[1]

    with torch.no_grad(), forward_mode_rules(order=2):
        first, second = jvp(slope, (moving,), (delta,))[:2]
    return first, second
