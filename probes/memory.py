"""How many images a probe may look at in one batch under a memory budget."""

import math

import torch
from torch import Tensor
from torch.nn import Module

from core.errors import InputError

# Copies of the weights alive at the worst moment: both ends, displacement, a moved set, a null.
WEIGHT_COPIES = 6
# Tensors alive per activation in nested forward mode: value, tangent, tangent's value and tangent,
# and one result of each on its way.
ACTIVATION_COPIES = 6


def batch_size(model: Module, x: Tensor, budget: int, largest: int, *, widening: int = 1) -> int:
    """The largest batch, at most `largest`, that fits a budget in bytes.

    All activations of one image are counted as if they lived at once, which overestimates.

    Args:
        model: The network to be probed.
        x: One image, N = 1.
        budget: Bytes.
        largest: Upper limit.
        widening: How many times as wide as the model's own the numbers will be, such as 2 for a
            check in float64 of a network in float32.

    Raises:
        InputError: If the budget does not hold the weights and one image.
    """
    weights = widening * WEIGHT_COPIES * sum(t.nbytes for t in model.state_dict().values())
    per_image = widening * ACTIVATION_COPIES * activation_bytes(model, x)
    fitting = (budget - weights) // per_image
    if fitting < 1:
        needed = math.ceil((weights + per_image) / 1e6)
        raise InputError(
            f"--memory is {budget / 1e6:.0f}MB, but this network needs at least {needed}MB: "
            f"give --memory {needed}MB or more"
        )
    return min(largest, fitting)


def activation_bytes(model: Module, x: Tensor) -> int:
    """Bytes of the outputs of all layers for a batch."""
    total = 0

    def add(_module: Module, _args: object, output: object) -> None:
        nonlocal total
        total += output.nbytes if isinstance(output, Tensor) else 0

    leaves = [module for module in model.modules() if next(module.children(), None) is None]
    handles = [module.register_forward_hook(add) for module in leaves]
    try:
        with torch.no_grad():
            model(x)
    finally:
        for handle in handles:
            handle.remove()
    return total + x.nbytes
