"""The arithmetic that no exact method for the tangent kernel avoids, in seconds."""

import time

import torch
from torch import Tensor
from torch.nn import Module
from torch.utils.flop_counter import FlopCounterMode

from probes.ntk.capture import Weights, capture
from probes.ntk.checks import network_of
from probes.ntk.factors import Factor, Outer, contraction_costs
from scripts.ntk_peers import Reduction


def floor(model: Module, params: Weights, x: Tensor, reduction: Reduction) -> float:
    """Seconds of one forward pass, a backward pass per output, and the cheapest contractions."""
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    x.requires_grad_()
    with FlopCounterMode(display=False) as forward:
        outputs = model(x)
    with FlopCounterMode(display=False) as backward:
        torch.autograd.grad(outputs.sum(), x)
    passes = forward.get_total_flops() + outputs.shape[1] * backward.get_total_flops()
    network = network_of(model, params, "logits", None)
    factors = capture(network, x.detach()[:1]).values()
    products = 2 * sum(_cheapest(factor, len(x), reduction) for factor in factors)
    return (passes + products) / gemm_rate()


def _cheapest(factor: Factor, num: int, reduction: Reduction) -> float:
    """Multiply-adds of a weight's contraction, for N examples like the given one."""
    if isinstance(factor, Outer):
        many = Outer(*(t.expand(num, *t.shape[1:]) for t in (factor.inputs, factor.grads)))
        return min(contraction_costs(many, many, reduction, traffic=0).values())
    outputs = factor.rows.shape[1]
    return num**2 * factor.rows[0].numel() * (outputs if reduction == "full" else 1)


def gemm_rate() -> float:
    """Operations a second of a large matrix product."""
    a = torch.randn(2048, 2048)
    a.mm(a)
    began = time.perf_counter()
    for _ in range(5):
        a.mm(a)
    return 5 * 2 * 2048**3 / (time.perf_counter() - began)
