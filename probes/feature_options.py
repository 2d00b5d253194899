"""Options of the probes that read features."""

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from core.errors import InputError
from core.layers import FEATURES
from core.pooling import Pooling
from core.records import free_name
from probes.options import RecordOptions
from probes.sources import NetworkOptions, example_runs

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class FeatureInputs:
    """Networks, or files of features."""

    checkpoints: tuple[str, ...] = ()
    """Run folders or checkpoint files, compared with each other; the embedded example if none."""
    with_init: bool = True
    """Probe the network before fine-tuning too, the init.safetensors of every run folder."""
    features: tuple[str, ...] = ()
    """Instead of networks, files of N x D features: .npy, .npz or .parquet; same examples."""
    labels: str | None = None
    """Class indices of --features as .npy (default: `labels` in .npz, `label` in .parquet)."""
    feature_envs: str | None = None
    """Environments of --features as .npy (default: `envs` in .npz, `env` in .parquet)."""


@dataclass(frozen=True, kw_only=True)
class FeatureOptions(RecordOptions, NetworkOptions, FeatureInputs):
    """Which features of which images, and where they are kept."""

    layers: tuple[str, ...] = (FEATURES,)
    """`features` (what the classifier reads), `logits`, blocks by name, `blocks` (all of them)."""
    pooling: Pooling = "avg"
    """Blocks are pooled over positions (`avg`), or give their class token (`token`)."""
    samples: int = 0
    """Images per environment and split, drawn at random; 0 takes all."""
    batch_size: int = 64
    """Images that go through the network at once."""
    cache: str | None = None
    """Folder of computed features (default: lazyrich in $XDG_CACHE_HOME or ~/.cache)."""

    def __post_init__(self) -> None:
        self.check_least(workers=0, seed=0, samples=0, batch_size=1)
        if self.image_size is not None:
            self.check_least(image_size=1)
        if self.samples == 1:
            raise InputError("--samples is 1; at least 2 were expected, or 0 for all images")
        if self.features and self.checkpoints:
            raise InputError(
                "--features and --checkpoints were both given; files of features take the "
                "network's place: leave one out"
            )
        if self.features and self.layers != (FEATURES,):
            raise InputError(
                "--layers was given with --features; a file holds one layer: leave --layers out"
            )
        if self.features and self.samples:
            raise InputError(
                "--samples was given with --features; all rows of a file are used: leave it out, "
                "or write fewer rows"
            )
        if not self.features and (self.labels or self.feature_envs):
            raise InputError(
                "--labels and --feature_envs belong to --features, which was not given; images "
                "have their own: leave them out"
            )


Options = TypeVar("Options", bound=FeatureOptions)


def with_example(options: Options) -> Options:
    """The embedded example, where neither networks nor files are named."""
    if options.checkpoints or options.features:
        return options
    log.info("no --checkpoints: probing the embedded example (glyphnet fine-tuned on digits)")
    return replace(options, checkpoints=example_runs())


def with_defaults(options: Options, probe: str) -> Options:
    """The embedded example and an output, where they were left out."""
    options = with_example(options)
    if options.output is not None:
        return options
    return replace(options, output=str(free_name(Path("runs") / probe)))
