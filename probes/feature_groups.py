"""Examples as measures look at them: an environment's, and all of a split together.

Ranks and their like depend on the number of examples, so that every checkpoint gives as many of a
group as the one that has the fewest.

Shapes: N examples of a group, D features of a layer.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int64

from analysis.jackknife import Indices, at_equal_size
from probes.feature_sets import FeatureSet, Part

ALL = "all"  # every environment of a split


class Where(NamedTuple):
    """Which examples: of a split, and of one environment or `all`."""

    split: str
    env: str


@dataclass(frozen=True, eq=False)
class Group:
    """Examples of one checkpoint with a matrix by layer.

    Attributes:
        labels: Class of each.
        names: What each is called in every checkpoint, its environment and number.
        features: A matrix by layer.
    """

    labels: Int64[np.ndarray, " N"]
    names: np.ndarray
    features: Mapping[str, Float[np.ndarray, "N _"]]

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def envs(self) -> np.ndarray:
        """Environment of each example."""
        return np.array([name.rpartition("/")[0] for name in self.names])

    def take(self, kept: Indices) -> "Group":
        """Some of the examples."""
        features = {layer: matrix[kept] for layer, matrix in self.features.items()}
        return Group(self.labels[kept], self.names[kept], features)


def groups_of(features: FeatureSet) -> dict[Where, Group]:
    """Each environment's examples by split, and of splits with several, all together."""
    found: dict[Where, Group] = {}
    for split in dict.fromkeys(part.split for part in features.parts):
        parts = {part.env: _group(part) for part in features.parts if part.split == split}
        found |= {Where(split, env): group for env, group in parts.items()}
        if len(parts) > 1:
            found[Where(split, ALL)] = joined(list(parts.values()))
    return found


def whole(groups: Mapping[Where, Group], split: str) -> tuple[Where, Group] | None:
    """All examples of a split, under the name that they have there."""
    found = [where for where in groups if where.split == split]
    where = next((w for w in found if w.env == ALL), found[0] if found else None)
    return None if where is None else (where, groups[where])


def joined(groups: Sequence[Group]) -> Group:
    """One group after the other."""
    layers = groups[0].features
    return Group(
        np.concatenate([group.labels for group in groups]),
        np.concatenate([group.names for group in groups]),
        {layer: np.concatenate([g.features[layer] for g in groups]) for layer in layers},
    )


def at_equal_sizes(
    groups: Sequence[Mapping[Where, Group]], *, seed: int
) -> list[dict[Where, Group]]:
    """As many examples of a group from every checkpoint that has it, every class its share."""
    sizes: dict[Where, int] = {}
    for of_set in groups:
        for where, group in of_set.items():
            sizes[where] = min(len(group), sizes.get(where, len(group)))
    return [
        {
            where: group
            if len(group) == sizes[where]
            else group.take(at_equal_size(group.labels, sizes[where], seed=seed))
            for where, group in of_set.items()
        }
        for of_set in groups
    ]


def paired(first: Group, second: Group) -> tuple[Group, Group]:
    """The examples that both have, in the same order."""
    if np.array_equal(first.names, second.names):
        return first, second
    _, a, b = np.intersect1d(first.names, second.names, return_indices=True)
    return first.take(a), second.take(b)


def halves(group: Group, *, seed: int) -> tuple[Group, Group]:
    """Two random halves with every class in both, to train and to test on."""
    kept = at_equal_size(group.labels, len(group) // 2, seed=seed)
    left = np.setdiff1d(np.arange(len(group)), kept)
    return group.take(kept), group.take(left)


def _group(part: Part) -> Group:
    names = np.array([f"{part.env}/{image}" for image in part.images.tolist()])
    return Group(part.labels, names, part.features)
