"""Everything that changes from step to step of a run, and how it starts."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import Module
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.lr_scheduler import MultiStepLR

from core.models import classifier
from finetuning.averaging import RunningAverage
from finetuning.config import TrainConfig
from finetuning.noise import feature_noise
from finetuning.placement import insert_noise
from finetuning.tangent import TangentModel
from finetuning.weight_noise import Mixout, insert_dropconnect


@dataclass
class Progress:
    """Network, optimiser, schedule, averages of weights, and where the run is."""

    model: Module
    forward: Module
    optimizer: Optimizer
    scheduler: MultiStepLR
    scaler: torch.amp.GradScaler  # type: ignore[name-defined]
    averages: dict[int, RunningAverage]
    step: int = 0
    best_iid: float = -1.0
    losses: list[Tensor] = field(default_factory=list)

    def state(self) -> dict[str, Any]:
        """What a later process needs to go on from here."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scheduler": self.scheduler.state_dict(),
            "scaler": self.scaler.state_dict(),
            "averages": {k: (a.count, a.state) for k, a in self.averages.items()},
            "step": self.step,
            "best_iid": self.best_iid,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go back to where `state` was taken."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])
        self.scaler.load_state_dict(state["scaler"])
        for k, (count, average) in state["averages"].items():
            self.averages[k] = RunningAverage(average, count)
        self.step, self.best_iid = state["step"], state["best_iid"]


def start(config: TrainConfig, model: Module) -> Progress:
    """Optimiser, schedule and noise around a model, before the first step."""
    device = next(model.parameters()).device
    _insert_noise(config, model)
    set_training_mode(model, freeze_bn=bool(config.freeze_bn))
    optimizer = build_optimizer(config, model)
    scheduler = MultiStepLR(optimizer, list(config.milestones or ()), gamma=0.1)
    # Does nothing without gradients; fp16 may skip the first real one, and the scheduler warn.
    optimizer.step()
    return Progress(
        model=model,
        forward=_forward(config, model),
        optimizer=optimizer,
        scheduler=scheduler,
        scaler=torch.amp.GradScaler(device.type, enabled=config.amp == "fp16"),  # type: ignore[attr-defined]
        averages={k: RunningAverage() for k in config.average or ()},
    )


def _insert_noise(config: TrainConfig, model: Module) -> None:
    if config.noise == "dropconnect":
        insert_dropconnect(model, config.drop_rate)
    elif config.noise != "mixout":  # which goes around the network
        noise = feature_noise(config.noise, config.drop_rate, seed=config.seed)
        insert_noise(model, noise, config.placement, tied=config.tied_masks)


def _forward(config: TrainConfig, model: Module) -> Module:
    """What computes the logits: the network, compiled or not, or its tangent model."""
    if config.tangent:
        return TangentModel(model)
    if config.noise == "mixout":
        model = Mixout(model, config.drop_rate)
    if not config.compile:
        return model
    # What was compiled for an earlier run is used again, wherever that run had its noise.
    torch.compiler.reset()
    return torch.compile(model)  # type: ignore[return-value]


def build_optimizer(config: TrainConfig, model: Module) -> Optimizer:
    """SGD with momentum 0.9 or AdamW; the classifier has its own learning rate."""
    assert config.lr is not None and config.weight_decay is not None
    head = {id(parameter) for parameter in classifier(model).parameters()}
    groups = [
        {"params": [p for p in model.parameters() if id(p) not in head], "lr": config.lr},
        {
            "params": [p for p in model.parameters() if id(p) in head],
            "lr": config.lr * config.head_lr_factor,
        },
    ]
    if config.optimizer == "adamw":
        return AdamW(groups, weight_decay=config.weight_decay)
    return SGD(groups, momentum=0.9, weight_decay=config.weight_decay)


def set_training_mode(model: Module, *, freeze_bn: bool) -> None:
    """Training mode; frozen BatchNorm layers stay on their running statistics."""
    model.train()
    if freeze_bn:
        for module in model.modules():
            if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
                module.eval()


def step_seed(seed: int, step: int) -> int:
    """One seed per run and step, so that a resumed run draws the same dropout masks."""
    return int(np.random.SeedSequence([seed, step]).generate_state(1, np.uint64)[0])
