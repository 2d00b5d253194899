r"""What the fine-tuned representation Phi has in common with the pretrained network's layers.

Asked of all pretrained layers side by side, and of the pretrained Phi alone:

1. How much of the variance of Phi does ridge regression predict on images that it has not seen?

   .. math::
       R^2 = 1 - \frac{\sum_{ij} (\phi_{ij} - \hat\phi_{ij})^2}
                      {\sum_{ij} (\phi_{ij} - \bar\phi_j)^2}

   A ratio of sums over examples and units, in which a nearly constant unit counts as little as it
   varies; the median over units is beside it, and the same with the examples of Phi permuted.
2. How alike are they by debiased linear CKA? Units are as they are on both sides, so that a
   network that has not moved has 1; of layers side by side each has the same total variance.

Intervals: delete-group jackknife over examples, of R2 given the fitted regressions; of CKA it is
computed again without each group. The null has the mean and the middle 95 % of permutations.

Shapes: N examples, U units of Phi, P permutations.

References:
    | Similarity of Neural Network Representations Revisited (Kornblith et al., 2019), with linear
    | regression as a similarity, https://arxiv.org/abs/1905.00414
"""

from collections.abc import Iterator, Sequence

import numpy as np

from analysis.creation_verdict import CKA, MEDIAN, NULL, R2
from analysis.intervals import LEVEL, Row
from analysis.jackknife import jackknife, jackknife_groups
from core.errors import InputError
from probes.feature_creation.cross_validated_ridge import FOLDS, cross_validated
from probes.feature_creation.views import LAYERS, Values, Views, check_views
from probes.similarity.cka import linear_cka
from probes.similarity.representation import Representation

PERMUTATIONS = 20


def shared_rows(
    views: Views, *, folds: int = FOLDS, permutations: int = PERMUTATIONS, seed: int = 0
) -> Iterator[Row]:
    """R2 with its median and null, and CKA, of the fine-tuned Phi with what was there before.

    Args:
        views: Images in both networks; the regressions are fitted on them alone.
        folds: Parts that are predicted from the others.
        permutations: Of the null.
        seed: Of folds, permutations and jackknife groups.

    Raises:
        InputError: If the networks do not have the same images, there are fewer than two
            permutations, or too few images.
    """
    check_views(views, "the images")
    if permutations < 2:
        raise InputError(f"permutations is {permutations}; at least 2 were expected")
    y = views.phi
    groups = jackknife_groups(np.zeros(len(y), int), seed=seed)
    own = Representation.of(y)
    for layer in LAYERS:
        blocks = views.blocks("before", layer)
        found, *null = cross_validated(
            blocks, y, folds=folds, permutations=permutations, seed=seed
        )
        values = jackknife(lambda i, p=found: {R2: p.r2(i), MEDIAN: p.median(i)}, groups)
        other = Representation.of(side_by_side(blocks))
        values |= jackknife(lambda i, x=other: {CKA: linear_cka(own[i], x[i])}, groups)
        values[NULL] = _null_row([prediction.r2() for prediction in null], len(y))
        yield from ({"metric": metric, "layer": layer, **row} for metric, row in values.items())


def side_by_side(blocks: Sequence[Values]) -> Values:
    """Centred layers, each divided by the norm of all of it: one that never varies is zero.

    Example:
        >>> x = np.array([[1.0, 0.0], [-1.0, 0.0]])
        >>> np.square(side_by_side([x, 9 * x])).sum(0).round(3).tolist()
        [1.0, 0.0, 1.0, 0.0]
    """
    parts = []
    for block in blocks:
        centred = block - block.mean(0)
        varies = np.ptp(block, axis=0).any()
        parts.append(centred / (np.linalg.norm(centred) if varies else np.inf))
    return np.concatenate(parts, 1)


def _null_row(values: Sequence[float], num_examples: int) -> Row:
    """Mean and middle 95 % of the permutations."""
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    row = {"value": float(np.mean(values)), "stderr": float(np.std(values, ddof=1))}
    return {**row, "low": float(low), "high": float(high), "num_examples": num_examples}
