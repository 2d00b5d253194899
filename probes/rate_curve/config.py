"""Options of the rate curve."""

from dataclasses import dataclass

from core.errors import InputError
from probes.dropout_head import STEPS, Loss
from probes.feature_options import FeatureOptions
from probes.rate_curve.curve import DECAY, REPEATS

RATES = (0.0, 0.5, 0.8, 0.9, 0.99)


@dataclass(frozen=True, kw_only=True)
class RateCurveConfig(FeatureOptions):
    """Options of `python -m probes.rate_curve`."""

    with_init: bool = True
    """Take the pretrained network of each run folder; `false` takes the fine-tuned one."""
    rates: tuple[float, ...] = RATES
    """Dropout rates, 0 <= rate < 1."""
    losses: tuple[Loss, ...] = ("squared", "cross_entropy")
    """Of which losses."""
    decay: float = DECAY
    """Weight decay of the cross-entropy; the squared loss has none."""
    steps: int = STEPS
    """Steps of SGD with dropout; more where a rate has not converged."""
    repeats: int = REPEATS
    """How many times SGD runs at each rate, with other masks and batches."""
    stacked: int = 0
    """Also on the outputs of that many last residual blocks side by side, the inputs of the
    paper's linear model (1); 0 leaves them out."""
    adapted: str | None = None
    """Also on the adapted representation of this folder of `finetuning.linear`."""
    tangent: int = 0
    """Also on tangent features, so many random ones of each output; 0 leaves them out."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_least(steps=4, repeats=2, stacked=0, tangent=0)
        if not self.rates or not all(0 <= rate < 1 for rate in self.rates):
            raise InputError(f"--rates is {list(self.rates)}; numbers from 0 to below 1 expected")
        if not self.losses:
            raise InputError("--losses is empty; squared or cross_entropy was expected")
        if not self.decay > 0:
            raise InputError(f"--decay is {self.decay}; a positive number was expected")
        if self.features and (self.stacked or self.tangent or self.adapted):
            raise InputError(
                "--stacked, --adapted or --tangent was given with --features; they need a "
                "network: leave them out, or give --checkpoints"
            )
