"""The tangent kernel as PyTorch's tutorial computes it, as the yardstick of the benchmark.

References:
    | Neural Tangent Kernels, tutorial of torch.func
    | https://docs.pytorch.org/tutorials/intermediate/neural_tangent_kernels.html
"""

import torch
from torch import Tensor
from torch.func import functional_call, jacrev, jvp, vjp, vmap
from torch.nn import Module

from probes.ntk.capture import Weights
from scripts.ntk_peers import EQUATIONS, Call, Reduction

PAIRED = 2  # rows of the kernel by products, which cost the same each; minutes for all


def contraction(
    model: Module, params: Weights, x: Tensor, reduction: Reduction, at_once: int
) -> Call:
    """Jacobian contraction, in blocks of `at_once` examples."""

    def jacobian(part: Tensor) -> list[Tensor]:
        one = lambda params, x: functional_call(model, params, (x[None],))[0]
        found = vmap(jacrev(one), (None, 0))(params, part)
        return [rows.flatten(2) for rows in found.values()]

    def tile(left: Tensor, right: Tensor) -> Tensor:
        pairs = zip(jacobian(left), jacobian(right), strict=True)
        return torch.stack([torch.einsum(EQUATIONS[reduction], a, b) for a, b in pairs]).sum(0)

    blocks = x.split(at_once)
    axis = 2 if reduction == "full" else 1
    return lambda: torch.cat([torch.cat([tile(a, b) for b in blocks], axis) for a in blocks])


def products(
    model: Module, params: Weights, x: Tensor, reduction: Reduction, num_outputs: int
) -> Call:
    """NTK-vector products, for the first rows of the kernel."""
    basis = torch.eye(num_outputs, device=x.device)

    def pair(a: Tensor, b: Tensor) -> Tensor:
        at = lambda x: lambda params: functional_call(model, params, (x[None],))[0]
        back = vjp(at(b), params)[1]
        # A row for every output at b, transposed.
        kernel = vmap(lambda v: jvp(at(a), (params,), back(v))[1])(basis).T
        return kernel.trace() if reduction == "trace" else kernel

    def rows() -> Tensor:
        found = [vmap(lambda b, a=a: pair(a, b), chunk_size=16)(x) for a in x[:PAIRED]]
        return torch.stack(found) if reduction == "trace" else torch.stack(found).transpose(1, 2)

    return rows
