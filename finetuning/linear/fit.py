r"""Fits of the linear model (1): the ordinary run's images and masks, on features kept in memory.

Shapes: N images of an environment, L blocks, D channels, C classes, B images a step.
"""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.optim import SGD
from torch.optim.lr_scheduler import MultiStepLR
from tqdm import tqdm

from core.datasets import Key
from core.errors import InputError
from finetuning.batches import StepKeys
from finetuning.config import TrainConfig
from finetuning.evaluation import summary
from finetuning.linear.model import LinearModel
from finetuning.progress import step_seed
from finetuning.setup import Setup

State = dict[str, Tensor]


@dataclass(frozen=True)
class Inputs:
    """What the model reads and should say, for every image.

    Attributes:
        blocks: Of every image of every environment, in the order of the environment.
        labels: Their classes.
    """

    blocks: dict[str, Float[Tensor, "N L D"]]
    labels: dict[str, Int64[Tensor, " N"]]

    def batch(self, keys: Sequence[Key]) -> tuple[Float[Tensor, "B L D"], Int64[Tensor, " B"]]:
        """The images of one step; they are not augmented."""
        names = list(self.blocks)
        order = dict.fromkeys(key.env for key in keys)
        rows = {env: [key.image for key in keys if key.env == env] for env in order}
        return (
            torch.cat([self.blocks[names[env]][rows[env]] for env in order]),
            torch.cat([self.labels[names[env]][rows[env]] for env in order]),
        )


@dataclass
class Fit:
    """One cell of the grid, fitted.

    Attributes:
        metrics: One line an evaluation, as in the folder of an ordinary run.
        best: The weights at the best i.i.d. accuracy, the first evaluation that reached it.
        final: The weights after the last step.
    """

    metrics: list[dict[str, Any]] = field(default_factory=list)
    best: State = field(default_factory=dict)
    final: State = field(default_factory=dict)

    @property
    def best_iid(self) -> float:
        """The best i.i.d. accuracy of any evaluation."""
        return max(line["iid_accuracy"] for line in self.metrics)

    @property
    def final_iid(self) -> float:
        """The i.i.d. accuracy after the last step."""
        return self.metrics[-1]["iid_accuracy"]


def fit(cell: TrainConfig, setup: Setup, inputs: Inputs, model: LinearModel) -> Fit:
    """Train a copy of `model` by SGD with momentum 0.9.

    Args:
        cell: The ordinary run's options, with the learning rate and decay of this fit.
        setup: The split.
        inputs: Features and labels.
        model: The model before the first step.

    Raises:
        InputError: If the loss stops being finite.
    """
    assert cell.lr is not None and cell.steps is not None and cell.eval_every is not None
    model, found = copy.deepcopy(model), Fit()
    decay = cell.weight_decay or 0.0
    optimizer = SGD(model.parameters(), cell.lr, momentum=0.9, weight_decay=decay)
    scheduler = MultiStepLR(optimizer, list(cell.milestones or ()), gamma=0.1)
    _evaluate(found, 0, cell, setup, inputs, model)
    title = f"{cell.output} (lr {cell.lr:g}, decay {decay:g})"
    for step, keys in enumerate(tqdm(StepKeys(cell, setup, 1), title, unit="step"), start=1):
        loss = _step(model.train(), optimizer, inputs.batch(keys), step_seed(cell.seed, step))
        scheduler.step()
        if step % cell.eval_every == 0 or step == cell.steps:
            _check_finite(loss, step, cell)
            _evaluate(found, step, cell, setup, inputs, model)
    found.final = _state(model)
    return found


def _step(
    model: LinearModel, optimizer: SGD, batch: tuple[Tensor, Tensor], seed: int
) -> Float[Tensor, ""]:
    x, y = batch
    torch.manual_seed(seed)  # the masks of the ordinary run's step
    loss = cross_entropy(model(x), y)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    return loss.detach()


def _check_finite(loss: Tensor, step: int, cell: TrainConfig) -> None:
    if not loss.isfinite():
        raise InputError(
            f"the loss became {loss.item()} by step {step} with learning rate {cell.lr:g}; a "
            "finite loss was expected: lower --lr, or choose --norm standardise"
        )


@torch.no_grad()
def predict(model: LinearModel, inputs: Inputs) -> dict[str, Float[Tensor, "N C"]]:
    """The logits of every image, by environment."""
    model.eval()
    return {env: model(blocks) for env, blocks in inputs.blocks.items()}


def _evaluate(
    found: Fit, step: int, cell: TrainConfig, setup: Setup, inputs: Inputs, model: LinearModel
) -> None:
    logits = predict(model, inputs)
    line = {"step": step, "lr": cell.lr, "weight_decay": cell.weight_decay}
    line |= _accuracies(logits, setup, inputs.labels)
    if not found.metrics or line["iid_accuracy"] > found.best_iid:
        found.best = _state(model)
    found.metrics.append(line)


def _accuracies(
    logits: Mapping[str, Tensor], setup: Setup, labels: Mapping[str, Tensor]
) -> dict[str, Any]:
    right = {env: rows.argmax(1).eq(labels[env]).cpu().numpy() for env, rows in logits.items()}
    for env in setup.train:
        right[env] = right[env][setup.held_out[env]]
    return summary(right, setup)


def _state(model: LinearModel) -> State:
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}
