"""Options of `python -m scripts.linear_study`."""

from dataclasses import dataclass

from core.errors import InputError
from scripts.study_options import StudyOptions, ordinary


@dataclass(frozen=True, kw_only=True)
class LinearStudyConfig(StudyOptions):
    """Options of the study of linear fine-tuning."""

    output: str = "runs/linear-study"
    """Folder to create, or to go on in if a study with the same options was interrupted."""
    seeds: tuple[int, ...] = (0, 1)
    """Seeds of the first environment, as many further ones in the others; each has its own
    hold-out, classifier, batches and masks."""
    batch_size: int = 16
    """Images per training environment and step (the paper takes 32)."""
    head_lr_factor: float = 1.0
    """Learning rate of the classifier of network and tangent model, in units of --lr."""
    drop_rates: tuple[float, ...] = (0.0, 0.9)
    """Dropout rates of the comparison; the grid is trained without dropout."""
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

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_values("seeds", "drop_rates", "lr_factors", "step_factors", "train_fractions")
        for name, least in (("samples", 0), ("kernel_train", 2)):
            if getattr(self, name) < least:
                raise InputError(
                    f"--{name} is {getattr(self, name)}; at least {least} was expected"
                )
        if min(*self.lr_factors, *self.step_factors) <= 0:
            raise InputError("a factor of the grid is not positive; above 0 was expected")
        for rate in self.drop_rates:  # which checks the options that they share
            ordinary(self, drop_rate=rate)
        for fraction in self.train_fractions:
            ordinary(self, train_fraction=fraction)
