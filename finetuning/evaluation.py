"""Accuracy of a network in every environment: inside and outside the training distribution."""

import statistics
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn import Module
from torch.nn.functional import cross_entropy
from torch.optim.swa_utils import update_bn

from core.datasets import Key
from core.device import autocast
from core.loaders import InOrder, image_loader
from finetuning.batches import on_device, training_batches
from finetuning.config import TrainConfig
from finetuning.setup import Setup

EVALUATION_BATCH = 128
STATISTICS_BATCHES = 100
Correct = Bool[np.ndarray, " N"]
T = TypeVar("T")


def evaluate(config: TrainConfig, setup: Setup, forward: Module) -> dict[str, Correct]:
    """Whether each image is classified rightly, by environment.

    Of a training environment only the held-out images are looked at, of a held-out environment
    all of them. Under `augment_iid` the former pass through the training augmentation.
    """
    forward.eval()
    return {
        name: _correct(config, setup, forward, name, is_training=name in setup.train)
        for name in setup.domains.environments
    }


def _correct(
    config: TrainConfig, setup: Setup, forward: Module, name: str, *, is_training: bool
) -> Correct:
    augmented = bool(config.augment_iid) and is_training
    return torch.cat(
        [
            logits.argmax(1).eq(labels).cpu()
            for logits, labels in outputs(config, setup, forward, name, augmented=augmented)
        ]
    ).numpy()


def outputs(
    config: TrainConfig,
    setup: Setup,
    forward: Callable[[Float[Tensor, "B ..."]], T],
    name: str,
    *,
    augmented: bool = False,
    images: Int64[np.ndarray, " N"] | None = None,
    draw: int = 0,
) -> Iterator[tuple[T, Int64[Tensor, " B"]]]:
    """What a function returns for the images of an environment, batch by batch, with the labels.

    Args:
        config: The run.
        setup: Its images.
        forward: The network, or any function of a batch of images.
        name: The environment.
        augmented: Whether the images pass through the training augmentation.
        images: Which images; by default the held-out ones of a training environment, all others.
        draw: Another number, another augmentation.
    """
    assert config.transform is not None
    if images is None:
        everything = np.arange(len(setup.domains.environments[name]))
        images = setup.held_out[name] if name in setup.train else everything
    index = list(setup.domains.environments).index(name)
    loader = image_loader(
        setup.domains,
        _Drawn(InOrder(index, images, EVALUATION_BATCH), draw * len(images)),
        config.transform,
        setup.data_config,
        training=augmented,
        workers=config.workers,
    )
    for x, y in on_device(loader, setup.device, channels_last=config.channels_last):
        with torch.no_grad(), autocast(setup.device, config.amp):
            found = forward(x)
        yield found, y


class _Drawn:
    """The same images with other seeds of their augmentation."""

    def __init__(self, batches: InOrder, first: int) -> None:
        self.batches, self.first = batches, first

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[Key]]:
        for keys in self.batches:
            yield [key._replace(seed=key.seed + self.first) for key in keys]


def summary(correct: dict[str, Correct], setup: Setup) -> dict[str, Any]:
    """Accuracies as the run's metrics hold them.

    `iid_accuracy` is the unweighted mean over the held-out parts of the training environments,
    which selects the best step as in DomainBed; `ood_accuracy` the mean over all images of each
    held-out environment; `ood_in_accuracy` leaves out their 20 %, which is DomainBed's number.
    """
    iid = {name: float(correct[name].mean()) for name in setup.train}
    ood = {name: float(c.mean()) for name, c in correct.items() if name not in setup.train}
    inside = {name: float(np.delete(correct[name], setup.held_out[name]).mean()) for name in ood}
    return {
        "iid_accuracy": statistics.fmean(iid.values()),
        "ood_accuracy": statistics.fmean(ood.values()) if ood else None,
        "ood_in_accuracy": statistics.fmean(inside.values()) if inside else None,
        "accuracy": {**iid, **ood},
    }


def held_out_loss(config: TrainConfig, setup: Setup, forward: Module) -> float:
    """Cross-entropy on the held-out images, un-augmented: its mean over training environments."""
    forward.eval()
    losses = []
    for name in setup.train:
        batches = outputs(config, setup, forward, name)
        each = [cross_entropy(f, y, reduction="none") for f, y in batches]
        losses.append(torch.cat(each).mean().item())
    return statistics.fmean(losses)


def estimate_statistics(config: TrainConfig, setup: Setup, model: Module) -> None:
    """BatchNorm statistics of the weights as they are now, from batches of the run.

    Does nothing where the run kept them frozen: then they are the pretrained network's.
    """
    if not config.freeze_bn:
        batches = training_batches(replace(config, steps=STATISTICS_BATCHES), setup, first_step=1)
        update_bn(batches, model)
