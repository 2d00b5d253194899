"""Which C: a validation split, one standard error, and the grids of the literature.

Among the values whose validation accuracy lies within one standard error of the best, the smallest
C is taken: the strongest penalty that the validation examples cannot tell from the best.

Shapes: N examples, V values of C.

References:
    | Classification and Regression Trees (Breiman et al., 1984), section 3.4.3
    | Learning Transferable Visual Models From Natural Language Supervision (Radford et al., 2021),
    | appendix A.3, https://arxiv.org/abs/2103.00020
    | DINOv2 (Oquab et al., 2023), logistic regression evaluation, https://arxiv.org/abs/2304.07193
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float, Int64
from sklearn.model_selection import train_test_split
from torch import Tensor

from core.arrays import Array, labels_of, matrix
from core.errors import InputError
from probes.transfer.logistic import LinearProbe, c_path, check_values

DINOV2_GRID = np.logspace(-6, 5, 45)
CLIP_STEPS = 8  # per factor of ten
CLIP_FIRST = range(-48, 49, 16)  # 1e-6, 1e-4, ..., 1e6 in such steps
VALIDATION_SHARE = 0.1


@dataclass(frozen=True, kw_only=True)
class Selection:
    """The chosen probe, and how it was chosen.

    Attributes:
        probe: Trained at the chosen C, on training and validation examples together where asked.
        values_of_C: What was tried, increasing.
        accuracies: On the validation examples.
        num_validation: Validation examples.
        num_unconverged: Fits among those tried that stopped before their tolerance.
    """

    probe: LinearProbe
    values_of_C: Float[np.ndarray, " V"]
    accuracies: Float[np.ndarray, " V"]
    num_validation: int
    num_unconverged: int


def one_standard_error(accuracies: Float[np.ndarray, " V"], num_examples: int) -> int:
    r"""Index of the first accuracy within one standard error of the best.

    .. math:: \min \{ v : a_v \ge a^* - \sqrt{a^* (1 - a^*) / N} \}, \quad a^* = \max_v a_v

    Args:
        accuracies: In the order of increasing C.
        num_examples: Validation examples.

    Example:
        >>> one_standard_error(np.array([0.5, 0.87, 0.9, 0.88]), 100)  # 0.9 - 0.03
        1
    """
    best = accuracies.max()
    # Accuracies are whole numbers of examples: half an example is beyond rounding.
    error = math.sqrt(best * (1 - best) / num_examples)
    return int(np.argmax(accuracies >= best - error - 1e-9))


def validation_split(
    labels: Array, *, share: float = VALIDATION_SHARE, seed: int = 0
) -> tuple[Int64[np.ndarray, " _"], Int64[np.ndarray, " _"]]:
    """Indices of training and validation examples, every class divided in the same share.

    Raises:
        InputError: If a class has a single example, or either part is smaller than the number of
            classes.

    Example:
        >>> train, validation = validation_split(np.arange(40) % 2, share=0.1)
        >>> len(train), len(validation)
        (36, 4)
    """
    y = labels_of(labels, len(labels)).numpy()
    classes, counts = np.unique(y, return_counts=True)
    if counts.min() < 2:
        raise InputError(
            f"class {classes[counts.argmin()]} has one example; at least two per class were "
            "expected, one to train on and one to validate with: give more examples"
        )
    num = math.ceil(share * len(y))
    if min(num, len(y) - num) < len(classes):
        raise InputError(
            f"a share of {share} of {len(y)} examples validates on {num} and leaves "
            f"{len(y) - num}; at least {len(classes)} each, one per class, were expected: give "
            "more examples or another share"
        )
    train, validation = train_test_split(
        np.arange(len(y)), test_size=num, stratify=y, random_state=seed
    )
    return np.sort(train), np.sort(validation)


def select_c(
    train_x: Array,
    train_y: Array,
    validation_x: Array,
    validation_y: Array,
    values_of_C: Sequence[float] | Float[np.ndarray, " _"] = DINOV2_GRID,
    *,
    blocks: Sequence[int] = (),
    refit: bool = True,
) -> Selection:
    """Try every C on the validation examples and keep the one that the rule chooses.

    Args:
        train_x: Features to train on.
        train_y: Their class indices.
        validation_x: Features to choose by.
        validation_y: Their class indices.
        values_of_C: What to try; by default the 45 values of DINOv2.
        blocks: Widths of concatenated layers, as for `c_path`.
        refit: Train the chosen probe again, on training and validation examples together.

    Raises:
        InputError: As for `c_path`, or if the validation examples are not like the others.
    """
    trial = _Trial.of(train_x, train_y, validation_x, validation_y, blocks)
    values = np.unique(check_values(values_of_C)).tolist()
    trial.accuracies_at(values)
    return trial.selection(refit=refit)


def clip_select_c(
    train_x: Array,
    train_y: Array,
    validation_x: Array,
    validation_y: Array,
    *,
    blocks: Sequence[int] = (),
    refit: bool = True,
) -> Selection:
    """CLIP's sweep: 96 steps from 1e-6 to 1e6, by parametric binary search.

    The probe is chosen by one standard error among all values that the search tries.

    Raises:
        InputError: As for `select_c`.
    """
    trial = _Trial.of(train_x, train_y, validation_x, validation_y, blocks)
    binary_search(lambda steps: trial.accuracies_at([10 ** (s / CLIP_STEPS) for s in steps]))
    return trial.selection(refit=refit)


def binary_search(accuracies_at: Callable[[list[int]], list[float]]) -> int:
    """The best step that halving the distance around the best so far comes to.

    Seven values a factor of 100 apart come first; then the neighbours of the best one at half the
    distance, until neighbours are an eighth of a factor of ten apart. A tie goes to the smaller.

    Args:
        accuracies_at: From steps on the grid of C to accuracies.

    Example:
        >>> binary_search(lambda steps: [-abs(step - 13) for step in steps])
        13
    """
    steps, width = list(CLIP_FIRST), CLIP_FIRST.step
    best = steps[int(np.argmax(accuracies_at(steps)))]
    while width > 1:
        width //= 2
        steps = [s for s in (best - width, best, best + width) if abs(s) <= CLIP_FIRST[-1]]
        best = steps[int(np.argmax(accuracies_at(steps)))]
    return best


def dinov2_probe(
    features: Array, labels: Array, *, blocks: Sequence[int] = (), seed: int = 0
) -> Selection:
    """DINOv2's protocol: 45 values of C, a tenth of the examples to choose by, then all to train.

    Raises:
        InputError: As for `select_c` and `validation_split`.
    """
    x = matrix(features, "training features", least=2)
    y = labels_of(labels, len(x))
    train, validation = validation_split(y, seed=seed)
    return select_c(x[train], y[train], x[validation], y[validation], blocks=blocks)


@dataclass(frozen=True)
class _Trial:
    """Training and validation examples, and the probes tried so far with their accuracies."""

    train_x: Tensor
    train_y: Tensor
    validation_x: Tensor
    validation_y: Tensor
    blocks: Sequence[int]
    tried: dict[float, tuple[LinearProbe, float]] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        train_x: Array,
        train_y: Array,
        validation_x: Array,
        validation_y: Array,
        blocks: Sequence[int],
    ) -> "_Trial":
        train, validation = matrix(train_x, "training features"), matrix(validation_x)
        labels = labels_of(train_y, len(train)), labels_of(validation_y, len(validation))
        return cls(train, labels[0], validation.to(train), labels[1], blocks)

    def accuracies_at(self, values_of_C: list[float]) -> list[float]:
        new = [C for C in values_of_C if C not in self.tried]
        if new:
            truth = self.validation_y.numpy()
            for probe in c_path(self.train_x, self.train_y, new, blocks=self.blocks):
                right = probe.predict(self.validation_x) == truth
                self.tried[probe.C] = probe, float(right.mean())
        return [self.tried[C][1] for C in values_of_C]

    def selection(self, *, refit: bool) -> Selection:
        values = sorted(self.tried)
        probes, accuracies = zip(*(self.tried[C] for C in values), strict=True)
        chosen = probes[one_standard_error(np.array(accuracies), len(self.validation_y))]
        return Selection(
            probe=self._refitted(chosen.C) if refit else chosen,
            values_of_C=np.array(values),
            accuracies=np.array(accuracies),
            num_validation=len(self.validation_y),
            num_unconverged=sum(not probe.converged for probe in probes),
        )

    def _refitted(self, C: float) -> LinearProbe:
        x = torch.cat([self.train_x, self.validation_x])
        y = torch.cat([self.train_y, self.validation_y])
        return c_path(x, y, [C], blocks=self.blocks)[0]
