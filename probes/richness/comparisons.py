"""Measures of richness that need two sets of examples, or two checkpoints.

Redundancy fits probes on examples to train on and looks at others; similarity compares
checkpoints, and the layers of one, on the same examples.
"""

from collections.abc import Callable, Iterator, Mapping

import numpy as np

from analysis.intervals import Row
from analysis.jackknife import jackknife, jackknife_groups
from core.arrays import Array
from core.layers import FEATURES
from core.records import Metric
from probes.feature_groups import Group, paired
from probes.redundancy import (
    concatenation_gain,
    diffused_redundancy,
    masked_accuracy,
    unit_predictability,
)
from probes.richness.class_structure import Classifier
from probes.richness.config import RichnessConfig
from probes.similarity import (
    Representation,
    cka_map,
    linear_cka,
    mutual_knn,
    permutation_null,
    procrustes_distance,
    svcca,
)
from probes.similarity.metrics import METRICS as SIMILARITY
from probes.stages import attempted

NEIGHBOURS = 10
SIMILARITIES: Mapping[str, Callable[[Array, Array], float]] = {
    "cka": linear_cka,
    "mutual_knn": lambda x, y: mutual_knn(x, y, min(NEIGHBOURS, len(x) - 1)),
    "procrustes_distance": procrustes_distance,
    "svcca": svcca,
}
NULL_SIMILARITY = {
    "null_cka": Metric(
        title=f"{SIMILARITY['cka'].title}, examples permuted (mean and 95 % of the permutations)",
        reference=SIMILARITY["cka"].reference,
        low=-1.0,
        high=1.0,
    )
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
    predictability = unit_predictability(test.features[layer], seed=config.seed)
    yield {"metric": "unit_predictability", **predictability.mean}


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
    """How alike two checkpoints are on the same examples, with the null of CKA."""
    a, b = paired(first, second)
    x, y = a.features[layer], b.features[layer]

    groups = jackknife_groups(a.labels, seed=config.seed, num_groups=config.groups)
    for name, similarity in SIMILARITIES.items():
        value = lambda kept, f=similarity: {"": f(x[kept], y[kept])}
        yield attempted(name, lambda value=value: jackknife(value, groups)[""])
    whole = Representation.of(x), Representation.of(y)
    cka = lambda first, second: linear_cka(first, second)
    null = permutation_null(cka, *whole, config.permutations, seed=config.seed)
    yield {
        "metric": "null_cka",
        "value": null.mean,
        "stderr": float(null.null.std(ddof=1)),
        "low": null.quantile(0.025),
        "high": null.quantile(0.975),
        "num_examples": len(a),
    }


def layer_map(first: Group, second: Group) -> np.ndarray:
    """Debiased CKA of every layer of one checkpoint with every layer of another."""
    a, b = paired(first, second)
    return cka_map(list(a.features.values()), list(b.features.values()))
