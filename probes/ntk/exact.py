r"""The exact empirical neural tangent kernel, tile by tile under a memory budget.

.. math:: K(x, x')_{cd} = \langle \nabla_\theta f_c(x), \nabla_\theta f_d(x') \rangle

Shapes: N and M examples, C outputs, R combinations of outputs.

References:
    | Neural Tangent Kernel (Jacot et al., 2018)
    | https://arxiv.org/abs/1806.07572
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.func import jacrev
from torch.nn import Module
from tqdm import tqdm

from core.command_line import parse_bytes
from core.errors import InputError
from probes.ntk.capture import Factors, Network, Weights, capture, stream
from probes.ntk.checks import checked, network_of
from probes.ntk.factors import WORKSPACE, Factor, Reduction, concatenate
from probes.ntk.footprint import Footprint
from probes.ntk.tiles import Sums, Tile, place

Method = Literal["auto", "structured", "dense", "reference"]
DEFAULT_MEMORY = "2GB"
MOST_ROUNDS = 4  # backward passes again and again cost more than tiles, from about here on


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
        memory: Bytes, or a text such as `2GB`, for all but the result.
        dtype: Precision of the network; that of `params` unless given. Sums over layers are
            always float64.
        progress: Show a bar.

    Returns:
        The kernel in float64.

    Raises:
        InputError: If the model is in training mode, has no matrix as output, or holds weights
            that are no finite numbers; if there are no examples; if `memory` does not hold one
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
    """A kernel to be computed: what of which network, and how large its tiles may be."""

    def __init__(
        self,
        network: Network,
        outputs: str | Tensor,
        blocks: bool | Mapping[str, str],
        method: Method,
        memory: int | str | None,
    ) -> None:
        some = next(iter(network.weights.values()))
        self.method, self.network = method, network
        self.directions = outputs.to(some) if isinstance(outputs, Tensor) else None
        self.reduction: Reduction = "full" if isinstance(outputs, Tensor) else outputs  # type: ignore[assignment]
        self.groups = network.groups(blocks)
        self.whole = blocks is False
        budget = DEFAULT_MEMORY if memory is None else memory
        self.budget = parse_bytes(budget) if isinstance(budget, str) else budget
        self.dtype, self.device = some.dtype, some.device

    def compute(
        self, x1: Tensor, x2: Tensor | None = None, *, progress: bool = False
    ) -> Tensor | dict[str, Tensor]:
        """All tiles, put together."""
        self.prepare(x1, x2)
        shape = self.shape(len(x1), len(x1 if x2 is None else x2))
        names = dict.fromkeys(self.groups.values())
        kernels = {n: torch.zeros(shape, dtype=torch.float64, device=self.device) for n in names}
        pairs = len(x1) * (len(x1) + 1) // 2 if x2 is None else len(x1) * len(x2)
        with tqdm(total=pairs, unit="pair", disable=not progress) as bar:
            for start in range(0, len(x1), self.block):
                for tile, parts in self.row(x1, x2, start):
                    for name, part in parts.items():
                        place(kernels[name], tile, part, mirrored=x2 is None)
                    bar.update(_num_pairs(tile, symmetric=x2 is None))
        return kernels[""] if self.whole else kernels

    def prepare(self, x1: Tensor, x2: Tensor | None) -> None:
        """Check network and examples, choose the sizes of tiles and passes."""
        if len(x1) == 0 or (x2 is not None and len(x2) == 0):
            raise InputError("there are no examples (N = 0); a kernel needs at least one")
        few = self._to_device(x1[:2] if x2 is None else torch.cat([x1[:1], x2[:1]]))
        self.network, self.num_outputs, need = checked(
            self.network, few, self.method, self.directions
        )
        self.block = self.examples_a_pass = len(x1)
        self.rounds = []
        if self.method != "reference":
            self._choose_sizes(need, x1, x2)

    def _choose_sizes(self, need: Footprint, x1: Tensor, x2: Tensor | None) -> None:
        """One block where everything fits; else blocks of rows, whose factors are kept.

        One symmetric block keeps no factors: contractions happen on the way back, for a full
        kernel in as many rounds as it takes to keep the gradients of a part of the weights.
        """
        gradients = sum(need.gradients.values())
        room = self.budget - need.weights - 3 * WORKSPACE * self.dtype.itemsize
        outputs = self.num_outputs if self.reduction == "full" else 1
        passing = need.activations + outputs * gradients
        smallest = passing + (2 if self.reduction == "full" else 1) * need.stored
        if room < smallest:
            raise InputError(
                f"the memory budget of {self.budget / 1e6:.0f} MB does not hold one pair of "
                f"examples; give at least {(self.budget - room + smallest) / 1e6 + 1:.0f}MB"
            )
        left = room // len(x1) - need.activations
        if x2 is None and left > outputs * max(need.gradients.values()):
            self.rounds = _rounds(need.gradients, left // outputs)
            if len(self.rounds) <= MOST_ROUNDS:
                return
        self.rounds = []
        self.block = max(1, int(room // smallest))
        self.examples_a_pass = self.block
        if x2 is None and len(x1) * need.stored + passing <= room:
            self.block = len(x1)
            self.examples_a_pass = max(1, (room - len(x1) * need.stored) // passing)

    def shape(self, num: int, others: int) -> tuple[int, ...]:
        """Shape of the kernel."""
        outputs = self.num_outputs
        return {
            "full": (num, outputs, others, outputs),
            "trace": (num, others),
            "diagonal": (num, others, outputs),
        }[self.reduction]

    def row(
        self, x1: Tensor, x2: Tensor | None, start: int
    ) -> Iterator[tuple[Tile, dict[str, Tensor]]]:
        """The tiles that begin at one row, from left to right.

        The row's examples go through the network once. Where the kernel is symmetric, only tiles
        from the diagonal on are computed.
        """
        rows = slice(start, min(start + self.block, len(x1)))
        if self.method == "reference":
            cols = slice(0, len(x1 if x2 is None else x2))
            yield Tile(rows, cols), self._reference(x1, x1 if x2 is None else x2)
            return
        if self.rounds:
            yield Tile(rows, rows), self._streamed(x1[rows], None, self.rounds)
            return
        others, left = x1 if x2 is None else x2, self._factors(x1[rows])
        for col in range(start if x2 is None else 0, len(others), self.block):
            cols = slice(col, min(col + self.block, len(others)))
            if x2 is None and col == start:
                yield Tile(rows, cols), self._contracted(left, left)
            elif self.reduction == "full":
                yield Tile(rows, cols), self._contracted(left, self._factors(others[cols]))
            else:
                yield Tile(rows, cols), self._streamed(others[cols], left)

    def _streamed(
        self, x: Tensor, left: Factors | None, rounds: Sequence[Collection[str] | None] = (None,)
    ) -> dict[str, Tensor]:
        """Contractions on the way back through the network; with themselves without `left`.

        A round contracts a part of the weights.
        """
        sums = self._sums()

        def visit(name: str, output: int, right: Factor) -> None:
            if left is None:
                sums.add(name, right, right, output)
            elif name in left:
                sums.add(name, left[name].output(output), right, output)

        x, together = self._to_device(x), self.reduction == "full"
        for wanted in rounds:
            stream(self.network, x, self.directions, visit, together=together, wanted=wanted)
        return sums.parts

    def _sums(self) -> Sums:
        return Sums(self.groups, self.num_outputs, self.reduction)

    def _factors(self, x: Tensor) -> Factors:
        passes = [
            capture(self.network, self._to_device(part), self.directions)
            for part in x.split(self.examples_a_pass)
        ]
        factors: Factors = {}
        for name in self.network.weights:
            parts = [found.pop(name) for found in passes if name in found]
            if parts:
                factors[name] = concatenate(parts)
        return factors

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


def _rounds(sizes: Mapping[str, int], room: int) -> list[list[str]]:
    """The weights in order, cut where a round would outgrow the room."""
    rounds, used = [[]], 0
    for name, size in sizes.items():
        if rounds[-1] and used + size > room:
            rounds.append([])
            used = 0
        rounds[-1].append(name)
        used += size
    return rounds


def _num_pairs(tile: Tile, *, symmetric: bool) -> int:
    num, others = (s.stop - s.start for s in (tile.rows, tile.cols))
    return num * (num + 1) // 2 if symmetric and tile.rows == tile.cols else num * others
