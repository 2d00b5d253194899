r"""What a second representation adds to the first.

Rich representations have little to gain from one another. The width itself may raise accuracy;
the control therefore adds, instead of the second representation, as many random rectified
projections of the first: width and nonlinearity, but no information.

Shapes: N training and M test examples.

References:
    | Learning Useful Representations for Shifting Tasks and Distributions (Zhang & Bottou, 2023)
    | https://arxiv.org/abs/2212.07346
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Generator, Tensor

from analysis.intervals import NUM_RESAMPLES, Row, bootstrap_counts, ratio_interval
from core.arrays import Array
from core.records import Metric
from probes.redundancy.readout import Probe, Task, logistic_probe, name_of, scaled

CAT = "Zhang & Bottou 2023, arXiv 2212.07346"
Features = tuple[Float[Tensor, "N _"], Float[Tensor, "M _"]]

METRICS = {
    "concatenation_gain": Metric(
        title="accuracy gained by concatenation", low=-1.0, high=1.0, reference=CAT
    ),
    "concatenation_gain_over_width": Metric(
        title="accuracy gained by concatenation over random width",
        low=-1.0,
        high=1.0,
        reference=CAT,
    ),
}


@dataclass(frozen=True)
class ConcatenationGain:
    """Accuracies of the probes and what they differ by.

    Attributes:
        first: Accuracy on the first representation.
        second: Accuracy on the second one.
        both: Accuracy on both side by side.
        control: Accuracy on the first beside random projections of it, as wide as the second.
        gain: `both` less `first`, paired over test examples.
        gain_over_width: `both` less `control`, paired over test examples.
        probe: Name of the probe.
    """

    first: Row
    second: Row
    both: Row
    control: Row
    gain: Row
    gain_over_width: Row
    probe: str


def concatenation_gain(
    train_a: Array,
    train_b: Array,
    train_labels: Array,
    test_a: Array,
    test_b: Array,
    test_labels: Array,
    *,
    probe: Probe = logistic_probe,
    seed: int = 0,
    num_resamples: int = NUM_RESAMPLES,
) -> ConcatenationGain:
    r"""Accuracy of a probe on both representations less that on the first.

    Each block is standardised by training statistics and divided by :math:`\sqrt{d}` of its own
    width, so that neither wins by its norm or by its width.

    Args:
        train_a: First representation of the training examples.
        train_b: Second one of the same examples.
        train_labels: Class indices.
        test_a: First representation of the test examples.
        test_b: Second one.
        test_labels: Class indices.
        probe: Fitted on each set of blocks; it must not standardise again.
        seed: Of the control's projections and the resamples.
        num_resamples: Of the test examples.

    Raises:
        InputError: If features and labels do not fit each other.
    """
    task = Task.of(train_a, train_labels, test_a, test_labels)
    other = Task.of(train_b, train_labels, test_b, test_labels)
    a, b = scaled(task.train_x, task.test_x), scaled(other.train_x, other.test_x)
    blocks = {
        "first": a,
        "second": b,
        "both": _beside(a, b),
        "control": _beside(a, _random_width(a, b[0].shape[1], seed)),
    }
    correct = {name: task.correct(probe, *features) for name, features in blocks.items()}
    counts = bootstrap_counts(
        {"test examples": len(task.test_y)}, seed=seed, num_resamples=num_resamples
    )

    def mean(values: Float[np.ndarray, " M"]) -> Row:
        return ratio_interval(values, np.ones_like(values), counts)

    return ConcatenationGain(
        **{name: mean(hits.astype(np.float64)) for name, hits in correct.items()},
        gain=mean(_difference(correct["both"], correct["first"])),
        gain_over_width=mean(_difference(correct["both"], correct["control"])),
        probe=name_of(probe),
    )


def _beside(a: Features, b: Features) -> Features:
    return torch.cat([a[0], b[0].to(a[0])], 1), torch.cat([a[1], b[1].to(a[1])], 1)


def _random_width(a: Features, width: int, seed: int) -> Features:
    """Rectified Gaussian projections, scaled as any other block."""
    generator = Generator().manual_seed(seed)
    drawn = torch.randn(a[0].shape[1], width, generator=generator, dtype=torch.float64)
    return scaled((a[0] @ drawn.to(a[0])).relu(), (a[1] @ drawn.to(a[1])).relu())


def _difference(
    ours: Bool[np.ndarray, " M"], other: Bool[np.ndarray, " M"]
) -> Float[np.ndarray, " M"]:
    return ours.astype(np.float64) - other
