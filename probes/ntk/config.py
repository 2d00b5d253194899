"""Options of the kernel probe."""

from dataclasses import dataclass
from typing import Literal

from core.command_line import parse_bytes
from core.errors import InputError
from probes.sources import PairOptions


@dataclass(frozen=True, kw_only=True)
class NtkConfig(PairOptions):
    """Options of `python -m probes.ntk`."""

    output: str | None = None
    """Record folder to create (default: runs/ntk, or the first free number after it)."""
    samples: int = 64
    """Images per environment."""
    layer: Literal["logits", "features"] = "logits"
    """Outputs whose kernel is computed: the logits, or what the classifier reads."""
    head: Literal["finetuned", "own"] = "finetuned"
    """Classifier at the pretrained end: the fine-tuned one, or the run's own initial one."""
    checkpoints: int = 8
    """Intermediate checkpoints of a run folder that the velocity looks at, at most."""
    draws: int = 1
    """Random displacements drawn as the null of the kernel distance."""
    permutations: int = 200
    """Permutations of the labels drawn as the null of the label alignment."""
    memory: str = "2GB"
    """Budget for weights, activations and gradients; the kernel is computed in tiles that fit."""
    dtype: Literal["float32", "float64"] = "float32"
    """Precision of the network; kernels are summed, and all else computed, in float64."""
    device: str = "auto"
    """`cpu`, `cuda` or `cuda:1`; `auto` takes a GPU where there is one."""
    workers: int = 0
    """Processes that decode images; 0 does it in the main process."""
    seed: int = 0
    """Seed of the nulls and of the jackknife's groups."""

    def __post_init__(self) -> None:
        for name, least in (("samples", 2), ("draws", 1), ("permutations", 1)):
            if getattr(self, name) < least:
                raise InputError(
                    f"--{name} is {getattr(self, name)}; at least {least} was expected"
                )
        for name in ("checkpoints", "workers", "seed"):
            if getattr(self, name) < 0:
                raise InputError(
                    f"--{name} is {getattr(self, name)}; no negative number was expected"
                )
        if self.image_size is not None and self.image_size < 1:
            raise InputError(f"--image_size is {self.image_size}; a positive one was expected")
        parse_bytes(self.memory)
