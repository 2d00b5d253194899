r"""The trained classifier on masked features: dropout's training noise at test time.

.. math:: W (m \odot z) / (1 - \lambda) + b, \qquad m_j \sim B(1 - \lambda)

Nothing is fitted again, so this says how well the *classifier* tolerates lost units; what the
rest of the units still hold is the question of `probes.redundancy.diffused`.

Shapes: N examples, D features, K classes, R rates.

References:
    | Fine-tuning with Very Large Dropout (Zhang & Bottou, 2024)
    | https://arxiv.org/abs/2403.00946
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Generator, Tensor

from analysis.intervals import NUM_RESAMPLES, Row, bootstrap_counts, ratio_interval
from core.arrays import Array, labels_of, matrix, row_blocks
from core.errors import InputError
from core.records import Metric

RATES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99)
METRICS = {
    "masked_accuracy": Metric(
        title="accuracy with masked features",
        direction="higher",
        low=0.0,
        high=1.0,
        coordinate="mask rate",
        reference="Zhang & Bottou 2024, arXiv 2403.00946",
    )
}


@dataclass(frozen=True)
class MaskedAccuracy:
    """Accuracy at every rate.

    Attributes:
        rates: Probability that a unit is masked.
        kept_units: Units left on average.
        rows: A value with its interval over test examples for each rate, which is its `at`.
    """

    rates: tuple[float, ...]
    kept_units: tuple[float, ...]
    rows: tuple[Row, ...]


def masked_accuracy(
    weight: Array,
    bias: Array,
    features: Array,
    labels: Array,
    rates: Sequence[float] = RATES,
    *,
    draws: int = 20,
    seed: int = 0,
    num_resamples: int = NUM_RESAMPLES,
) -> MaskedAccuracy:
    """Mean accuracy of a trained classifier under masks, by rate.

    Every example has a mask of its own in every draw, and what a lower rate masks, a higher one
    does too. As masks are independent between examples, the interval over examples holds the
    chance of the masks.

    Args:
        weight: Of the classifier, one row per class.
        bias: Of the classifier, one number per class.
        features: What the classifier reads, one row per example.
        labels: Class indices.
        rates: Probabilities that a unit is masked.
        draws: Masks of each example.
        seed: Of masks and resamples.
        num_resamples: Of the examples.

    Raises:
        InputError: If shapes disagree, a label is no class of the classifier, or a rate is not in
            [0, 1).
    """
    x = matrix(features)
    w, b = _classifier(weight, bias, x)
    y = labels_of(labels, len(x)).to(x.device)
    _check(y, len(w), rates, draws)
    share = _share_correct(x, y, w, b, rates, draws, Generator().manual_seed(seed)).cpu().numpy()
    counts = bootstrap_counts({"examples": len(x)}, seed=seed, num_resamples=num_resamples)
    rows = [
        {"metric": "masked_accuracy", "at": rate, **ratio_interval(s, np.ones_like(s), counts)}
        for rate, s in zip(rates, share, strict=True)
    ]
    kept = tuple((1 - rate) * x.shape[1] for rate in rates)
    return MaskedAccuracy(tuple(rates), kept, tuple(rows))


def masked_logits(
    features: Float[Tensor, "N D"],
    weight: Float[Tensor, "K D"],
    bias: Float[Tensor, " K"],
    uniform: Float[Tensor, "N D"],
    rate: float,
) -> Float[Tensor, "N K"]:
    """Logits where units whose uniform number is below the rate are masked.

    On average over uniform numbers they are the plain logits.

    Example:
        >>> ones = torch.ones(1, 2)
        >>> masked_logits(ones, ones, torch.zeros(1), torch.tensor([[0.2, 0.7]]), rate=0.5)
        tensor([[2.]])
    """
    return (features * (uniform >= rate) / (1 - rate)) @ weight.mT + bias


def _share_correct(
    x: Float[Tensor, "N D"],
    y: Int64[Tensor, " N"],
    weight: Float[Tensor, "K D"],
    bias: Float[Tensor, " K"],
    rates: Sequence[float],
    draws: int,
    generator: Generator,
) -> Float[Tensor, "R N"]:
    """Share of the draws in which each example is classified correctly."""
    blocks, start = [], 0
    for block in row_blocks(x):
        label = y[start : (start := start + len(block))]
        hits = block.new_zeros(len(rates), len(block))
        for _ in range(draws):
            uniform = torch.rand(block.shape, generator=generator, dtype=block.dtype).to(block)
            for hit, rate in zip(hits, rates, strict=True):
                hit += masked_logits(block, weight, bias, uniform, rate).argmax(1) == label
        blocks.append(hits / draws)
    return torch.cat(blocks, 1)


def _classifier(
    weight: Array, bias: Array, x: Float[Tensor, "N D"]
) -> tuple[Float[Tensor, "K D"], Float[Tensor, " K"]]:
    w = matrix(weight, "classifier weights", least=2).double().to(x.device)
    b = torch.as_tensor(bias).double().to(x.device)
    if w.shape[1] != x.shape[1] or b.shape != (len(w),):
        raise InputError(
            f"the classifier has weights {tuple(w.shape)} and biases {tuple(b.shape)}, the "
            f"features {x.shape[1]} columns; weights (classes, {x.shape[1]}) and one bias per "
            "class were expected"
        )
    return w, b


def _check(y: Int64[Tensor, " N"], num_classes: int, rates: Sequence[float], draws: int) -> None:
    if int(y.max()) >= num_classes:
        raise InputError(
            f"the largest label is {int(y.max())} and the classifier has {num_classes} classes; "
            f"labels from 0 to {num_classes - 1} were expected"
        )
    if not rates or not all(0 <= rate < 1 for rate in rates) or draws < 1:
        raise InputError(
            f"the rates are {list(rates)} with {draws} draws; 0 <= rate < 1 and at least 1 draw "
            "were expected"
        )
