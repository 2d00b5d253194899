"""Options of `python -m finetuning.linear`."""

from dataclasses import dataclass, fields, replace
from typing import Literal

from core.errors import InputError
from core.options import DataOptions, ModelOptions
from core.pooling import Pooling
from finetuning.config import TrainConfig, resolve
from finetuning.linear.model import Inputs, Norm


@dataclass(frozen=True, kw_only=True)
class LinearConfig(ModelOptions, DataOptions):
    """Options of `python -m finetuning.linear`."""

    output: str = "runs/linear"
    """Folder to create."""
    pretrained: str = "glyphnet.rich"
    """Checkpoint file, an embedded one, `timm`, or `none` for random features."""
    test_env: tuple[str, ...] = ("rotated",)
    """Environments held out to measure accuracy out of distribution; `none` holds out none."""
    preset: Literal["auto", "fixed", "vld-v1", "digits"] = "auto"
    """Protocol that options left out default to, as in finetuning.train."""
    linear_blocks: int = 3
    """How many of the last residual blocks are read; 3, as in the paper, or all of fewer."""
    layers: tuple[str, ...] = ()
    """Layers to read in their place, by name; `features` is the penultimate representation."""
    inputs: Inputs = "outputs"
    """Block outputs (as the released code has it), or residual increments (as the theory has)."""
    norm: Norm = "none"
    """`none` (as the released code runs), `batchnorm` (as it says), or `standardise`."""
    pooling: Pooling = "avg"
    """How blocks become vectors: the mean over positions, or the class `token` of a ViT."""
    drop_rate: float = 0.9
    """Dropout rate on the adapted representation, 0 <= rate < 1."""
    seed: int = 0
    """Seed of the initial weights, the batches, the dropout masks and the split."""
    batch_size: int = 32
    """Images per training environment and step, drawn with replacement."""
    lr: tuple[float, ...] | None = None
    """Learning rates; each is tried with each weight decay (default: the preset's)."""
    weight_decay: tuple[float, ...] = (1e-2, 5e-3)
    """Weight decays on all parameters; these are the paper's."""
    steps: int | None = None
    """Optimiser steps (default: the preset's)."""
    milestones: tuple[int, ...] | None = None
    """Steps at which the learning rate falls by ten (default: the preset's)."""
    transform: Literal["paper", "timm", "digits"] | None = None
    """How images become tensors, without augmentation (default: the preset's)."""
    image_size: int | None = None
    """Side of the input images in pixels (default: the model's)."""
    train_fraction: float = 1.0
    """Share of the images of every training environment that is trained on."""
    split_seed: int | None = None
    """Seed of the 20 % hold-out (default: the preset's: fixed to 0, or the run's seed)."""
    eval_every: int | None = None
    """Steps between evaluations (default: the preset's)."""
    cache: str | None = None
    """Folder that keeps the features (default: lazyrich in the user's cache folder)."""
    device: str = "auto"
    """`cpu`, `cuda`, `cuda:1`, `mps`; `auto` takes a GPU where there is one."""
    workers: int = 0
    """Processes that decode images; 0 does it in the main process."""

    def __post_init__(self) -> None:
        if self.linear_blocks < 1:
            raise InputError(f"--linear_blocks is {self.linear_blocks}; at least 1 was expected")
        if not self.weight_decay or self.lr == ():
            raise InputError("--lr or --weight_decay is empty; at least one value was expected")
        for lr, decay in self.cells() or [(None, d) for d in self.weight_decay]:
            training_config(self, lr=lr, weight_decay=decay)  # which checks its values

    def cells(self) -> list[tuple[float, float]]:
        """Learning rate and weight decay of every fit."""
        return [(lr, decay) for lr in self.lr or () for decay in self.weight_decay]


def training_config(config: LinearConfig, **changes: float | None) -> TrainConfig:
    """The ordinary run of the same images, split, seed and protocol."""
    own = {f.name for f in fields(TrainConfig)} - {"lr", "weight_decay"}
    shared = {f.name: getattr(config, f.name) for f in fields(config) if f.name in own}
    return TrainConfig(**shared, **changes)  # type: ignore[arg-type]


def resolve_linear(config: LinearConfig) -> LinearConfig:
    """The same options with everything that was left out filled in.

    Example:
        >>> resolve_linear(LinearConfig()).cells()
        [(0.01, 0.01), (0.01, 0.005)]
    """
    ordinary = resolve(training_config(config))
    assert ordinary.lr is not None
    names = {f.name for f in fields(config)} - {"lr", "weight_decay"}
    filled = {n: v for n, v in vars(ordinary).items() if n in names}
    return replace(config, **filled, lr=config.lr or (ordinary.lr,))  # type: ignore[arg-type]
