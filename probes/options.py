"""Options that all probes of checkpoints share."""

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeVar

from core.command_line import parse_bytes
from core.errors import InputError
from core.records import free_name
from probes.sources import PairOptions, example_runs

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class RecordOptions:
    """Where the record goes, and what computes it."""

    output: str | None = None
    """Record folder to create (default: one named after the probe in runs/, numbered if taken)."""
    dtype: Literal["float32", "float64"] = "float32"
    """Precision of the network; sums over examples and weights are always float64."""
    device: str = "auto"
    """`cpu`, `cuda` or `cuda:1`; `auto` takes a GPU where there is one."""
    workers: int = 0
    """Processes that decode images; 0 does it in the main process."""
    seed: int = 0
    """Seed of nulls and of intervals by resampling."""

    def check_least(self, **least: int) -> None:
        """Refuse options below a number.

        Raises:
            InputError: For the first of them.
        """
        for name, number in least.items():
            if getattr(self, name) < number:
                raise InputError(
                    f"--{name} is {getattr(self, name)}; at least {number} was expected"
                )


@dataclass(frozen=True, kw_only=True)
class ProbeOptions(RecordOptions, PairOptions):
    """Which checkpoints on which images, where the record goes, and what it may cost."""

    memory: str = "2GB"
    """Budget for weights, activations and gradients; examples go through in parts that fit."""

    def __post_init__(self) -> None:
        self.check_least(workers=0, seed=0)
        if self.image_size is not None:
            self.check_least(image_size=1)
        parse_bytes(self.memory)


Options = TypeVar("Options", bound=ProbeOptions)


def with_defaults(config: Options, probe: str) -> Options:
    """The embedded example and an output, where they were left out."""
    if not config.finetuned:
        log.info("no --finetuned: probing the embedded example (glyphnet fine-tuned on digits)")
        config = replace(config, finetuned=example_runs())
    if config.output is None:
        config = replace(config, output=str(free_name(Path("runs") / probe)))
    return config
