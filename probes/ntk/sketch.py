r"""Random features of the tangent kernel, where the kernel itself is too large.

A projection S of gradients to k numbers with :math:`E[S^\top S] = I` gives features whose inner
products estimate the kernel without bias:

.. math:: \phi(x)_c = S\,\nabla_\theta f_c(x), \qquad
    E\,\langle \phi(x)_c, \phi(x')_d \rangle = K(x, x')_{cd}

| kind | projection of a weight's gradient | cost |
|---|---|---|
| kronecker | :math:`p_j^\top A^\top G\, q_j` with random signs | no gradient is formed |
| count | numbers are added to k places, with random signs | every gradient is formed |

The projection depends on the seed and the name of the weight, never on its value: features at two
checkpoints share it, so that the error of a difference of kernels is small. It is drawn weight by
weight and never held as a whole. Small weights are always counted.

Shapes: S replicates, N and M examples, C outputs, k features.

References:
    | TRAK: Attributing Model Behavior at Scale (Park et al., 2023)
    | https://arxiv.org/abs/2303.14186
    | Finding Frequent Items in Data Streams (Charikar et al., 2002)
    | https://doi.org/10.1007/3-540-45465-9_59
"""

import hashlib
from collections.abc import Callable
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import Module
from tqdm import tqdm

from core.device import full_precision
from core.errors import InputError
from probes.ntk.capture import Weights, stream
from probes.ntk.checks import check_known, checked, network_of
from probes.ntk.factors import Dense, Factor, Outer

Kind = Literal["kronecker", "count"]


@torch.inference_mode(False)
@full_precision()
def sketched_features(
    model: Module,
    params: Weights,
    x: Float[Tensor, "N ..."],
    *,
    num_features: int = 1024,
    kind: Kind = "kronecker",
    replicates: int = 1,
    seed: int = 0,
    layer: str = "logits",
    batch_size: int = 16,
    dtype: torch.dtype | None = None,
    progress: bool = False,
) -> Float[Tensor, "S N C k"]:
    """Random features of the tangent kernel.

    Args:
        model: A network in evaluation mode.
        params: Weights to differentiate by (see `empirical_ntk`).
        x: Examples.
        num_features: k of each replicate.
        kind: `kronecker` forms no gradient, `count` is more accurate at equal k.
        replicates: Independent sketches, whose spread gives a standard error.
        seed: Decides the projections.
        layer: `logits`, `features` or the name of a module.
        batch_size: Examples a pass.
        dtype: Precision of the network and the features.
        progress: Show a bar.

    Raises:
        InputError: As `empirical_ntk`; if there is no such kind; or if a number is not positive.
    """
    check_known("kind", kind, get_args(Kind))
    numbers = {"num_features": num_features, "replicates": replicates, "batch_size": batch_size}
    for name, value in numbers.items():
        if value < 1:
            raise InputError(f"{name} is {value}; a positive number was expected")
    if len(x) == 0:
        raise InputError("there are no examples (N = 0); features need at least one")
    network = network_of(model, params, layer, dtype)
    some = next(iter(network.weights.values()))
    move = lambda part: part.to(some.device, some.dtype if part.is_floating_point() else None)
    network, num_outputs, _ = checked(network, move(x[:2]), "auto")
    features = some.new_zeros(replicates, len(x), num_outputs, num_features)
    starts = range(0, len(x), batch_size)
    for start in tqdm(starts, unit="batch", disable=not progress):
        part = features[:, start : start + batch_size]
        visit = _adder(part, kind, seed, num_features)
        stream(network, move(x[start : start + batch_size]), None, visit)
    return features


def _adder(
    features: Float[Tensor, "S N C k"], kind: Kind, seed: int, num_features: int
) -> Callable[[str, int, Factor], None]:
    """Adds the projected gradients of one weight and output to the features."""

    def visit(name: str, output: int, factor: Factor) -> None:
        for replicate, place in enumerate(features[:, :, output]):
            generator = _generator(seed, replicate, name)
            if kind == "kronecker" and isinstance(factor, Outer) and factor.inputs.shape[1] == 1:
                place += _kronecker(factor, num_features, generator)
            else:
                place += _counted(factor.dense(), num_features, generator)

    return visit


def _generator(seed: int, replicate: int, name: str) -> torch.Generator:
    digest = hashlib.sha256(f"{seed}/{replicate}/{name}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8]) >> 1)


def _signs(rows: int, cols: int, like: Tensor, generator: torch.Generator) -> Tensor:
    signs = torch.randint(2, (rows, cols), generator=generator, dtype=torch.int8)
    return signs.to(like).mul_(2).sub_(1)


def _kronecker(
    factor: Outer, num_features: int, generator: torch.Generator
) -> Float[Tensor, "N k"]:
    inputs, grads = factor.inputs[:, 0], factor.grads[:, 0, :, 0]
    left = inputs @ _signs(inputs.shape[-1], num_features, inputs, generator)
    right = grads @ _signs(grads.shape[-1], num_features, grads, generator)
    return (left * right).sum(1).div_(num_features**0.5)


def _counted(factor: Dense, num_features: int, generator: torch.Generator) -> Float[Tensor, "N k"]:
    rows = factor.rows[:, 0]
    places = torch.randint(num_features, rows.shape[1:], generator=generator)
    signs = torch.randint(2, rows.shape[1:], generator=generator, dtype=torch.int8)
    signed = rows * signs.to(rows).mul_(2).sub_(1)
    return rows.new_zeros(len(rows), num_features).index_add_(1, places.to(rows.device), signed)


def estimated_kernel(
    left: Float[Tensor, "S N C k"], right: Float[Tensor, "S M C k"] | None = None
) -> tuple[Float[Tensor, "N C M C"], Float[Tensor, "N C M C"]]:
    """The kernel that features estimate, and the standard errors over the replicates.

    Raises:
        InputError: If there is one replicate only, which has no spread.
    """
    if len(left) < 2:
        raise InputError("one replicate has no standard error; make features with replicates=2")
    right = left if right is None else right
    kernels = torch.einsum("sack,sbdk->sacbd", left.double(), right.double())
    return kernels.mean(0), kernels.std(0) / len(kernels) ** 0.5
