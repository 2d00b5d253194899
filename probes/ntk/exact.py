r"""The exact empirical neural tangent kernel, tile by tile under a memory budget.

.. math:: K(x, x')_{cd} = \langle \nabla_\theta f_c(x), \nabla_\theta f_d(x') \rangle

Shapes: N and M examples, C outputs, R combinations of outputs.

References:
    | Neural Tangent Kernel (Jacot et al., 2018)
    | https://arxiv.org/abs/1806.07572
"""

import copy
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor
from torch.func import jacrev
from torch.nn import Module
from tqdm import tqdm

from core.command_line import parse_bytes
from core.device import full_precision
from core.errors import InputError
from probes.ntk.capture import Factors, Network, Weights, stream
from probes.ntk.checks import check_known, checked, network_of
from probes.ntk.examples import Examples
from probes.ntk.factors import Factor, Reduction, concatenate
from probes.ntk.plan import Budget, Plan
from probes.ntk.sizes import safe_sizes
from probes.ntk.tiles import Sums, Tile, num_pairs, place, rows_of_tiles

Method = Literal["auto", "structured", "dense", "reference"]
Read = Callable[[int, slice], Factors]
DEFAULT_MEMORY = "2GB"


@torch.inference_mode(False)
@full_precision()
def empirical_ntk(
    model: Module,
    params: Weights,
    x1: Float[Tensor, "N ..."],
    x2: Float[Tensor, "M ..."] | None = None,
    *,
    outputs: Literal["full", "trace", "diagonal"] | Float[Tensor, "C R"] = "full",
    blocks: bool | Mapping[str, str] = False,
    layer: str = "logits",
    method: Method = "auto",
    memory: int | str | None = None,
    dtype: torch.dtype | None = None,
    progress: bool = False,
) -> Tensor | dict[str, Tensor]:
    r"""The neural tangent kernel of a network in evaluation mode.

    .. math:: K(x, x')_{cd} = \langle \nabla_\theta f_c(x), \nabla_\theta f_d(x') \rangle

    Args:
        model: Any network whose output, or whose `layer`, is a matrix N x C.
        params: Weights to differentiate by, by name, at the values where to differentiate. Those
            of the model that are left out are held constant; buffers take their values from here.
        x1: Examples.
        x2: Others; without, the kernel is that of `x1` with itself, symmetric and positive
            semidefinite.
        outputs: `full` (N, C, M, C), `trace` over equal outputs (N, M), `diagonal` (N, M, C), or
            a matrix of combinations of outputs (N, R, M, R).
        blocks: A dictionary by group of weights, which adds up to the whole; `True` groups by
            residual block, a mapping from names of weights to groups as it says.
        layer: `logits`, `features` (what the classifier reads) or the name of a module, whose
            output is flattened.
        method: `structured` contracts layer inputs with output gradients and never holds a
            gradient where that is larger; `dense` differentiates example by example; `reference`
            contracts whole Jacobians by `torch.func`. `auto` is structured, and dense for the
            weights that it does not know.
        memory: Bytes, or a text such as `2GB`, for all but the result and the check of every
            call, which holds two gradients of all weights.
        dtype: Precision of the network; that of `params` unless given. Sums over layers are
            always float64.
        progress: Show a bar.

    Returns:
        The kernel in float64.

    Raises:
        InputError: If the model is in training mode, has no matrix as output, or holds weights
            that are no finite numbers; if an argument is none of those above; if there are no
            examples, or gradients of one are not finite; if `memory` does not hold one
            pair, with the smallest budget that does; if `structured` is asked for and does not
            know every weight.

    Example:
        >>> layer = torch.nn.Linear(2, 1, bias=False).eval()
        >>> kernel = empirical_ntk(layer, dict(layer.named_parameters()), torch.eye(2))
        >>> kernel[:, 0, :, 0].tolist()
        [[1.0, 0.0], [0.0, 1.0]]
    """
    network = network_of(model, params, layer, dtype)
    job = Kernel(network, outputs, blocks, method, memory)
    return job.compute(x1, x2, progress=progress)


class Kernel:
    """A kernel to be computed: what of which network, and how large its tiles are."""

    budget: Budget
    plan: Plan

    def __init__(
        self,
        network: Network,
        outputs: str | Tensor,
        blocks: bool | Mapping[str, str],
        method: Method,
        memory: int | str | None,
    ) -> None:
        some = next(iter(network.weights.values()))
        check_known("method", method, get_args(Method))
        if not isinstance(outputs, Tensor):
            check_known("outputs", outputs, get_args(Reduction))
        self.method, self.network = method, network
        self.directions = outputs.to(some) if isinstance(outputs, Tensor) else None
        self.reduction: Reduction = "full" if isinstance(outputs, Tensor) else outputs  # type: ignore[assignment]
        self.groups = network.groups(blocks)
        self.whole = blocks is False
        budget = DEFAULT_MEMORY if memory is None else memory
        self.memory = parse_bytes(budget) if isinstance(budget, str) else budget
        if self.memory <= 0:
            raise InputError(f"memory is {self.memory}; a positive number of bytes was expected")
        self.dtype, self.device = some.dtype, some.device

    def compute(
        self, x1: Tensor, x2: Tensor | None = None, *, progress: bool = False
    ) -> Tensor | dict[str, Tensor]:
        """All tiles, put together."""
        self.prepare(x1, x2)
        num, others = len(x1), None if x2 is None else len(x2)
        self.plan = self.plan_in_memory(num, others)
        shape = self.shape(num, num if others is None else others)
        names = dict.fromkeys(self.groups.values())
        kernels = {n: torch.zeros(shape, dtype=torch.float64, device=self.device) for n in names}
        rows = rows_of_tiles(num, others, self.plan.height, self.plan.width)
        total = sum(num_pairs(tile, symmetric=x2 is None) for row in rows for tile in row)
        with tqdm(total=total, unit="pair", disable=not progress) as bar:
            for row in rows:
                for tile, parts in self.row(row, x1, x2):
                    for name, part in parts.items():
                        place(kernels[name], tile, part, mirrored=x2 is None)
                    bar.update(num_pairs(tile, symmetric=x2 is None))
        return kernels[""] if self.whole else kernels

    def prepare(
        self,
        x1: Examples,
        x2: Examples | None,
        processes: int = 1,
        devices: Collection[torch.device] = (),
    ) -> None:
        """Check network and examples, measure what an example takes of each process's memory.

        Args:
            x1: Examples of the rows.
            x2: Examples of the columns, if they are others.
            processes: How many share the memory.
            devices: Where they compute, if not where the weights are.
        """
        if len(x1) == 0 or (x2 is not None and len(x2) == 0):
            raise InputError("there are no examples (N = 0); a kernel needs at least one")
        if x2 is not None and x1[:1].shape[1:] != x2[:1].shape[1:]:
            raise InputError(
                f"an example of x2 is {tuple(x2[:1].shape[1:])}, one of x1 "
                f"{tuple(x1[:1].shape[1:])}; examples of one shape were expected"
            )
        few = self._to_device(x1[:2] if x2 is None else torch.cat([x1[:1], x2[:1]]))
        self.network, self.num_outputs, need = checked(
            self.network, few, self.method, self.directions
        )
        planned = safe_sizes(devices or [self.device])
        self.budget = Budget(
            self.memory,
            3 * planned.workspace * self.dtype.itemsize,
            need,
            self.num_outputs,
            full=self.reduction == "full",
            examples_a_pass=planned.examples_a_pass,
            processes=processes,
        )

    def plan_in_memory(self, num: int, others: int | None) -> Plan:
        """One tile where everything fits; else rows of tiles, whose factors are kept."""
        if self.method == "reference":
            return Plan(num, num if others is None else others, num)
        self.budget.check()
        whole = self.budget.one_tile(num) if others is None else None
        return whole or self.budget.tiles(num, others)

    def of(self, network: Network) -> "Kernel":
        """The same of another network."""
        other = copy.copy(self)
        other.network = network
        return other

    def on(self, device: torch.device) -> "Kernel":
        """The same on a device."""
        network = self.network
        weights, others = (
            {name: tensor.to(device) for name, tensor in tensors.items()}
            for tensors in (network.weights, network.others)
        )
        moved = self.of(replace(network, weights=weights, others=others))
        moved.device = device
        if self.directions is not None:
            moved.directions = self.directions.to(device)
        return moved

    def shape(self, num: int, others: int) -> tuple[int, ...]:
        """Shape of the kernel."""
        outputs = self.num_outputs
        return {
            "full": (num, outputs, others, outputs),
            "trace": (num, others),
            "diagonal": (num, others, outputs),
        }[self.reduction]

    def row(
        self, tiles: Sequence[Tile], x1: Examples, x2: Examples | None, read: Read | None = None
    ) -> Iterator[tuple[Tile, dict[str, Tensor]]]:
        """Tiles that share their rows.

        The rows' examples go through the network once.

        Args:
            tiles: Some of one row of the plan.
            x1: Examples of the rows.
            x2: Examples of the columns, if they are others.
            read: Gives the factors of some examples of one side, where they have been kept.
        """
        others, rows = x1 if x2 is None else x2, tiles[0].rows
        if self.method == "reference":
            for tile in tiles:
                yield tile, self._reference(x1[tile.rows], others[tile.cols])
            return
        if self.plan.rounds:
            yield tiles[0], self._streamed(x1[rows], None, self.plan.rounds)
            return
        read = read or (lambda side, part: self.factors((x1, others)[side][part]))
        left = read(0, rows)
        for tile in tiles:
            if x2 is None and tile.cols == rows:
                yield tile, self._contracted(left, left)
            elif self.plan.captured:
                yield tile, self._contracted(left, read(int(x2 is not None), tile.cols))
            else:
                yield tile, self._streamed(others[tile.cols], left)

    def _streamed(
        self, x: Tensor, left: Factors | None, rounds: Sequence[Collection[str] | None] = (None,)
    ) -> dict[str, Tensor]:
        """Contractions on the way back through the network; with themselves without `left`.

        A round contracts a part of the weights.
        """
        sums, together = self._sums(), self.plan.together

        def visit(name: str, output: int, right: Factor) -> None:
            if left is None:
                sums.add(name, right, right, None if together else output)
            elif name in left:
                sums.add(name, left[name].output(output), right, output)

        x = self._to_device(x)
        for wanted in rounds:
            stream(self.network, x, self.directions, visit, together=together, wanted=wanted)
        return sums.parts

    def _sums(self) -> Sums:
        return Sums(self.groups, self.num_outputs, self.reduction)

    def factors(self, x: Tensor) -> Factors:
        """The gradients of some examples, weight by weight."""
        passes = [self._captured(part) for part in x.split(self.plan.examples_a_pass)]
        factors: Factors = {}
        for name in self.network.weights:
            parts = [found.pop(name) for found in passes if name in found]
            if parts:
                factors[name] = concatenate(parts)
        return factors

    def _captured(self, x: Tensor) -> Factors:
        """Of one pass; what has come of all outputs makes room at once for what is to come."""
        found: Factors = {}
        visit = lambda name, _output, factor: found.__setitem__(name, factor)
        stream(self.network, self._to_device(x), self.directions, visit, together=True)
        return found

    def _contracted(self, left: Factors, right: Factors) -> dict[str, Tensor]:
        sums = self._sums()
        for name in left.keys() & right.keys():
            sums.add(name, left[name], right[name])
        return sums.parts

    def _reference(self, x1: Tensor, x2: Tensor) -> dict[str, Tensor]:
        sides = [self._jacobian(x) for x in (x1, x2)]
        equation = {"full": "ncp,mdp->ncmd", "trace": "ncp,mcp->nm", "diagonal": "ncp,mcp->nmc"}
        sums = self._sums()
        for name in self.groups:
            a, b = (side[name].double() for side in sides)
            sums.put(name, torch.einsum(equation[self.reduction], a, b))
        return sums.parts

    def _jacobian(self, x: Tensor) -> dict[str, Tensor]:
        weights = {name: weight.detach() for name, weight in self.network.weights.items()}
        x = self._to_device(x)

        def columns(weights: Weights) -> Tensor:
            outputs = self.network.outputs(weights, x)
            return outputs if self.directions is None else outputs @ self.directions

        jacobian = jacrev(columns, chunk_size=1)(weights)
        return {
            name: part.reshape(*part.shape[:2], -1).detach() for name, part in jacobian.items()
        }

    def _to_device(self, x: Tensor) -> Tensor:
        return x.to(self.device, self.dtype if x.is_floating_point() else None)
