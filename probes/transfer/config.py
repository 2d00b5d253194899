"""Options of the transfer probe."""

from dataclasses import dataclass
from typing import Literal, get_args

from core.errors import InputError
from probes.feature_options import FeatureOptions
from probes.transfer.few_shot import SHOTS

Family = Literal["probe", "knn", "few_shot", "gap", "scores"]


@dataclass(frozen=True, kw_only=True)
class TransferConfig(FeatureOptions):
    """Options of `python -m probes.transfer`."""

    measures: tuple[Family, ...] = get_args(Family)
    """Families of measures; all of them by default."""
    shots: tuple[int, ...] = SHOTS
    """Examples per class of the few-shot probes."""
    repeats: int = 5
    """Draws of few-shot examples."""
    folds: int = 5
    """Parts of an environment; each is tested by a probe trained on the others."""
    draws: int = 5
    """Permutations of the labels drawn as the null of scores."""
    groups: int = 10
    """Groups of examples that the jackknife leaves out in turn, for intervals of scores."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_least(repeats=2, folds=2, draws=2, groups=2)
        if not self.shots or min(self.shots) < 1:
            raise InputError(f"--shots is {list(self.shots)}; positive numbers were expected")
        if not self.measures:
            raise InputError(
                f"--measures is empty; expected some of {', '.join(get_args(Family))}"
            )
