r"""Does the head fail on the target domain, or have the features lost the classes there?

Two probes are tested on the same target examples:

1. trained on the source: the o.o.d. linear readout, standardised by source statistics only;
2. trained on the target, cross-validated: what a linear readout could get out of these features.

Their difference is what a better head would gain without touching the features. It is paired: both
probes answer for every target example, and these are resampled together.

The two see different numbers of training examples, which :class:`TransferGap` carries: a target
with few examples is a lower bound of what its features hold. The interval is that of the examples;
the dependence between cross-validation folds is not in it.

Shapes: N target examples, D features.

References:
    | Domain-Adjusted Regression or: ERM May Already Learn Features Sufficient for
    | Out-of-Distribution Generalization (Rosenfeld et al., 2022), https://arxiv.org/abs/2202.06856
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from sklearn.model_selection import StratifiedKFold
from torch import Tensor

from analysis.intervals import Row, bootstrap_counts, proportion_interval, ratio_interval
from core.arrays import Array
from core.errors import InputError
from probes.transfer.checks import Labelled, labelled, same_width
from probes.transfer.selection import dinov2_probe

FOLDS = 5


@dataclass(frozen=True, kw_only=True)
class TransferGap:
    """Both probes on the same target examples.

    Attributes:
        source_right: Whether the probe trained on the source is right, per target example.
        target_right: Whether the probe trained on the other folds of the target is.
        num_source: Examples that the source probe was trained on.
        num_target: Examples that a target probe was trained on, on average.
        num_unconverged: Final probes that stopped before their tolerance.
    """

    source_right: Bool[np.ndarray, " N"]
    target_right: Bool[np.ndarray, " N"]
    num_source: int
    num_target: float
    num_unconverged: int

    def rows(self, *, seed: int = 0) -> dict[str, Row]:
        """`source_probe_accuracy`, `target_probe_accuracy` and `transfer_gap`, with intervals."""
        source, target = self.source_right.astype(float), self.target_right.astype(float)
        return {
            "source_probe_accuracy": proportion_interval(source),
            "target_probe_accuracy": proportion_interval(target),
            "transfer_gap": paired_difference(target, source, seed=seed),
        }


def source_and_target_probes(
    source_x: Array,
    source_y: Array,
    target_x: Array,
    target_y: Array,
    *,
    folds: int = FOLDS,
    seed: int = 0,
) -> TransferGap:
    """A probe trained on the source and one trained on the target, tested on the target.

    Each chooses C by a tenth of its own training examples, as `dinov2_probe` does, on features
    scaled as one block, like those of `layer_probes`. No statistic of the target reaches the
    source probe.

    Args:
        source_x: Source features of the network.
        source_y: Their class indices.
        target_x: Target features of the same network.
        target_y: Their class indices, with the same meaning.
        folds: Parts of the target; each is tested by a probe trained on the others.
        seed: Of the folds and validation splits.

    Raises:
        InputError: If features and labels do not fit, the target has classes that the source does
            not have, or a class has fewer target examples than there are folds.
    """
    source = labelled(source_x, source_y, "source features")
    target = labelled(target_x, target_y, "target features")
    same_width(target.features, source.features.shape[1], "target features")
    _check_target(source, target, folds)
    width = source.features.shape[1]
    probe = dinov2_probe(source.features, source.labels, blocks=(width,), seed=seed).probe
    target_right, converged = _cross_validated(target, folds, seed)
    return TransferGap(
        source_right=probe.predict(target.features) == target.labels,
        target_right=target_right,
        num_source=len(source.labels),
        num_target=len(target.labels) * (1 - 1 / folds),
        num_unconverged=int(not probe.converged) + folds - sum(converged),
    )


def paired_difference(
    ours: Float[np.ndarray, " N"], other: Float[np.ndarray, " N"], *, seed: int = 0
) -> Row:
    """Mean difference on the same examples, with a bootstrap interval that resamples pairs.

    Example:
        >>> paired_difference(np.array([1.0, 1.0]), np.array([1.0, 0.0]))["value"]
        0.5
    """
    counts = bootstrap_counts({"target": len(ours)}, seed=seed)
    return ratio_interval(ours - other, np.ones(len(ours)), counts)


def _cross_validated(
    examples: Labelled, folds: int, seed: int
) -> tuple[Bool[np.ndarray, " N"], list[bool]]:
    x: Tensor = examples.features
    y = examples.labels
    right, converged = np.zeros(len(y), bool), []
    splitter = StratifiedKFold(folds, shuffle=True, random_state=seed)
    for train, test in splitter.split(np.empty((len(y), 0)), y):
        probe = dinov2_probe(x[train], y[train], blocks=(x.shape[1],), seed=seed).probe
        right[test] = probe.predict(x[test]) == y[test]
        converged.append(probe.converged)
    return right, converged


def _check_target(source: Labelled, target: Labelled, folds: int) -> None:
    unknown = sorted(set(target.labels.tolist()) - set(source.labels.tolist()))
    if unknown:
        raise InputError(
            f"the target has classes {unknown} that the source does not have; the same classes "
            "were expected: leave these examples out"
        )
    classes, counts = np.unique(target.labels, return_counts=True)
    if folds < 2 or counts.min() < folds:
        raise InputError(
            f"{folds} folds of the target were asked for, and class {classes[counts.argmin()]} "
            f"has {counts.min()} examples there; at least 2 folds and as many examples of every "
            "class as folds were expected"
        )
