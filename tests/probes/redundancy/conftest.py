"""A quick probe and a task of known difficulty that the tests of this folder share."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

Task = tuple[Tensor, Tensor, Tensor, Tensor]


def nearest_mean(train_x: Tensor, train_y: Tensor, test_x: Tensor) -> Tensor:
    """The class whose mean is nearest: no regularisation, blind to the scale of all features."""
    classes = train_y.unique()
    means = torch.stack([train_x[train_y == label].mean(0) for label in classes])
    return classes[torch.cdist(test_x, means).argmin(1)]


@pytest.fixture
def quick_probe() -> Callable[..., Tensor]:
    return nearest_mean


@pytest.fixture
def classes() -> Callable[..., Task]:
    """Gaussian classes: training and test features with labels."""

    def draw(num: int = 400, width: int = 20, num_classes: int = 3, signal: float = 0.5) -> Task:
        means = signal * torch.randn(num_classes, width)
        labels = torch.arange(num) % num_classes
        train, test = (means[labels] + torch.randn(num, width) + 5 for _ in range(2))
        return train, labels, test, labels

    return draw
