r"""Images a second of the training loop, beside a bare loop over the same batches in memory.

    scripts/bench training
    scripts/bench training --data PACS --test_env sketch --model resnet50 --pretrained none \
        --device cuda --workers 16 --amp bf16 --channels_last --steps 200

Options are those of `finetuning.train`. What the loop takes longer than the bare one, it waits for
images (with `--workers`, for the processes to start as well) and keeps its books. Repetitions
alternate, so that a drifting machine hits both sides.
"""

import statistics
from collections.abc import Callable
from dataclasses import dataclass

from torch.nn.functional import cross_entropy

from core.command_line import run
from core.device import autocast
from core.loaders import Batch
from finetuning.batches import training_batches
from finetuning.config import TrainConfig, resolve
from finetuning.progress import Progress, set_training_mode, start
from finetuning.setup import Setup, prepare
from finetuning.train import CHECK_LOSS_EVERY, check_losses, train_step
from scripts.timing import alternating, described


@dataclass(frozen=True, kw_only=True)
class TrainingBenchConfig(TrainConfig):
    """Options of the benchmark."""

    drop_rate: float = 0.0
    """Dropout rate on the penultimate features."""
    steps: int | None = 60
    """Training steps of each repetition, whose batches are held in memory at once."""
    repeats: int = 5
    """Repetitions of each side."""


def bench(config: TrainingBenchConfig) -> None:
    """Measure and print."""
    settled = resolve(config)
    setup = prepare(settled)
    batches = list(training_batches(settled, setup, first_step=1))
    ours = whole_loop(settled, setup, start(settled, setup.model))
    bare = bare_loop(settled, start(settled, prepare(settled).model), batches)
    found = alternating(bare, ours, config.repeats, setup.device)
    num = sum(len(labels) for _, labels in batches)
    print(f"training throughput / bare loop: {described([b / o for b, o in found])}")
    waiting = statistics.median(1 - b / o for b, o in found)
    per_second = [num / statistics.median(times) for times in zip(*found, strict=True)]
    print(f"images a second: {per_second[1]:.0f}, {per_second[0]:.0f} by the bare loop")
    print(f"share of the time not spent on the network: {waiting:.1%}", flush=True)


def whole_loop(config: TrainConfig, setup: Setup, progress: Progress) -> Callable[[], None]:
    """The loop of `finetuning.train`, without evaluations."""

    def act() -> None:
        progress.step = 0
        for batch in training_batches(config, setup, first_step=1):
            train_step(config, progress, batch)
            if progress.step % CHECK_LOSS_EVERY == 0:
                check_losses(progress)
        progress.losses.clear()

    return act


def bare_loop(config: TrainConfig, progress: Progress, batches: list[Batch]) -> Callable[[], None]:
    """What any loop does: forward, backward, a step of the optimiser."""

    def act() -> None:
        set_training_mode(progress.model, freeze_bn=bool(config.freeze_bn))
        for images, labels in batches:
            with autocast(images.device, config.amp):
                loss = cross_entropy(progress.forward(images), labels)
            progress.optimizer.zero_grad()
            progress.scaler.scale(loss).backward()
            progress.scaler.step(progress.optimizer)
            progress.scaler.update()

    return act


if __name__ == "__main__":
    run(bench, TrainingBenchConfig)
