r"""Null displacements: moves of the same size in no particular direction.

A large :math:`R^2` says little if any move of that size is linear. Both nulls keep the norm of
every parameter tensor; running statistics keep their own displacement, since a random one could
make a variance negative.
"""

from collections.abc import Collection

import torch
from torch import Generator, Tensor

from core.linearization import Weights


def random_displacement(
    delta: Weights, parameters: Collection[str], generator: Generator
) -> Weights:
    r"""Each parameter's :math:`\delta` replaced by a Gaussian direction of the same norm."""
    return {
        name: _random_like(d, generator) if name in parameters else d for name, d in delta.items()
    }


def permuted_displacement(
    delta: Weights, parameters: Collection[str], generator: Generator
) -> Weights:
    r"""The entries of each parameter's :math:`\delta` in a random order."""
    return {
        name: _permuted(d, generator) if name in parameters else d for name, d in delta.items()
    }


def _random_like(d: Tensor, generator: Generator) -> Tensor:
    noise = torch.randn(d.shape, generator=generator, dtype=torch.float64)
    return (noise * (d.double().norm().cpu() / noise.norm())).to(d)


def _permuted(d: Tensor, generator: Generator) -> Tensor:
    order = torch.randperm(d.numel(), generator=generator)
    return d.flatten()[order.to(d.device)].view_as(d)
