"""Measures of richness that need two sets of examples, or two checkpoints.

Redundancy fits probes on examples to train on and looks at others; similarity compares
checkpoints, and the layers of one, on the same examples.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from analysis.intervals import Row
from analysis.jackknife import jackknife, jackknife_groups
from core.arrays import Array
from core.layers import FEATURES
from probes.feature_groups import Group, paired
from probes.redundancy import (
    concatenation_gain,
    diffused_redundancy,
    masked_accuracy,
    unit_predictability,
)
from probes.richness.class_structure import Classifier
from probes.richness.config import RichnessConfig
from probes.richness.nulls import predictability_null
from probes.similarity import (
    Neighbours,
    Representation,
    cka_map,
    linear_cka,
    mean_canonical_correlation,
    permutation_null,
    principal_directions,
    shape_angle,
    shared_neighbours,
    unit_shape,
)
from probes.similarity.metrics import METRICS as SIMILARITY
from probes.stages import attempted

NEIGHBOURS = 10
SLOWER = 10  # times fewer permutations where each takes a singular value decomposition


@dataclass(frozen=True)
class Similarity:
    """A similarity in two steps, of which permutations repeat the second alone.

    Attributes:
        reduced: What one representation gives by itself, whatever the other is.
        compared: The similarity of two that are reduced.
        slower: How many times fewer permutations it gets.
    """

    reduced: Callable[[Array], Any]
    compared: Callable[[Any, Any], float]
    slower: int = 1

    def __call__(self, x: Array, y: Array) -> float:
        """The similarity of two representations of the same examples."""
        return self.compared(self.reduced(x), self.reduced(y))

    def null(self, x: Array, y: Array, config: RichnessConfig) -> Row:
        """Mean and middle 95 % of its values with the examples of `y` permuted."""
        num = max(2, config.permutations // self.slower)
        sides = self.reduced(x), self.reduced(y)
        null = permutation_null(self.compared, *sides, num, seed=config.seed)
        return {
            "value": null.mean,
            "stderr": float(null.null.std(ddof=1)),
            "low": null.quantile(0.025),
            "high": null.quantile(0.975),
            "num_examples": len(x),
        }


SIMILARITIES: Mapping[str, Similarity] = {
    "cka": Similarity(Representation.of, linear_cka),
    "mutual_knn": Similarity(
        lambda x: Neighbours.of(x, min(NEIGHBOURS, len(x) - 1)), shared_neighbours
    ),
    "procrustes_distance": Similarity(unit_shape, shape_angle, SLOWER),
    "svcca": Similarity(principal_directions, mean_canonical_correlation, SLOWER),
}
NULL_SIMILARITY = {
    f"null_{name}": replace(
        SIMILARITY[name],
        title=f"{SIMILARITY[name].title}, examples permuted (mean and 95 % of the permutations)",
        symbol="",
    )
    for name in SIMILARITIES
}


def redundancy_rows(
    train: Group, test: Group, layer: str, classifier: Classifier | None, config: RichnessConfig
) -> Iterator[Row]:
    """Accuracy on subsets of units, under masks, and how well units predict each other."""
    found = diffused_redundancy(
        train.features[layer],
        train.labels,
        test.features[layer],
        test.labels,
        subsets=config.subsets,
        delta=config.delta,
        seed=config.seed,
    )
    yield from found.rows
    if classifier is not None and layer == FEATURES:
        masked = masked_accuracy(
            classifier.weight,
            np.zeros(len(classifier.weight)) if classifier.bias is None else classifier.bias,
            test.features[layer],
            test.labels,
            seed=config.seed,
        )
        yield from masked.rows
    yield from _predictability_rows(test.features[layer], config)


def _predictability_rows(features: Array, config: RichnessConfig) -> Iterator[Row]:
    found = unit_predictability(features, seed=config.seed)
    yield {"metric": "unit_predictability", **found.overall}
    yield {"metric": "unit_predictability_median", **found.median}
    yield {
        "metric": "nearly_dead_units",
        "value": float(found.num_dead),
        "num_examples": len(features),
    }
    for metric, row in predictability_null(features, config.draws, seed=config.seed).items():
        yield {"metric": metric, **row}


def concatenation_rows(
    trains: tuple[Group, Group], tests: tuple[Group, Group], layer: str, seed: int
) -> Iterator[Row]:
    """What the second checkpoint adds to the first, for a probe on both side by side."""
    train_a, train_b = paired(*trains)
    test_a, test_b = paired(*tests)
    gain = concatenation_gain(
        train_a.features[layer],
        train_b.features[layer],
        train_a.labels,
        test_a.features[layer],
        test_b.features[layer],
        test_a.labels,
        seed=seed,
    )
    yield {"metric": "concatenation_gain", **gain.gain}
    yield {"metric": "concatenation_gain_over_width", **gain.gain_over_width}


def similarity_rows(
    first: Group, second: Group, layer: str, config: RichnessConfig
) -> Iterator[Row]:
    """How alike two checkpoints are on the same examples, each measure with its null."""
    a, b = paired(first, second)
    x, y = a.features[layer], b.features[layer]

    groups = jackknife_groups(a.labels, seed=config.seed, num_groups=config.groups)
    for name, similarity in SIMILARITIES.items():
        value = lambda kept, f=similarity: {"": f(x[kept], y[kept])}
        yield attempted(name, lambda value=value: jackknife(value, groups)[""])
        yield attempted(f"null_{name}", partial(similarity.null, x, y, config))


def layer_map(first: Group, second: Group) -> np.ndarray:
    """Debiased CKA of every layer of one checkpoint with every layer of another."""
    a, b = paired(first, second)
    return cka_map(list(a.features.values()), list(b.features.values()))
