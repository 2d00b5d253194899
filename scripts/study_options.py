"""Options that the studies share, and the runs that follow from them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Literal, TypeVar

import joblib
import torch

from core.command_line import parse_bytes
from core.device import select_device
from core.errors import InputError
from core.layers import chosen_layers
from core.models import create_model
from core.options import DataOptions, ModelOptions
from finetuning.config import TrainConfig
from finetuning.linear.config import LinearConfig
from finetuning.shared import shared_domains
from finetuning.sweep import Backend, BackendOptions, backend_of

# Which may change when a study is resumed: where it lies and runs, and what it may take there.
NOT_COMPARED = ("output", "backend", "jobs", "scheduler", "slurm", "workers", "cache")


@dataclass(frozen=True, kw_only=True)
class StudyOptions(BackendOptions, ModelOptions, DataOptions):
    """Which network on which images, how a run is trained, and what it may cost."""

    pretrained: str = "glyphnet.rich"
    """Checkpoint file; `glyphnet.plain` or `glyphnet.rich` (embedded); `timm` for timm's weights
    of the model (downloads)."""
    test_env: tuple[str, ...] = ()
    """Environments that are held out, each in turn (default: every one)."""
    batch_size: int = 32
    """Images per training environment and step."""
    optimizer: Literal["sgd", "adamw"] | None = None
    """sgd (momentum 0.9) or adamw (default: the preset's)."""
    lr: float | None = None
    """Learning rate (default: the preset's)."""
    weight_decay: float | None = None
    """Weight decay (default: the preset's)."""
    steps: int | None = None
    """Optimiser steps (default: the preset's)."""
    milestones: tuple[int, ...] | None = None
    """Steps at which the learning rate falls by ten (default: the preset's)."""
    eval_every: int | None = None
    """Steps between evaluations (default: the preset's)."""
    transform: Literal["paper", "timm", "digits"] | None = None
    """How images become tensors (default: the preset's)."""
    image_size: int | None = None
    """Side of the input images in pixels (default: the model's)."""
    linear_lr: tuple[float, ...] | None = None
    """Learning rates of the linear model (1), which SGD trains (default: that of the runs, or the
    preset's where adamw trains them)."""
    linear_layers: tuple[str, ...] = ()
    """Layers that the linear model (1) reads (default: the last three residual blocks)."""
    jobs: int = 0
    """Runs and measurements at a time (default: one a GPU, one on a GPU that --device names, or
    else one a core; on a cluster one a worker; 100 of SLURM)."""
    memory: str = "2GB"
    """Budget of every probe for weights, activations, gradients and kernels."""
    cache: str | None = None
    """Folder that keeps features (default: lazyrich in the user's cache folder)."""
    device: str = "auto"
    """`cpu`, `cuda`, `cuda:1`; `auto` takes a GPU where there is one."""
    workers: int = 0
    """Processes that decode images for each run; 0 does it in the run's own."""
    channels_last: bool = False
    """Store activations channels last (faster convolutions on most GPUs and some CPUs)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.backend == "ray" and ":" in self.device:
            raise InputError(
                f"--device is {self.device} and --backend ray, which gives every task a GPU of "
                "its own; auto, cuda or cpu was expected: leave --device out"
            )
        if self.pretrained == "none":
            raise InputError(
                "--pretrained is none; a study of fine-tuning starts from pretrained weights, and "
                "adds runs from scratch itself"
            )
        if self.test_env:
            self.check_values("test_env")
        parse_bytes(self.memory)
        ordinary(self)
        linear(self)

    def check_values(self, *names: str) -> None:
        """Refuse lists of values that are empty or name one twice.

        Raises:
            InputError: For the first of them.
        """
        for name in names:
            values = getattr(self, name)
            if not values or len(set(values)) < len(values):
                raise InputError(
                    f"--{name} is {' '.join(map(str, values)) or 'empty'}; at least one value, "
                    "and none twice, was expected"
                )


def ordinary(config: StudyOptions, **own: object) -> TrainConfig:
    """An ordinary run with the study's options, and some of its own."""
    return TrainConfig(**(_shared(config, TrainConfig) | own))  # type: ignore[arg-type]


def linear(config: StudyOptions, **own: object) -> LinearConfig:
    """A linear model (1) with the study's options, and some of its own."""
    shared = _shared(config, LinearConfig)
    shared.pop("weight_decay", None)  # it has the paper's grid
    of_runs = (config.lr,) if config.lr and config.optimizer != "adamw" else None
    named = {"lr": config.linear_lr or of_runs, "layers": config.linear_layers}
    return LinearConfig(**(shared | named | own))  # type: ignore[arg-type]


def _shared(config: StudyOptions, kind: type) -> dict[str, object]:
    studied = {f.name for f in fields(config)} - {"output", "test_env"}
    names = {f.name for f in fields(kind)} & studied
    found = {name: getattr(config, name) for name in names}
    return {name: value for name, value in found.items() if value is not None}


def seeds_by_environment(seeds: Sequence[int], envs: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """The seeds that were asked for in the first environment, as many further ones in the others.

    A seed used in two environments would have the same classifier, hold-out and masks in both, so
    that what it does in one may be what it does in the other: with seeds of their own,
    environments are independent draws.

    Example:
        >>> seeds_by_environment((0, 2), ("ink", "photo"))
        {'ink': (0, 2), 'photo': (3, 5)}
    """
    apart = max(seeds) + 1
    return {env: tuple(s + i * apart for s in seeds) for i, env in enumerate(envs)}


def held_out(config: StudyOptions) -> tuple[str, ...]:
    """The environments that are held out, each in turn.

    Raises:
        InputError: If there is no such environment, or none beside it to train on.
    """
    domains = shared_domains(config.data, config.envs, skip_unreadable=config.skip_unreadable)
    known = list(domains.environments)
    asked = config.test_env or tuple(known)
    for name in asked:
        if name not in known:
            raise InputError(
                f"environment '{name}' is not in '{config.data}'; its environments are "
                f"{', '.join(known)}: choose among them"
            )
    if len(known) < 2:
        raise InputError(
            f"'{config.data}' has one environment, {known[0]}; at least two were expected, one to "
            "hold out and one to train on"
        )
    return asked


Options = TypeVar("Options", bound=StudyOptions)


def check_layers(config: StudyOptions) -> None:
    """Refuse layers for model (1) that the network does not have, before anything is trained.

    Raises:
        InputError: If there is one.
    """
    if config.linear_layers:
        model = create_model(config.model, 2, **(config.model_kwargs or {}))
        chosen_layers(model, config.linear_layers)


def run_and_report(study: Callable[[Options, Backend], Path], config: Options) -> None:
    """Run a study where its options say, and print where its report is.

    Raises:
        InputError: If there is no such device or backend.
    """
    jobs = config.jobs or (jobs_on(config.device) if config.is_here else 0)
    on_gpus = config.device != "cpu"
    with backend_of(replace(config, jobs=jobs), on_gpus=on_gpus) as backend:
        pdf = study(config, backend)
    print(f"report: {pdf}")


def jobs_on(device: str) -> int:
    """Runs at a time: one a GPU where runs may choose theirs, one on a named GPU, one a core.

    Raises:
        InputError: If this machine has no such device.

    Example:
        >>> jobs_on("cpu") == joblib.cpu_count()
        True
    """
    kind = select_device(device).type
    if kind == "cpu":
        return joblib.cpu_count()
    return torch.cuda.device_count() if kind == "cuda" and device in {"auto", "cuda"} else 1
