"""Few-shot probes: how much of the classes a handful of labels brings out.

The validation examples are few as well, at most four per class: a full validation set to choose C
by would be many more labels than the shots claim.

Shapes: N examples, S seeds.

References:
    | Learning Transferable Visual Models From Natural Language Supervision (Radford et al., 2021)
    | https://arxiv.org/abs/2103.00020
    | Learning to Prompt for Vision-Language Models (Zhou et al., 2022): min(shots, 4) to validate
    | https://arxiv.org/abs/2109.01134
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int64

from analysis.intervals import Row, crossed_means, interval
from core.arrays import Array, labels_of, matrix
from core.errors import InputError
from probes.transfer.checks import check_classes
from probes.transfer.selection import DINOV2_GRID, select_c

SHOTS = (1, 2, 4, 8, 16)
VALIDATION_SHOTS = 4
NUM_SEEDS = 5


class Draw(NamedTuple):
    """Indices of the examples to train on and to choose C by."""

    train: Int64[np.ndarray, " _"]
    validation: Int64[np.ndarray, " _"]


@dataclass(frozen=True, kw_only=True)
class FewShot:
    """Test accuracies with so many examples per class, one for every draw of them.

    Attributes:
        shots: Training examples per class.
        right: Whether each test example is classified rightly, by draw.
        values_of_C: What the few validation examples chose, one per seed.
        num_examples: Test examples.
    """

    shots: int
    right: Bool[np.ndarray, "S N"]
    values_of_C: Float[np.ndarray, " S"]

    @property
    def accuracies(self) -> Float[np.ndarray, " S"]:
        """On all test examples, one per draw."""
        return self.right.mean(1)

    def row(self, *, seed: int = 0) -> Row:
        """Mean accuracy; the interval draws test examples and draws again, independently.

        Where the shots are a large part of the examples to draw from, draws overlap and the
        interval knows the test examples alone.
        """
        mean, resampled = crossed_means(self.right[None], seed=seed)
        return interval(float(mean[0]), resampled[:, 0], self.right.shape[1])


def few_shot(
    train_x: Array,
    train_y: Array,
    test_x: Array,
    test_y: Array,
    *,
    shots: Sequence[int] = SHOTS,
    seeds: Sequence[int] = range(NUM_SEEDS),
) -> list[FewShot]:
    """Probes on few examples per class, for several draws of them.

    Args:
        train_x: Features to draw from.
        train_y: Their class indices.
        test_x: Features to test on.
        test_y: Their class indices.
        shots: Training examples per class.
        seeds: One draw each. A draw of more shots contains the draw of fewer.

    Raises:
        InputError: If a class has too few examples for the shots, or features and labels do not
            fit.
    """
    x, test = matrix(train_x, "training features", least=2), matrix(test_x, "test features")
    y, truth = labels_of(train_y, len(x)), labels_of(test_y, len(test)).numpy()

    def once(num: int, seed: int) -> tuple[Bool[np.ndarray, " N"], float]:
        train, validation = draw(y, num, seed=seed)
        chosen = select_c(
            x[train], y[train], x[validation], y[validation], DINOV2_GRID, refit=False
        ).probe
        return chosen.predict(test) == truth, chosen.C

    found = {num: [once(num, seed) for seed in seeds] for num in shots}
    return [
        FewShot(
            shots=num,
            right=np.stack([right for right, _ in draws]),
            values_of_C=np.array([C for _, C in draws]),
        )
        for num, draws in found.items()
    ]


def draw(labels: Array, shots: int, *, seed: int) -> Draw:
    """So many training examples of every class, and min(shots, 4) others to validate with.

    Raises:
        InputError: If `shots` is not positive, or a class has too few examples.

    Example:
        >>> train, validation = draw(np.arange(36) % 3, 8, seed=0)
        >>> len(train), len(validation)
        (24, 12)
    """
    y = labels_of(labels, len(labels)).numpy()
    check_classes(y, "training features")
    classes, counts = np.unique(y, return_counts=True)
    more = min(shots, VALIDATION_SHOTS)
    if shots < 1 or counts.min() < shots + more:
        raise InputError(
            f"{shots} shots need {shots} examples per class to train on and {more} others to "
            f"choose C by; class {classes[counts.argmin()]} has {counts.min()}: ask for fewer "
            "shots (at least 1)"
        )
    generator = np.random.default_rng(seed)
    orders = [generator.permutation(np.flatnonzero(y == c)) for c in classes]
    # Validation comes from the end of each order, so that more shots only add training examples.
    train = np.concatenate([order[:shots] for order in orders])
    return Draw(np.sort(train), np.sort(np.concatenate([order[-more:] for order in orders])))
