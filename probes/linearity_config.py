"""Options of the linearity probe."""

from dataclasses import dataclass

from core.errors import InputError
from probes.options import ProbeOptions


@dataclass(frozen=True, kw_only=True)
class LinearityConfig(ProbeOptions):
    """Options of `python -m probes.linearity`."""

    samples: int = 128
    """Images per environment for the curves along the path."""
    detail_samples: int = 32
    """Images per environment for curvature, blocks and nulls, which cost more."""
    alphas: tuple[float, ...] = (0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1.0, 1.25, 1.5)
    """Positions on the path: 0 is pretrained, 1 fine-tuned, more is beyond."""
    draws: int = 2
    """Random and permuted displacements drawn as nulls of R2; that of the kernel is one."""
    kernel_samples: int = 16
    """Images per environment for the tangent kernel before and after; 0 leaves it out."""
    twins: tuple[str, ...] = ()
    """Folders of `finetuning.train --tangent` and `finetuning.linear` that the runs are compared
    with (default: those with a run's options beside it); `none` leaves the comparison out."""
    kernel_train: int = 64
    """Training images that kernel regression is fitted on, where a run has twins; 0 leaves it
    out."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_least(samples=1, detail_samples=1, draws=1, kernel_samples=0, kernel_train=0)
        for name in ("kernel_samples", "kernel_train"):
            if getattr(self, name) == 1:
                raise InputError(f"--{name} is 1; at least 2 were expected, or 0 for no kernel")
        if not self.alphas or min(self.alphas) <= 0:
            raise InputError(f"--alphas are {self.alphas}; positive numbers were expected")
