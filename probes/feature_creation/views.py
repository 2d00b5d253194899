"""The same images in a network before and after its fine-tuning, layer by layer.

Shapes: N examples.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from core.arrays import Array, labels_of, matrix
from core.errors import InputError
from core.layers import FEATURES
from probes.feature_groups import ALL

Values = Float[np.ndarray, "N _"]
LAYERS = (ALL, FEATURES)  # all of a network side by side, and its Phi alone


class Views(NamedTuple):
    """Images in two networks.

    Attributes:
        before: Pretrained features by layer, `features` (Phi) among them.
        after: Fine-tuned ones.
        labels: Class indices.
        split: What the images were to the fine-tuning.
    """

    before: Mapping[str, Array]
    after: Mapping[str, Array]
    labels: Array
    split: str = "given"

    @property
    def phi(self) -> Values:
        """The fine-tuned representation."""
        return self.blocks("after", FEATURES)[0]

    @property
    def classes(self) -> np.ndarray:
        """The class indices, checked."""
        return labels_of(self.labels, len(self.labels)).numpy()

    def blocks(self, side: str, layers: str) -> list[Values]:
        """All layers of a side, or its Phi alone."""
        found = self.before if side == "before" else self.after
        chosen = found if layers == ALL else [layers]
        return [as_values(found[name], f"layer '{name}' {side} fine-tuning") for name in chosen]


def as_values(features: Array, name: str) -> Values:
    """Features as NumPy's float64."""
    return matrix(features, name).double().cpu().numpy()


def joined(parts: Sequence[Views]) -> Views:
    """The images of several environments as one."""
    return Views(
        {name: _concatenated(p.before[name] for p in parts) for name in parts[0].before},
        {name: _concatenated(p.after[name] for p in parts) for name in parts[0].after},
        np.concatenate([part.classes for part in parts]),
        parts[0].split,
    )


def _concatenated(arrays: Iterable[Array]) -> np.ndarray:
    return np.concatenate([as_values(array, "features") for array in arrays])


def check_views(views: Views, name: str) -> None:
    """Refuse networks that do not have the same images, or no Phi.

    Raises:
        InputError: If so.
    """
    for side, layers in (("pretrained", views.before), ("fine-tuned", views.after)):
        if FEATURES not in layers:
            raise InputError(
                f"the {side} layers of {name} are {list(layers)}; the penultimate representation "
                f"'{FEATURES}' was expected among them"
            )
    counts = {len(x) for x in (*views.before.values(), *views.after.values(), views.labels)}
    if len(counts) > 1:
        raise InputError(
            f"the features and labels of {name} have {sorted(counts)} rows; the same images were "
            "expected in both networks and in every layer"
        )
