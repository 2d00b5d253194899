"""Options of `python -m scripts.linear_study`."""

from dataclasses import dataclass, fields
from typing import Literal

from core.command_line import parse_bytes
from core.errors import InputError
from core.options import DataOptions, ModelOptions
from finetuning.config import TrainConfig
from finetuning.linear.config import LinearConfig


@dataclass(frozen=True, kw_only=True)
class LinearStudyConfig(ModelOptions, DataOptions):
    """Options of the study of linear fine-tuning."""

    output: str = "runs/linear-study"
    """Folder to create, or to go on in if a study with the same options was interrupted."""
    pretrained: str = "glyphnet.rich"
    """Checkpoint file; `glyphnet.plain` or `glyphnet.rich` (embedded); `timm` for timm's weights
    of the model (downloads)."""
    test_env: tuple[str, ...] = ()
    """Environments that are held out, each in turn (default: every one)."""
    seeds: tuple[int, ...] = (0, 1)
    """Seeds; each has its own hold-out, classifier, batches and masks."""
    drop_rates: tuple[float, ...] = (0.0, 0.9)
    """Dropout rates of the comparison; the grid is trained without dropout."""
    batch_size: int = 32
    """Images per training environment and step."""
    lr: float | None = None
    """Learning rate (default: the preset's)."""
    weight_decay: float | None = None
    """Weight decay of ordinary and tangent runs (default: the preset's)."""
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
    """Learning rates of the linear model (1) (default: that of the runs)."""
    linear_layers: tuple[str, ...] = ()
    """Layers that the linear model (1) reads (default: the last three residual blocks)."""
    samples: int = 0
    """Images per environment and split on which decisions are compared; 0 takes all."""
    kernel_train: int = 64
    """Training images that kernel regression is fitted on."""
    grid: bool = True
    """Ask where linearity ends: runs over learning rate, steps and set size, and from scratch."""
    grid_env: str | None = None
    """Environment that the grid holds out (default: the last one that is held out)."""
    lr_factors: tuple[float, ...] = (0.1, 1.0, 3.0)
    """Learning rates of the grid, in units of that of the comparison."""
    step_factors: tuple[float, ...] = (0.25, 1.0)
    """Steps of the grid, in units of those of the comparison."""
    train_fractions: tuple[float, ...] = (0.1, 1.0)
    """Shares of the training images of the grid."""
    jobs: int = 0
    """Runs at a time (default: one a GPU, or else one a core)."""
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
        for name in ("seeds", "drop_rates", "lr_factors", "step_factors", "train_fractions"):
            values = getattr(self, name)
            if not values or len(set(values)) < len(values):
                raise InputError(
                    f"--{name} is {' '.join(map(str, values)) or 'empty'}; at least one value, "
                    "and none twice, was expected"
                )
        for name, least in (("jobs", 0), ("samples", 0), ("kernel_train", 2)):
            if getattr(self, name) < least:
                raise InputError(
                    f"--{name} is {getattr(self, name)}; at least {least} was expected"
                )
        if min(*self.lr_factors, *self.step_factors) <= 0:
            raise InputError("a factor of the grid is not positive; above 0 was expected")
        if self.pretrained == "none":
            raise InputError(
                "--pretrained is none; a study of fine-tuning starts from pretrained weights: the "
                "grid adds runs from scratch itself"
            )
        parse_bytes(self.memory)
        for rate in self.drop_rates:  # which checks the options that they share
            ordinary(self, drop_rate=rate)
        for fraction in self.train_fractions:
            ordinary(self, train_fraction=fraction)
        linear(self)


def ordinary(config: LinearStudyConfig, **own: object) -> TrainConfig:
    """An ordinary run with the study's options, and some of its own."""
    return TrainConfig(**(_shared(config, TrainConfig) | own))  # type: ignore[arg-type]


def linear(config: LinearStudyConfig, **own: object) -> LinearConfig:
    """A linear model (1) with the study's options, and some of its own."""
    shared = _shared(config, LinearConfig)
    shared.pop("weight_decay")  # it has the paper's grid
    lr = config.linear_lr or (config.lr and (config.lr,))
    named = {"lr": lr or None, "layers": config.linear_layers}
    return LinearConfig(**(shared | named | own))  # type: ignore[arg-type]


def _shared(config: LinearStudyConfig, kind: type) -> dict[str, object]:
    names = {f.name for f in fields(kind)} & vars(config).keys() - {"output", "test_env"}
    return {name: getattr(config, name) for name in names}
