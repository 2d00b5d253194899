r"""Averages of weights along a run.

Shapes: tensors keep the shape of the parameter or buffer that they average.

References:
    | Fine-tuning with Very Large Dropout (Zhang & Bottou, 2024): weight averaging along one run
    | https://arxiv.org/abs/2403.00946
"""

from collections.abc import Mapping

from torch import Tensor

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
