"""The arithmetic that no exact method for the tangent kernel avoids, in seconds."""

import torch
from torch import Tensor
from torch.nn import Module
from torch.utils.flop_counter import FlopCounterMode

from probes.ntk.capture import Weights, capture
from probes.ntk.checks import network_of
from probes.ntk.factors import Factor, Outer, contraction_costs
from scripts.ntk_peers import Reduction
from scripts.timing import seconds


def floor(model: Module, params: Weights, x: Tensor, reduction: Reduction) -> float:
    """Seconds of one forward pass, a backward pass per output, and the cheapest contractions."""
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    one = x[:1].clone().requires_grad_()
    with FlopCounterMode(display=False) as forward:
        outputs = model(one)
    with FlopCounterMode(display=False) as backward:
        torch.autograd.grad(outputs.sum(), one)
    passes = forward.get_total_flops() + outputs.shape[1] * backward.get_total_flops()
    network = network_of(model, params, "logits", None)
    factors = capture(network, x[:1]).values()
    products = 2 * sum(_cheapest(factor, len(x), reduction) for factor in factors)
    return (len(x) * passes + products) / gemm_rate(x.device)


def _cheapest(factor: Factor, num: int, reduction: Reduction) -> float:
    """Multiply-adds of a weight's contraction, for N examples like the given one."""
    if isinstance(factor, Outer):
        many = Outer(*(t.expand(num, *t.shape[1:]) for t in (factor.inputs, factor.grads)))
        return min(contraction_costs(many, many, reduction, traffic=0).values())
    outputs = factor.rows.shape[1]
    return num**2 * factor.rows[0].numel() * (outputs if reduction == "full" else 1)


def gemm_rate(device: torch.device) -> float:
    """Operations a second of large matrix products in single precision."""
    side = 8192 if device.type == "cuda" else 2048
    a = torch.randn(side, side, device=device)
    a.mm(a)
    return 5 * 2 * side**3 / seconds(lambda: [a.mm(a) for _ in range(5)], device)
