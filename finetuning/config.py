"""What one fine-tuning run is made of: its options and the protocols they default to."""

import json
import math
from dataclasses import asdict, dataclass, fields, replace
from functools import cache
from typing import Literal

from core.errors import InputError
from core.models import classifier, create_model
from core.options import ComputeOptions, DataOptions, ModelOptions
from finetuning.noise import FeatureNoise, check_drop_rate
from finetuning.placement import Placement


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """What a preset decides; every field can be overridden on the command line.

    Attributes:
        optimizer: `sgd` (momentum 0.9) or `adamw`.
        lr: Learning rate.
        weight_decay: Applied to all parameters, as in the paper's code.
        steps: Optimiser steps.
        milestones: Steps at which the learning rate falls by a factor of ten.
        eval_every: Steps between evaluations.
        transform: How images become tensors (`core.transforms`).
        augment_iid: Whether the i.i.d. hold-out is measured on augmented images.
        split_seed: Seed of the hold-out; None re-draws it with the run's seed.
        average: Periods of the weight averages along the run.
    """

    optimizer: Literal["sgd", "adamw"] = "sgd"
    lr: float = 1e-3
    weight_decay: float = 1e-4
    steps: int = 10_001
    milestones: tuple[int, ...] = (5_000, 10_000)
    eval_every: int = 300
    transform: Literal["paper", "timm", "digits"] = "paper"
    augment_iid: bool = False
    split_seed: int | None = None
    average: tuple[int, ...] = ()


PRESETS = {
    # The released code to the letter: one split for all seeds, i.i.d. accuracy on augmented
    # images, a running average of the weights at every step.
    "vld-v1": Protocol(augment_iid=True, split_seed=0, average=(1,)),
    # The same optimisation without these artefacts.
    "fixed": Protocol(),
    # The embedded benchmark.
    "digits": Protocol(lr=1e-2, steps=400, milestones=(300,), eval_every=100, transform="digits"),
}


@dataclass(frozen=True, kw_only=True)
class TrainConfig(ModelOptions, DataOptions, ComputeOptions):
    """Options of `python -m finetuning.train`."""

    output: str = "runs/finetuned"
    """Run folder to create, or to resume if a run with the same options was interrupted."""
    pretrained: str = "glyphnet.rich"
    """Checkpoint file; `glyphnet.plain` or `glyphnet.rich` (embedded); `timm` for timm's weights
    of the model (downloads); `none` to train from scratch."""
    test_env: tuple[str, ...] = ("rotated",)
    """Environments held out to measure accuracy out of distribution; `none` holds out none."""
    preset: Literal["auto", "fixed", "vld-v1", "digits"] = "auto"
    """Protocol that options left out default to; `auto` is `digits` on digits, else `fixed`."""
    drop_rate: float = 0.9
    """Dropout rate on the penultimate features, 0 <= rate < 1; 0 is plain fine-tuning (ERM)."""
    kept_units: int | None = None
    """How many penultimate features are kept on average; sets --drop_rate to 1 - kept / width."""
    noise: FeatureNoise | Literal["dropconnect", "mixout"] = "dropout"
    """Dropout or a rival of the same rate: gaussian, masksembles (fixed masks), block (units in
    groups), batch (a mask for all images), dropconnect (the classifier's weights), mixout (all
    other weights, back to the pretrained ones)."""
    placement: Placement = "head"
    """Where units are dropped: before the classifier, or what stages or blocks return."""
    tied_masks: bool = False
    """Drop the same units at all places of equal width."""
    head_start: Literal["random", "linear_probe"] = "random"
    """Where the classifier begins; a linear probe of the training images is shared by runs with
    one --split_seed, as DiWA wants."""
    tangent: bool = False
    """Train the network's first-order expansion around its start in place of the network."""
    seed: int = 0
    """Seed of the classifier, the batches, the augmentation, the dropout masks and the split."""
    batch_size: int = 32
    """Images per training environment and step, drawn with replacement."""
    optimizer: Literal["sgd", "adamw"] | None = None
    """sgd (momentum 0.9) or adamw (default: the preset's)."""
    lr: float | None = None
    """Learning rate (default: the preset's)."""
    head_lr_factor: float = 1.0
    """Factor on the learning rate of the classifier."""
    weight_decay: float | None = None
    """Weight decay on all parameters (default: the preset's)."""
    steps: int | None = None
    """Optimiser steps (default: the preset's)."""
    milestones: tuple[int, ...] | None = None
    """Steps at which the learning rate falls by ten (default: the preset's)."""
    freeze_bn: bool | None = None
    """Keep BatchNorm on its running statistics (default: yes, unless trained from scratch)."""
    transform: Literal["paper", "timm", "digits"] | None = None
    """The paper's augmentation, timm's for the model, or the digits' (default: the preset's)."""
    image_size: int | None = None
    """Side of the input images in pixels (default: the model's)."""
    augment_iid: bool | None = None
    """Measure i.i.d. accuracy on augmented images (default: the preset's)."""
    train_fraction: float = 1.0
    """Share of the images of every training environment that is trained on, 0 < share <= 1."""
    split_seed: int | None = None
    """Seed of the 20 % hold-out (default: the preset's: fixed to 0, or the run's seed)."""
    eval_every: int | None = None
    """Steps between evaluations; the run can resume from each (default: the preset's)."""
    average: tuple[int, ...] | None = None
    """Periods of uniform weight averages along the run, such as 1 and 300."""
    average_from: int = 300
    """First step that enters the weight averages."""
    checkpoint_every: int | None = None
    """Keep the weights every so many steps."""

    def __post_init__(self) -> None:
        check_drop_rate(self.drop_rate)
        _check_noise(self)
        for name in ("batch_size", "steps", "eval_every", "image_size", "checkpoint_every"):
            _check_positive(name, getattr(self, name))
        for name in ("lr", "head_lr_factor", "train_fraction", "kept_units"):
            _check_positive(name, getattr(self, name))
        for period in self.average or ():
            _check_positive("average", period)
        for name in ("weight_decay", "seed", "split_seed", "workers", "average_from"):
            _check_not_negative(name, getattr(self, name))
        for milestone in self.milestones or ():
            _check_not_negative("milestones", milestone)
        for name in ("seed", "split_seed"):
            _check_seed(name, getattr(self, name))
        if self.train_fraction > 1:
            raise InputError(
                f"--train_fraction is {self.train_fraction}; a share of at most 1 was expected"
            )
        if self.tangent and self.amp != "none":
            raise InputError(
                f"--tangent and --amp {self.amp} were both given; an expansion is computed in "
                "full precision: leave one out"
            )
        if self.tangent and self.compile:
            raise InputError(
                "--tangent and --compile were both given; an expansion cannot be compiled: leave "
                "one out"
            )

    @property
    def from_scratch(self) -> bool:
        """Whether the run starts from random weights."""
        return self.pretrained == "none"


def _check_noise(config: TrainConfig) -> None:
    drops_weights = config.noise in {"dropconnect", "mixout"}
    if drops_weights and (config.placement != "head" or config.kept_units is not None):
        option = "--kept_units" if config.placement == "head" else "--placement"
        raise InputError(
            f"{option} was given with --noise {config.noise}, which drops weights; a noise that "
            "drops units was expected, such as dropout: leave one out"
        )
    if config.tied_masks and config.placement == "head":
        raise InputError(
            "--tied_masks was given with --placement head, a single place; stages or blocks was "
            "expected: leave one out"
        )
    if config.tangent and config.noise == "mixout":
        raise InputError(
            "--tangent and --noise mixout were both given; an expansion moves its weights itself: "
            "leave one out"
        )


def _check_positive(name: str, value: float | None) -> None:
    if value is not None and not 0 < value < math.inf:
        raise InputError(f"--{name} is {value}; a positive number was expected")


def _check_not_negative(name: str, value: float | None) -> None:
    if value is not None and not 0 <= value < math.inf:
        raise InputError(f"--{name} is {value}; zero or a positive number was expected")


def _check_seed(name: str, value: int | None) -> None:
    if value is not None and value >= 2**63:
        raise InputError(f"--{name} is {value}; a number below 2**63 was expected")


def resolve(config: TrainConfig) -> TrainConfig:
    """The same options with everything that was left out filled in.

    Raises:
        InputError: If the features to keep are more than there are, or a rate was given as well.

    Example:
        >>> resolve(TrainConfig(seed=3)).split_seed, resolve(TrainConfig(preset="vld-v1")).steps
        (3, 10001)
    """
    automatic = "digits" if config.data == "digits" else "fixed"
    preset = automatic if config.preset == "auto" else config.preset
    protocol = asdict(PRESETS[preset])
    if protocol["split_seed"] is None:
        protocol["split_seed"] = config.seed
    missing = {f.name for f in fields(config) if getattr(config, f.name) is None}
    defaults = {name: value for name, value in protocol.items() if name in missing}
    if config.freeze_bn is None:
        defaults["freeze_bn"] = not config.from_scratch
    if config.kept_units is not None:
        defaults["drop_rate"] = _rate_keeping(config.kept_units, config)
    held_out = () if config.test_env == ("none",) else config.test_env
    return replace(config, preset=preset, test_env=held_out, **defaults)


def _rate_keeping(kept: int, config: TrainConfig) -> float:
    width = _num_features(config.model, json.dumps(config.model_kwargs or {}, sort_keys=True))
    rate = 1 - kept / width
    if rate < 0:
        raise InputError(
            f"--kept_units is {kept}; {config.model} has {width} penultimate features: keep at "
            "most as many"
        )
    if config.drop_rate not in {TrainConfig.drop_rate, rate}:
        raise InputError(
            f"--drop_rate is {config.drop_rate} and --kept_units {kept} of {width}, which is a "
            f"rate of {rate:g}; one of them was expected: leave the other out"
        )
    return rate


@cache
def _num_features(model: str, model_kwargs: str) -> int:
    """Width of the penultimate representation; a sweep asks for it at every run."""
    network = create_model(model, 2, **json.loads(model_kwargs))
    return classifier(network).weight.shape[1]
