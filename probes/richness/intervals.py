r"""Intervals of all measures by a delete-group jackknife over examples.

Leaving a group out takes its part off the scatter, so that all groups together cost one more Gram
product, and the eigenvalues of each.

Shapes: N examples, D features.
"""

from collections.abc import Collection

import numpy as np
import torch

from analysis.intervals import Row
from analysis.jackknife import NUM_GROUPS, Indices, jackknife, jackknife_groups
from core.arrays import Array, labels_of
from probes.richness.class_structure import Centre, Classifier
from probes.richness.decorrelation import mean_potential, pair_potentials, paired_examples
from probes.richness.evaluate import FAMILIES, Family, all_measures
from probes.richness.spectrum import Moments, Source, moments_of


def measures_with_intervals(
    features: Source,
    labels: Array | None = None,
    classifier: Classifier | None = None,
    *,
    families: Collection[Family] = FAMILIES,
    centre: Centre = "classes",
    tau: float = 0.0,
    seed: int = 0,
    num_groups: int = NUM_GROUPS,
) -> tuple[dict[str, Row], dict[str, str]]:
    """All measures with standard errors and normal intervals, and why some are undefined.

    Groups are drawn so that every class is spread over them evenly. The jackknife knows the
    variation between samples of this size and not the bias of a measure at this size. Intervals
    of `correlation` are too wide, by up to two thirds, where most correlations are near zero: a
    magnitude has no derivative there. Those of counts (components, dead units) are rough.

    Args:
        features: N x D, or their moments.
        labels: Class index of every example.
        classifier: Weights and bias of the head.
        families: Which measures.
        centre: Which mean the class means are compared with.
        tau: Largest magnitude of a dead unit.
        seed: Seed of the groups and of the subsample for uniformity.
        num_groups: How many groups.

    Returns:
        Rows as `analysis.intervals` makes them, by metric, and reasons of those without a value.

    Raises:
        InputError: As `all_measures`.
    """
    moments = moments_of(features)
    num = moments.num_examples
    strata = np.zeros(num, int) if labels is None else labels_of(labels, num).numpy()
    groups = jackknife_groups(strata, seed=seed, num_groups=num_groups)
    reasons: dict[str, str] = {}

    def statistics(kept: Indices) -> dict[str, float]:
        part = moments if len(kept) == num else moments.subset(torch.from_numpy(kept))
        classes = None if labels is None else strata[kept]
        found = all_measures(
            part, classes, classifier, families=families, centre=centre, tau=tau, seed=seed
        )
        reasons.update(found.reasons if len(kept) == num else {})
        return found.values

    rows = jackknife(statistics, groups)
    if "decorrelation" in families and "uniformity" not in reasons:
        rows["uniformity"] = _uniformity(moments, groups, seed)
    return rows, reasons


def _uniformity(moments: Moments, groups: Indices, seed: int) -> Row:
    """Of one subsample throughout: drawing another for each group would count as variation."""
    chosen = paired_examples(moments.num_examples, seed=seed)
    potentials = pair_potentials(moments.features, chosen)
    _, members = np.unique(groups[chosen], return_inverse=True)
    return jackknife(
        lambda kept: {"uniformity": mean_potential(potentials[np.ix_(kept, kept)])}, members
    )["uniformity"]
