r"""Averages of weights: along a run, of several runs, and between a run's two ends.

Integer buffers are counters: none is averaged. Running statistics are averaged like parameters;
where they moved, they should be estimated again afterwards (`finetuning.evaluation`).

Shapes: tensors keep the shape of the parameter or buffer that they average.

References:
    | Fine-tuning with Very Large Dropout (Zhang & Bottou, 2024): weight averaging along one run
    | https://arxiv.org/abs/2403.00946
    | Robust fine-tuning of zero-shot models (WiSE-FT; Wortsman et al., 2022)
    | https://arxiv.org/abs/2109.01903
"""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from core.errors import InputError

State = Mapping[str, Tensor]


class RunningAverage:
    r"""Uniform running average of a model's float tensors.

    .. math:: \bar\theta_n = \bar\theta_{n-1} + (\theta_n - \bar\theta_{n-1}) / n

    Float buffers (running statistics) are averaged like parameters; integer buffers are counters
    and keep the latest value.

    Example:
        >>> average = RunningAverage()
        >>> for value in (1.0, 2.0, 6.0):
        ...     average.update({"w": torch.tensor([value])})
        >>> average.state["w"], average.count
        (tensor([3.]), 3)
    """

    def __init__(self, state: State | None = None, count: int = 0) -> None:
        self.state = dict(state or {})
        self.count = count

    def update(self, state: State) -> None:
        """Take one more set of weights into the average."""
        self.count += 1
        for name, tensor in state.items():
            if name in self.state and tensor.is_floating_point():
                self.state[name].lerp_(tensor, 1 / self.count)
            else:
                self.state[name] = tensor.detach().clone()


def average(states: Iterable[State]) -> dict[str, Tensor]:
    r"""Uniform average of weights, one set in memory at a time; counters are the last set's.

    .. math:: \bar\theta = \frac{1}{M} \sum_m \theta_m

    Raises:
        InputError: If names or shapes differ, or there are no weights.

    Example:
        >>> average([{"w": torch.tensor([1.0])}, {"w": torch.tensor([4.0])}])
        {'w': tensor([2.5000])}
    """
    mean = RunningAverage()
    for state in states:
        if mean.count:
            _check_alike(mean.state, state)
        mean.update(state)
    if not mean.count:
        raise InputError("there are no weights to average; at least one set was expected")
    return mean.state


def interpolate(start: State, end: State, alpha: float) -> dict[str, Tensor]:
    r"""Weights on the line from one set to another (WiSE-FT); counters are the end's.

    .. math:: \theta_\alpha = (1 - \alpha)\, \theta_0 + \alpha\, \theta_1

    Raises:
        InputError: If names or shapes differ.

    Example:
        >>> interpolate({"w": torch.tensor([1.0])}, {"w": torch.tensor([3.0])}, 0.25)
        {'w': tensor([1.5000])}
    """
    _check_alike(start, end)
    return {
        name: torch.lerp(start[name], tensor, alpha) if tensor.is_floating_point() else tensor
        for name, tensor in end.items()
    }


def _check_alike(first: State, second: State) -> None:
    names = first.keys() | second.keys()
    differing = [
        name
        for name in sorted(names)
        if name not in first or name not in second or first[name].shape != second[name].shape
    ]
    if differing:
        raise InputError(
            f"the weights differ in the tensors {', '.join(differing[:3])} ({len(differing)} in "
            "all); weights of one architecture were expected: give runs of the same model and "
            "classes"
        )
