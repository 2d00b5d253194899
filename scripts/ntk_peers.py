# pyright: reportMissingImports=false
"""The tangent kernel by other packages, one adapter each, for scripts/benchmark_ntk.py.

    pip install -e ".[peers]"

An adapter takes a network, images, and how many of them its Jacobian may cover at once, and
returns a call without arguments that computes the kernel: N x C x N x C in full, N x N the trace.
What a package does once per network, such as compiling, is not a part of the call. A package that
has only one of the two kernels says so by `NotImplementedError`, or gives the trace of the full
one; packages that give Jacobians are contracted tile by tile, each Jacobian of a row once.

| package | what is called |
|---|---|
| neural_tangents | structured derivatives of the network in JAX, compiled (Novak et al. 2022) |
| nngeometry | `GramMatrix` |
| curvlinops | `JacobianLinearOperator` times its adjoint, column by column in chunks |
| laplace | Jacobians of its `CurvlinopsGGN`, by `torch.func` |
| backpack | Jacobians from `BatchGrad`, one output after the other |
| asdl | `empirical_implicit_ntk` in full, `empirical_class_wise_direct_ntk` for the trace |
"""

from collections.abc import Callable
from importlib.util import find_spec
from typing import Literal

import torch
from torch import Tensor
from torch.nn import Module
from torch.utils.data import DataLoader, TensorDataset

Reduction = Literal["full", "trace"]
Call = Callable[[], Tensor]
EQUATIONS = {"full": "ncp,mdp->ncmd", "trace": "ncp,mcp->nm"}


def neural_tangents(model: Module, x: Tensor, reduction: Reduction, at_once: int) -> Call:
    """Structured derivatives; the default kernel is the mean over equal outputs."""
    import jax
    import numpy as np
    from jax._src import source_info_util
    from jax.interpreters import ad

    from scripts.ntk_in_jax import to_jax

    # Its structured derivatives read two names that JAX 0.4.30 no longer has in this place.
    ad.source_info_util, ad.config = source_info_util, jax.config
    apply, params = to_jax(model, x)
    # Only now: Triton, which the export loads, crashes where TensorFlow was loaded before.
    import neural_tangents as nt

    axes = {"full": (), "trace": (-1,)}[reduction]
    structured = nt.NtkImplementation.STRUCTURED_DERIVATIVES
    kernel = nt.empirical_ntk_fn(apply, axes, vmap_axes=0, implementation=structured)
    images, num_outputs = x.numpy(), len(model(x[:1])[0])
    compiled = jax.jit(lambda x, params: kernel(x, None, params)).lower(images, params).compile()

    def call() -> Tensor:
        found = torch.from_numpy(np.array(compiled(images, params)))
        return num_outputs * found if reduction == "trace" else found.transpose(1, 2)

    return call


def nngeometry(model: Module, x: Tensor, reduction: Reduction, at_once: int) -> Call:
    """Gradients of one output after the other, layer by layer."""
    from nngeometry.gram import GramMatrix

    loader = DataLoader(TensorDataset(x), batch_size=len(x))
    full = lambda: GramMatrix(model, loader).to_torch().permute(1, 0, 3, 2)
    return lambda: reduced(full(), reduction)


def curvlinops(model: Module, x: Tensor, reduction: Reduction, at_once: int) -> Call:
    """J (J^T e) for all unit vectors e, as many at once as Jacobians of `at_once` images hold."""
    from curvlinops import JacobianLinearOperator

    num_outputs = len(model(x[:1])[0])
    data, options = [(x, x.new_zeros(len(x)))], {"check_deterministic": False}
    jacobian = JacobianLinearOperator(model, list(model.parameters()), data, **options)  # type: ignore
    unit = torch.eye(len(x) * num_outputs).split(at_once * num_outputs, 1)

    def call() -> Tensor:
        columns = [jacobian @ (jacobian.adjoint() @ part) for part in unit]
        full = torch.cat(columns, 1).view(len(x), num_outputs, len(x), num_outputs)
        return reduced(full, reduction)

    return call


def laplace(model: Module, x: Tensor, reduction: Reduction, at_once: int) -> Call:
    """Jacobians as its functional Laplace approximation contracts them."""
    from laplace.curvature import CurvlinopsGGN

    backend = CurvlinopsGGN(model, "classification")
    return lambda: contracted(lambda x: backend.jacobians(x)[0], x, reduction, at_once)


def backpack(model: Module, x: Tensor, reduction: Reduction, at_once: int) -> Call:
    """Per-sample gradients of one output after the other."""
    from backpack import backpack, extend, extensions

    extended = extend(model)

    def jacobian(x: Tensor) -> Tensor:
        outputs = extended(x)
        rows = []
        for column in outputs.T:
            with backpack(extensions.BatchGrad(), retain_graph=True):
                column.sum().backward(retain_graph=True)
            rows.append([p.grad_batch.flatten(1) for p in model.parameters()])  # type: ignore
        return torch.stack([torch.cat(parts, 1) for parts in rows], 1)

    return lambda: contracted(jacobian, x, reduction, at_once)


def asdl(model: Module, x: Tensor, reduction: Reduction, at_once: int) -> Call:
    """The implicit kernel in full, one per output for the trace."""
    from asdl.kernel import empirical_class_wise_direct_ntk, empirical_implicit_ntk

    if reduction == "trace":
        return lambda: empirical_class_wise_direct_ntk(model, x).sum(-1)
    return lambda: empirical_implicit_ntk(model, x).transpose(1, 2)


def reduced(full: Tensor, reduction: Reduction) -> Tensor:
    """The trace of a full kernel, where a package has nothing cheaper."""
    return torch.einsum("ncmc->nm", full) if reduction == "trace" else full


def contracted(
    jacobian: Callable[[Tensor], Tensor], x: Tensor, reduction: Reduction, at_once: int
) -> Tensor:
    """The kernel from Jacobians N x C x P of blocks; what is below the diagonal is mirrored."""
    blocks, tiles = x.split(at_once), {}
    for i, part in enumerate(blocks):
        left = jacobian(part).detach()
        for j in range(i, len(blocks)):
            right = left if i == j else jacobian(blocks[j]).detach()
            tile = tiles[i, j] = torch.einsum(EQUATIONS[reduction], left, right)
            tiles[j, i] = tile.T if reduction == "trace" else tile.permute(2, 3, 0, 1)
    places, axis = range(len(blocks)), {"trace": 1, "full": 2}[reduction]
    return torch.cat([torch.cat([tiles[i, j] for j in places], axis) for i in places])


PEERS = {
    "neural_tangents": neural_tangents,
    "nngeometry": nngeometry,
    "curvlinops": curvlinops,
    "laplace": laplace,
    "backpack": backpack,
    "asdl": asdl,
}


def installed() -> tuple[str, ...]:
    """Names of the packages that can be imported here."""
    return tuple(name for name in PEERS if find_spec(name))


def kernel_by(peer: str, model: Module, x: Tensor, reduction: Reduction, at_once: int) -> Call:
    """The kernel by a package; activations out of place, since some packages hook them."""
    for module in model.modules():
        if hasattr(module, "inplace"):
            module.inplace = False  # type: ignore[assignment]
    return PEERS[peer](model, x, reduction, at_once)
