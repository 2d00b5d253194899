r"""Fine-tune a network with (very large) dropout on its penultimate features, or from scratch.

    python -m finetuning.train                       # the embedded digits, dropout 0.9
    python -m finetuning.train --model resnet50 --pretrained resnet50.safetensors \
        --data PACS --test_env sketch --drop_rate 0.9 --output runs/sketch

    python -m finetuning.train --tangent --output runs/tangent   # its first-order expansion

The run folder (see `finetuning.run_folder`) holds the weights before, after and at the best
i.i.d. accuracy. A killed run continues with the same command and ends with the same weights.
"""

import logging
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import cross_entropy
from tqdm import tqdm

from core.command_line import run
from core.device import autocast
from core.errors import InputError
from core.loaders import Batch
from finetuning.batches import training_batches
from finetuning.config import TrainConfig, resolve
from finetuning.evaluation import evaluate, summary
from finetuning.linear_probe import start_at_probe
from finetuning.progress import Progress, set_training_mode, start, step_seed
from finetuning.run_folder import RunFolder
from finetuning.setup import Setup, prepare

CHECK_LOSS_EVERY = 10  # reading the loss waits for a GPU, so it is not done at every step

log = logging.getLogger(__name__)


def train(config: TrainConfig) -> Path:
    """Fine-tune as configured and return the run folder.

    Raises:
        InputError: If options, images, checkpoint or output do not fit, before any work is done;
            or if the loss or an update stops being finite.
    """
    config = resolve(config)
    RunFolder.check(config)
    folder = RunFolder(Path(config.output))
    if folder.finished:
        log.info("%s is finished already", config.output)
        folder.finish()  # in case it was killed between its last two files
        return folder.path
    setup = prepare(config)
    if config.head_start == "linear_probe":
        start_at_probe(config, setup)
    folder = RunFolder.open(config, setup.facts, setup.model.state_dict())
    progress = start(config, setup.model)
    saved = folder.load_progress(setup.device)
    if saved is None:
        evaluate_and_save(config, setup, progress, folder)
    else:
        resume(progress, saved, folder)
    loop(config, setup, progress, folder)
    finish(config, progress, folder)
    return folder.path


def resume(progress: Progress, saved: dict[str, Any], folder: RunFolder) -> None:
    """Go on where an interrupted process stopped.

    Raises:
        InputError: If what it saved is damaged.
    """
    try:
        progress.restore(saved)
    except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise folder.damaged_progress(error) from error
    log.info("resuming %s at step %d", folder.path, progress.step)


def loop(config: TrainConfig, setup: Setup, progress: Progress, folder: RunFolder) -> None:
    """All remaining steps, with an evaluation every `eval_every` steps and at the end."""
    assert config.steps is not None and config.eval_every is not None
    batches = training_batches(config, setup, first_step=progress.step + 1)
    bar = tqdm(batches, total=config.steps, initial=progress.step, desc=config.output, unit="step")
    for batch in bar:
        train_step(config, progress, batch)
        is_last = progress.step == config.steps
        is_evaluated = is_last or progress.step % config.eval_every == 0
        # Before an evaluation as well: weights that are no numbers must not become the best.
        if is_evaluated or progress.step % CHECK_LOSS_EVERY == 0:
            check_losses(progress)
        if config.checkpoint_every and progress.step % config.checkpoint_every == 0:
            name = f"step_{progress.step:06d}"
            folder.save_weights(name, progress.model.state_dict(), config, progress.step)
        if is_evaluated:
            bar.set_postfix(evaluate_and_save(config, setup, progress, folder))


def train_step(config: TrainConfig, progress: Progress, batch: Batch) -> None:
    """One step of the optimiser; its randomness depends on the seed and the step alone."""
    images, labels = batch
    if not progress.model.training:  # after an evaluation
        set_training_mode(progress.model, freeze_bn=bool(config.freeze_bn))
    torch.manual_seed(step_seed(config.seed, progress.step + 1))
    with autocast(images.device, config.amp):
        loss = cross_entropy(progress.forward(images), labels)
    progress.optimizer.zero_grad(set_to_none=True)
    progress.scaler.scale(loss).backward()
    optimizer_step(progress)
    progress.scaler.update()
    progress.scheduler.step()
    progress.step += 1
    progress.losses.append(loss.detach())
    if progress.step >= config.average_from:
        for period, average in progress.averages.items():
            if progress.step % period == 0:
                average.update(progress.model.state_dict())


def optimizer_step(progress: Progress) -> None:
    """Move the weights.

    Raises:
        InputError: If the learning rate or the weight decay is larger than any number of the
            weights' type, which PyTorch refuses before there is a loss that could be NaN.
    """
    try:
        progress.scaler.step(progress.optimizer)
    except RuntimeError as error:
        if "without overflow" not in str(error):
            raise
        raise _diverged("the update overflowed", progress.step + 1, progress) from error


def check_losses(progress: Progress) -> None:
    """Stop at the first loss that is not finite.

    Raises:
        InputError: With the step and the learning rate at which it happened.
    """
    recent = torch.stack(progress.losses[-CHECK_LOSS_EVERY:]).cpu()
    if not recent.isfinite().all():
        first = progress.step - len(recent) + 1 + int((~recent.isfinite()).int().argmax())
        found = f"the loss became {recent[~recent.isfinite()][0].item()}"
        raise _diverged(found, first, progress)


def _diverged(found: str, step: int, progress: Progress) -> InputError:
    lr = progress.optimizer.param_groups[0]["lr"]
    return InputError(
        f"{found} at step {step} with learning rate {lr:g}; a finite loss was expected: lower "
        "--lr or --weight_decay and choose another --output"
    )


def evaluate_and_save(
    config: TrainConfig, setup: Setup, progress: Progress, folder: RunFolder
) -> dict[str, str]:
    """Measure accuracies, keep the best weights, and save what resuming needs."""
    accuracies = evaluate(config, setup, progress.forward)
    line = {
        "step": progress.step,
        "lr": progress.optimizer.param_groups[0]["lr"],
        "train_loss": torch.stack(progress.losses).mean().item() if progress.losses else None,
        **summary(accuracies, setup),
    }
    if line["iid_accuracy"] > progress.best_iid:
        progress.best_iid = line["iid_accuracy"]
        folder.save_weights("best", progress.model.state_dict(), config, progress.step)
    progress.losses.clear()
    folder.append_metrics(line)
    folder.save_progress(progress.state())
    shown = ("train_loss", "iid_accuracy", "ood_accuracy")
    return {name: f"{line[name]:.3f}" for name in shown if line[name] is not None}


def finish(config: TrainConfig, progress: Progress, folder: RunFolder) -> None:
    """Write the averages and the final weights, whose presence marks the run as finished."""
    for period, average in progress.averages.items():
        if average.count:
            folder.save_weights(f"average_every_{period}", average.state, config, progress.step)
        else:
            log.warning("--average %d: no such step from --average_from on, no average", period)
    folder.save_weights("final", progress.model.state_dict(), config, progress.step)
    folder.finish()


def main() -> None:
    """Entry point of `python -m finetuning.train`."""
    run(lambda config: log.info("run folder: %s", train(config)), TrainConfig)


if __name__ == "__main__":
    main()
