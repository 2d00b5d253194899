"""Batches of a training run: a function of the seed and the step, whatever came before.

Shapes: B images a step, B = training environments x batch size.
"""

from collections.abc import Iterator

import numpy as np
import torch
from torch.utils.data import DataLoader

from core.datasets import Key
from core.loaders import Batch, image_loader
from finetuning.config import TrainConfig
from finetuning.setup import Setup


class StepKeys:
    """The images of every step from `first_step` to `steps`, as keys of a data set.

    Each training environment gives `batch_size` images, drawn with replacement as in the paper's
    code; each key carries the seed of its image's augmentation.
    """

    def __init__(self, config: TrainConfig, setup: Setup, first_step: int) -> None:
        assert config.steps is not None
        self.seed, self.batch_size = config.seed, config.batch_size
        self.steps = range(first_step, config.steps + 1)
        self.pools = [
            (list(setup.domains.environments).index(e), i) for e, i in setup.train.items()
        ]

    def __len__(self) -> int:
        return len(self.steps)

    def __iter__(self) -> Iterator[list[Key]]:
        return (self.keys(step) for step in self.steps)

    def keys(self, step: int) -> list[Key]:
        """The keys of one step."""
        generator = np.random.default_rng([self.seed, step])
        return [
            Key(env, int(index), int(draw))
            for env, pool in self.pools
            for index, draw in zip(
                generator.choice(pool, self.batch_size),
                generator.integers(2**63, size=self.batch_size),
                strict=True,
            )
        ]


def training_batches(config: TrainConfig, setup: Setup, first_step: int) -> Iterator[Batch]:
    """Augmented images and labels of every remaining step, on the run's device."""
    assert config.transform is not None
    loader = image_loader(
        setup.domains,
        StepKeys(config, setup, first_step),
        config.transform,
        setup.data_config,
        training=True,
        workers=config.workers,
    )
    return on_device(loader, setup.device, channels_last=config.channels_last)


def on_device(loader: DataLoader, device: torch.device, *, channels_last: bool) -> Iterator[Batch]:
    """Move batches to the device while it still computes on the last one."""
    layout = torch.channels_last if channels_last else torch.preserve_format
    for images, labels in loader:
        yield (
            images.to(device, memory_format=layout, non_blocking=True),
            labels.to(device, non_blocking=True),
        )
