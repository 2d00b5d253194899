r"""Watches how a network uses its weights, function by function.

Inside a `Tape` every call of a PyTorch function is looked at. A weight that meets data in a
function with a rule is recorded, with a hook that later receives the gradient of the function's
output; it enters the function as a constant, so that a backward pass computes gradients of
activations only. A function of weights alone (a standardised kernel, a table of position biases)
gives a derived weight, whose gradients are pulled back. A weight that meets data anywhere else is
listed as `unknown`: nothing is guessed.

Since functions are watched and not modules, subclasses, weights that are used twice, padding
modes and weights that belong to no layer need no further care.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.weak import WeakIdKeyDictionary

from probes.ntk.rules import RULES
from probes.ntk.uses import Use


class Tape(TorchFunctionMode):
    """Records the uses of weights while a network runs.

    Attributes:
        uses: What was recorded, with the gradients of each use by output.
        sources: The first tensors that require gradients; backward passes end there.
        unknown: Names of weights that met data in a function without a rule.
        output: The output that is being differentiated.
        visit: Called on the way back, for every use that has received another gradient.
    """

    def __init__(self, weights: dict[str, Tensor], x: Tensor, *, copy: bool = False) -> None:
        super().__init__()
        self.num_examples = len(x)
        self.copy = copy
        self.names = WeakIdKeyDictionary()
        self.data = WeakIdKeyDictionary()
        self.repeated = WeakIdKeyDictionary()
        for name, weight in weights.items():
            self.names[weight] = frozenset([name])
        self.data[x] = True
        self.uses: list[tuple[Use, dict[int, Tensor]]] = []
        self.sources: list[Tensor] = []
        self.unknown: set[str] = set()
        self.output = 0
        self.visit: Callable[[Use, dict[int, Tensor]], None] | None = None
        self._versions: list[tuple[Tensor, int]] = []

    def __torch_function__(
        self,
        func: Callable,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:  # ruff: ignore[any-type] - whatever the function returns
        kwargs = kwargs or {}
        tensors = [t for t in tree_leaves((list(args), kwargs)) if isinstance(t, Tensor)]
        weights = [t for t in tensors if t in self.names]
        if not any(t in self.data for t in tensors):
            return self._derive(func, args, kwargs, weights) if weights else func(*args, **kwargs)
        if not weights:
            return self._mark(func(*args, **kwargs))
        rule = RULES.get(func.__name__)
        result = rule(self, func, *args, **kwargs) if rule else NotImplemented
        if result is NotImplemented:
            self.unknown.update(*(self.names[t] for t in weights))
            result = self.constant(func, *args, **kwargs)
        return self._mark(result)

    def _mark(self, result: Any) -> Any:  # ruff: ignore[any-type] - whatever the function returned
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self.data[leaf] = True
        return result

    def _derive(self, func: Callable, args: Sequence, kwargs: dict, weights: list[Tensor]) -> Any:  # ruff: ignore[any-type] - whatever the function returns
        names = frozenset().union(*(self.names[t] for t in weights))
        if any(t in self.repeated for t in weights):
            self.unknown.update(names)
            return self.constant(func, *args, **kwargs)
        result = func(*args, **kwargs)
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor) and leaf.requires_grad:
                self.names[leaf] = names
                if func.__name__ in ("expand", "expand_as", "repeat", "broadcast_to"):
                    self._repeat(weights[0], leaf)
        return result

    def _repeat(self, weight: Tensor, result: Tensor) -> None:
        """A weight repeated for every example stands for one copy of it."""
        once = weight.ndim == result.ndim and weight.shape[1:] == result.shape[1:]
        if once and weight.shape[0] == 1 and len(result) == self.num_examples:
            self.repeated[result] = weight

    def is_weight(self, value: object) -> bool:
        """Whether a value is a weight or derived from weights alone."""
        return isinstance(value, Tensor) and value in self.names

    def is_data(self, value: object) -> bool:
        """Whether a value depends on the examples."""
        return isinstance(value, Tensor) and value in self.data

    def by_example(self, value: object) -> bool:
        """Whether a value is data whose rows belong to the examples, one after the other."""
        return self.is_data(value) and value.ndim > 0 and not len(value) % self.num_examples  # type: ignore

    def original(self, weight: Tensor) -> Tensor:
        """The weight that was repeated for every example, or the weight itself."""
        return self.repeated.get(weight, weight)  # type: ignore[return-value]

    def constant(self, func: Callable, *args: Any, **kwargs: Any) -> Any:  # ruff: ignore[any-type]
        """The function's result, with all weights held constant."""
        fix = lambda value: value.detach() if self.is_weight(value) else value
        return func(*tree_map(fix, list(args)), **tree_map(fix, kwargs))

    def keep(self, x: Tensor) -> Tensor:
        """What a weight met, for later; see `written_over`."""
        kept = x.detach().clone() if self.copy else x.detach()
        self._versions.append((kept, kept._version))
        return kept

    def written_over(self) -> bool:
        """Whether the network wrote into something that was kept."""
        return any(kept._version != version for kept, version in self._versions)

    def release(self) -> None:
        """Let go of all tensors at once.

        Hooks know the tape and the tape what they hang on: a cycle, which Python would break some
        time later, when two passes have long outgrown the memory of one.
        """
        self.visit = None
        for held in (self.uses, self.sources, self._versions):
            held.clear()

    def kept(self) -> Iterable[Tensor]:
        """What weights met."""
        return (tensor for tensor, _ in self._versions)

    def watch(self, result: Tensor, uses: Iterable[Use]) -> Tensor:
        """Record uses whose output is `result`; returns what the network goes on with."""
        if not torch.is_grad_enabled():
            return result  # nor does it count for PyTorch
        if not result.requires_grad:
            source = result.detach().requires_grad_()
            self.sources.append(source)
            self._hook(source, uses)
            return source.clone()  # which the network may write over
        self._hook(result, uses)
        return result

    def _hook(self, result: Tensor, uses: Iterable[Use]) -> None:
        entries = [(use, {}) for use in uses]
        self.uses += entries
        # Called with the gradient of this very value, even when it is written over later.
        result.register_hook(partial(self._receive, entries))

    def _receive(self, entries: list[tuple[Use, dict[int, Tensor]]], grad: Tensor) -> None:
        for use, received in entries:
            received[self.output] = grad.detach()
            if self.visit is not None:
                self.visit(use, received)
