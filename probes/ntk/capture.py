r"""One block of examples through the network: the gradients of every weight, as factors.

One forward pass and C backward passes for gradients of activations; from these the gradients of
the weights follow layer by layer (`probes.ntk.factors`).

Shapes: N examples, C outputs, P weights.
"""

from collections import Counter
from collections.abc import Callable, Collection, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.func import functional_call
from torch.nn import Module

from core.errors import InputError
from core.models import weight_groups
from probes.ntk.factors import Dense, Factor
from probes.ntk.tape import Tape
from probes.ntk.uses import Use

Weights = dict[str, Tensor]
Factors = dict[str, Factor]


@dataclass(frozen=True)
class Network:
    """What is differentiated: some outputs of a model with respect to some of its weights.

    Attributes:
        read: Runs the model and returns its outputs, N x C.
        weights: Those that the kernel sums over.
        others: Weights and buffers that only have to be in place.
        dense: Names of weights whose gradients are computed one example after another.
    """

    model: Module
    read: Callable[[Module, Tensor], Float[Tensor, "N C"]]
    weights: Weights
    others: Weights = field(default_factory=dict)
    dense: frozenset[str] = frozenset()

    def groups(self, blocks: bool | Mapping[str, str]) -> dict[str, str]:
        """The group of every weight: all in one, by residual block, or as given.

        Raises:
            InputError: If a weight is in none of the given ones.
        """
        if isinstance(blocks, Mapping):
            if left_out := self.weights.keys() - blocks.keys():
                raise InputError(
                    f"blocks has no group for {len(left_out)} weights, such as {min(left_out)}; "
                    "a group for every weight was expected"
                )
            return {name: blocks[name] for name in self.weights}
        if not blocks:
            return dict.fromkeys(self.weights, "")
        if not hasattr(self.model, "get_classifier"):
            return {name: name.partition(".")[0] for name in self.weights}
        members = weight_groups(self.model)
        group = {name: block for block, names in members.items() for name in names}
        return {name: group[name] for name in self.weights}

    def outputs(self, weights: Weights, x: Tensor) -> Any:  # ruff: ignore[any-type] - see checks
        """The outputs at given weights; a network that writes over its input gets a copy."""
        return functional_call(
            _Reader(self), _prefixed(self.others | weights), (x.detach().clone(),)
        )


class _Reader(Module):
    def __init__(self, network: Network) -> None:
        super().__init__()
        self.model, self.read = network.model, network.read

    def forward(self, x: Tensor) -> object:
        return self.read(self.model, x)


def _prefixed(weights: Weights) -> Weights:
    return {f"model.{name}": weight for name, weight in weights.items()}


@torch.inference_mode(False)
@torch.enable_grad()
def capture(
    network: Network,
    x: Float[Tensor, "N ..."],
    directions: Float[Tensor, "C R"] | None = None,
    *,
    unknown: set[str] | None = None,
    inspect: Callable[[Tape], None] | None = None,
) -> Factors:
    """The gradients of a block of examples, weight by weight.

    Args:
        network: The network.
        x: The examples.
        directions: Combinations of outputs to differentiate instead of the outputs themselves.
        unknown: Receives the names of weights that no rule covers.
        inspect: Called with the tape while it holds everything.
    """
    leaves = _leaves(network)
    with _recorded(network, leaves, x) as (tape, outputs):
        columns = outputs if directions is None else outputs @ directions
        for c in range(columns.shape[1]):
            _backward(tape, columns, c)
        if inspect is not None:
            inspect(tape)
        if unknown is not None:
            unknown |= tape.unknown
        missing = network.dense | tape.unknown
        return _factors(tape, leaves) | one_by_one(network, x, missing, directions)


@torch.inference_mode(False)
@torch.enable_grad()
def stream(
    network: Network,
    x: Float[Tensor, "N ..."],
    directions: Float[Tensor, "C R"] | None,
    visit: Callable[[str, int, Factor], None],
    *,
    together: bool = False,
    wanted: Collection[str] | None = None,
) -> None:
    """Calls `visit` with the gradients of one weight after another, on the way back.

    Args:
        network: The network.
        x: The examples.
        directions: Combinations of outputs to differentiate instead of the outputs themselves.
        visit: Receives the name of a weight, the first of the outputs, and their gradients.
        together: Visit a weight once with all outputs, instead of with one after another.
        wanted: The weights to visit; all unless given.
    """
    leaves = _leaves(network)
    wanted = network.weights.keys() if wanted is None else wanted
    with _recorded(network, leaves, x) as (tape, outputs):
        columns = outputs if directions is None else outputs @ directions
        step = columns.shape[1] if together else 1
        tape.visit = _visitor(tape, leaves, step, visit, wanted)
        missing = (network.dense | tape.unknown) & set(wanted)
        others = one_by_one(network, x, missing, directions)
        for start in range(0, columns.shape[1], step):
            for c in range(start, start + step):
                _backward(tape, columns, c)
            late = _factors(tape, leaves)
            late |= {n: Dense(f.rows[:, start : start + step]) for n, f in others.items()}
            for name in late.keys() & set(wanted):
                visit(name, start, late[name])


def _visitor(
    tape: Tape,
    leaves: Weights,
    step: int,
    visit: Callable[[str, int, Factor], None],
    wanted: Collection[str],
) -> Callable[[Use, dict[int, Tensor]], None]:
    """Visits a weight once the gradients of `step` outputs have come, and lets go of them.

    Weights that are used several times, or derived from, have to wait for the whole pass.
    """
    times = Counter(id(use.weight) for use, _ in tape.uses)
    names = {
        id(leaf): name
        for name, leaf in leaves.items()
        if times[id(leaf)] == 1 and name not in tape.unknown
    }

    def receive(use: Use, received: dict[int, Tensor]) -> None:
        name = names.get(id(use.weight))
        if name is None:
            return
        small = use.early(received[tape.output], tape.num_examples) if step > 1 else None
        if small is not None:
            received[tape.output] = small.rows
        if name in wanted and len(received) == step:
            parts = list(received.values())
            waited = small is None
            whole = use.factor(parts, tape.num_examples) if waited else Dense(torch.cat(parts, 1))
            visit(name, min(received), whole)
        if name not in wanted or len(received) == step:
            received.clear()

    return receive


def _leaves(network: Network) -> Weights:
    """The weights to be watched, as the ends of the graph."""
    watched = {n: w.detach() for n, w in network.weights.items() if n not in network.dense}
    return {name: weight.requires_grad_() for name, weight in watched.items()}


@contextmanager
def _recorded(
    network: Network, leaves: Weights, x: Tensor
) -> Generator[tuple[Tape, Tensor], None, None]:
    """A forward pass under a tape, with copies where the network writes over its activations."""
    held = {name: network.weights[name].detach() for name in network.dense}
    tape = Tape(leaves, x)
    try:
        with tape:
            outputs = network.outputs(leaves | held, x)
        if tape.written_over():
            tape.release()
            tape = Tape(leaves, x, copy=True)
            with tape:
                outputs = network.outputs(leaves | held, x)
        yield tape, outputs
    finally:
        tape.release()


def _backward(tape: Tape, columns: Float[Tensor, "N R"], output: int) -> None:
    tape.output = output
    if tape.sources:
        last = output == columns.shape[1] - 1
        column = columns[:, output].sum()
        torch.autograd.grad(column, tape.sources, retain_graph=not last, allow_unused=True)


def _factors(tape: Tape, leaves: Weights) -> Factors:
    """From the gradients that the tape has kept, of all weights; the tape lets go of them.

    A use receives gradients of all outputs, zeros among them, or is on no path and has none.
    """
    found: dict[str, list[Factor]] = {}
    names = {id(leaf): name for name, leaf in leaves.items()}
    for use, received in reversed(tape.uses):
        if not received or tape.names[use.weight] & tape.unknown:
            continue
        factor = use.factor(list(received.values()), tape.num_examples)
        received.clear()
        if id(use.weight) in names:
            found.setdefault(names[id(use.weight)], []).append(factor)
        else:
            for name, rows in _pulled_back(use.weight, factor, leaves, tape):
                found.setdefault(name, []).append(rows)
    return {name: _sum(parts) for name, parts in found.items()}


def _pulled_back(
    derived: Tensor, factor: Factor, leaves: Weights, tape: Tape
) -> Iterable[tuple[str, Dense]]:
    """Gradients with respect to the weights that a derived weight is a function of."""
    rows = factor.dense().rows
    names = sorted(tape.names[derived])
    pulled = torch.autograd.grad(
        derived,
        [leaves[name] for name in names],
        rows.reshape(-1, *derived.shape),
        is_grads_batched=True,
        retain_graph=True,
        allow_unused=True,
    )
    for name, grads in zip(names, pulled, strict=True):
        if grads is not None:
            yield name, Dense(grads.reshape(*rows.shape[:2], -1))


def _sum(factors: Sequence[Factor]) -> Factor:
    """A weight that is used several times has the sum of the gradients."""
    if len(factors) == 1:
        return factors[0]
    return Dense(torch.stack([factor.dense().rows for factor in factors]).sum(0))


@torch.inference_mode(False)
@torch.enable_grad()
def one_by_one(
    network: Network,
    x: Float[Tensor, "N ..."],
    names: Iterable[str],
    directions: Float[Tensor, "C R"] | None = None,
) -> dict[str, Dense]:
    """Gradients of some weights by PyTorch's own reverse mode, example by example."""
    names = sorted(names)
    if not names:
        return {}
    moving = {name: network.weights[name].detach().requires_grad_() for name in names}
    weights = {name: weight.detach() for name, weight in network.weights.items()} | moving
    rows: dict[str, list[Tensor]] = {name: [] for name in names}
    for example in x.split(1):
        outputs = network.outputs(weights, example)
        columns = (outputs if directions is None else outputs @ directions)[0]
        for column in columns:
            grads = torch.autograd.grad(
                column, list(moving.values()), retain_graph=True, allow_unused=True
            )
            for name, grad in zip(names, grads, strict=True):
                rows[name].append(torch.zeros_like(moving[name]) if grad is None else grad)
    num = len(x)
    return {
        name: Dense(torch.stack(r).reshape(num, len(r) // num, -1)) for name, r in rows.items()
    }
