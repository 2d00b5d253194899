"""Options of the linearity probe."""

from dataclasses import dataclass
from typing import Literal

from core.command_line import parse_bytes
from core.errors import InputError
from probes.sources import PairOptions


@dataclass(frozen=True, kw_only=True)
class LinearityConfig(PairOptions):
    """Options of `python -m probes.linearity`."""

    output: str | None = None
    """Record folder to create (default: runs/linearity, or the first free number after it)."""
    samples: int = 128
    """Images per environment for the curves along the path."""
    detail_samples: int = 32
    """Images per environment for curvature, blocks and nulls, which cost more."""
    alphas: tuple[float, ...] = (0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1.0, 1.25, 1.5)
    """Positions on the path: 0 is pretrained, 1 fine-tuned, more is beyond."""
    draws: int = 2
    """Random and permuted displacements drawn as nulls."""
    memory: str = "2GB"
    """Budget for weights and activations; examples are streamed in blocks that fit."""
    dtype: Literal["float32", "float64"] = "float32"
    """Precision of the network; sums over examples are always float64."""
    device: str = "auto"
    """`cpu`, `cuda` or `cuda:1`; `auto` takes a GPU where there is one."""
    workers: int = 0
    """Processes that decode images; 0 does it in the main process."""
    seed: int = 0
    """Seed of the nulls and of the bootstrap."""

    def __post_init__(self) -> None:
        for name in ("samples", "detail_samples", "draws"):
            if getattr(self, name) < 1:
                raise InputError(f"--{name} is {getattr(self, name)}; at least 1 was expected")
        if self.workers < 0 or (self.image_size is not None and self.image_size < 1):
            raise InputError(
                f"--workers is {self.workers} and --image_size {self.image_size}; no negative "
                "number was expected"
            )
        if not self.alphas or min(self.alphas) <= 0:
            raise InputError(f"--alphas are {self.alphas}; positive numbers were expected")
        parse_bytes(self.memory)
