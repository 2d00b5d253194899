"""Accuracy of a network in every environment: inside and outside the training distribution."""

import statistics
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool
from torch.nn import Module

from core.device import autocast
from core.loaders import InOrder, image_loader
from finetuning.batches import on_device
from finetuning.config import TrainConfig
from finetuning.setup import Setup

EVALUATION_BATCH = 128
Correct = Bool[np.ndarray, " N"]


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


@torch.no_grad()
def _correct(
    config: TrainConfig, setup: Setup, forward: Module, name: str, *, is_training: bool
) -> Correct:
    assert config.transform is not None
    environment = setup.domains.environments[name]
    index = list(setup.domains.environments).index(name)
    images = setup.held_out[name] if is_training else np.arange(len(environment))
    loader = image_loader(
        setup.domains,
        InOrder(index, images, EVALUATION_BATCH),
        config.transform,
        setup.data_config,
        training=bool(config.augment_iid) and is_training,
        workers=config.workers,
    )
    right = []
    for x, y in on_device(loader, setup.device, channels_last=config.channels_last):
        with autocast(setup.device, config.amp):
            right.append(forward(x).argmax(1).eq(y).cpu())
    return torch.cat(right).numpy()


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
