"""Options of the richness probe."""

from dataclasses import dataclass
from typing import Literal, get_args

from core.errors import InputError
from probes.feature_options import FeatureOptions

Family = Literal["spectral", "class", "sparsity", "decorrelation", "redundancy", "similarity"]


@dataclass(frozen=True, kw_only=True)
class RichnessConfig(FeatureOptions):
    """Options of `python -m probes.richness`."""

    measures: tuple[Family, ...] = get_args(Family)
    """Families of measures; all of them by default."""
    groups: int = 20
    """Groups of examples that the jackknife leaves out in turn, for intervals."""
    draws: int = 5
    """Null draws: every unit's values permuted (spectra), labels permuted (classes)."""
    permutations: int = 200
    """Permutations of examples drawn as the null of similarities; Procrustes and SVCCA, which take
    a singular value decomposition each, get a tenth of them."""
    subsets: int = 5
    """Random subsets of units of every size, with a probe fitted on each."""
    delta: float = 0.9
    """Share of the full accuracy that a subset must reach, in the diffused redundancy."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_least(groups=2, draws=2, permutations=2, subsets=2)
        if not 0 < self.delta <= 1:
            raise InputError(f"--delta is {self.delta}; expected 0 < delta <= 1")
        if not self.measures:
            raise InputError(
                f"--measures is empty; expected some of {', '.join(get_args(Family))}"
            )
