"""Options of the feature creation probe."""

from dataclasses import dataclass

from core.errors import InputError
from core.layers import BLOCKS, FEATURES
from probes.feature_creation.cross_validated_ridge import FOLDS
from probes.feature_creation.shared import PERMUTATIONS
from probes.feature_options import FeatureOptions


@dataclass(frozen=True, kw_only=True)
class FeatureCreationConfig(FeatureOptions):
    """Options of `python -m probes.feature_creation`."""

    with_init: bool = True
    """Compare with the network before each run, its init.safetensors; this is the question."""
    layers: tuple[str, ...] = (FEATURES, BLOCKS)
    """Layers of the pretrained network to predict from, by name, `features` among them."""
    folds: int = FOLDS
    """Parts of the images of a regression; each is predicted from the others."""
    permutations: int = PERMUTATIONS
    """Permutations of the images drawn as the null of R2."""

    def __post_init__(self) -> None:
        if self.features:
            raise InputError(
                "--features was given; run folders hold the network before and after: give "
                "--checkpoints"
            )
        super().__post_init__()
        self.check_least(folds=2, permutations=2)
        if not self.with_init:
            raise InputError(
                "--with_init is false; fine-tuned features are compared with those before: leave "
                "it out"
            )
        if FEATURES not in self.layers:
            raise InputError(f"--layers is {list(self.layers)}; '{FEATURES}' was expected in it")
