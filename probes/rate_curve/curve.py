r"""Accuracy of a linear layer at a dropout rate: by dropout, by ridge, by closed form.

"Dropout is ridge" as a curve. On the same features and at every rate a linear layer comes from

| way | squared loss | cross-entropy |
|---|---|---|
| dropout | SGD with fresh masks (`probes.dropout_head`) | the same |
| ridge | one strength for all features (`ridge_head`) | the same |
| closed form | `least_squares_head`, exact | `cross_entropy_head`, to second order |

Targets of the squared loss are one-hot labels. All ways share the weight decay of the
cross-entropy, except that ridge leaves its intercept free as usual.

Intervals are over test examples and, by dropout, over repeats with other masks and batches, whose
spread is added with Student's t. They know nothing of what all repeats share, an SGD that has not
converged. Two numbers tell: how far the training loss is above the closed form's, which nothing
undercuts for the squared loss, and what it still fell by in the second half of the steps, which
tells it for the cross-entropy too, where the closed form approximates and may be undercut. Where
either is not at most `CONVERGED`, the difference of accuracies has no interval and decides
nothing.

A small excess leaves the weights of features open that training examples hardly ever activate;
an environment that does activate them can tell two layers of the same loss apart.

Shapes: N examples, M test examples, D features, C classes, S repeats.

References:
    | Dropout Training as Adaptive Regularization (Wager, Wang & Liang, 2013)
    | https://arxiv.org/abs/1307.1493
    | Fine-tuning with Very Large Dropout (Zhang & Bottou, 2024)
    | https://arxiv.org/abs/2403.00946
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Int64
from scipy.stats import norm
from torch import Tensor
from torch.nn.functional import one_hot

from analysis.dropout_ridge_verdict import (
    CLOSED_FORM,
    CONVERGED,
    DROPOUT,
    RIDGE,
    excess_of,
    settling_of,
)
from analysis.intervals import LEVEL, Row
from core.arrays import Array, labels_of, matrix
from core.errors import InputError
from probes.dropout_head import STEPS, Loss, Targets, Trained, dropout_head, excess_loss
from probes.dropout_ridge import Features, Head, cross_entropy_head, least_squares_head
from probes.rate_curve.ridge import ridge_head
from probes.rate_curve.rows import Examples, accuracy_rows, difference_rows

DECAY = 1e-3  # of the cross-entropy, whose minimiser would lie at infinity without
REPEATS = 3


class Heads(NamedTuple):
    """The layers of one rate, by way."""

    dropout: list[Trained]
    ridge: Head
    closed_form: Head


def rate_rows(
    train: Array,
    train_labels: Array,
    tests: Mapping[str, Examples],
    rate: float,
    *,
    loss: Loss,
    decay: float = DECAY,
    steps: int = STEPS,
    repeats: int = REPEATS,
    seed: int = 0,
) -> Iterator[Row]:
    """Rows of `METRICS` at one rate, on each environment and on all of a split.

    Args:
        train: Features to train on.
        train_labels: Their class indices.
        tests: Environments to test on, by name.
        rate: Of the dropout.
        loss: `squared` or `cross_entropy`.
        decay: Weight decay of the cross-entropy; the squared loss has none.
        steps: Of SGD with dropout.
        repeats: How many times it runs; once, its own spread is not in the intervals.
        seed: Decides its batches and masks.

    Raises:
        InputError: If features and labels do not fit, a class below the largest label has no
            training example, there is nothing to test on, or the rate is not in [0, 1).
    """
    x = matrix(train, "training features").double()
    y = labels_of(train_labels, len(x)).to(x.device)
    _check(y, tests, repeats)
    decay = decay if loss == "cross_entropy" else 0.0
    heads = heads_at(x, y, rate, loss, decay, steps, range(seed, seed + repeats))
    groups = {
        DROPOUT: [trained.head for trained in heads.dropout],
        RIDGE: [heads.ridge],
        CLOSED_FORM: [heads.closed_form],
    }
    correct = {
        way: {env: np.stack([_correct(h, test) for h in group]) for env, test in tests.items()}
        for way, group in groups.items()
    }
    losses = list(_loss_rows(heads, x, y, rate, loss, decay, seed))
    reason = _unsolved(losses, heads.closed_form)
    at = {"at": rate}
    yield from (row | at for row in losses)
    yield from (row | at for row in accuracy_rows(loss, correct, tests))
    for row in difference_rows(loss, correct, tests):
        yield row | at | ({"low": None, "high": None, "reason": reason} if reason else {})


def heads_at(
    x: Features,
    y: Int64[Tensor, " N"],
    rate: float,
    loss: Loss,
    decay: float,
    steps: int,
    seeds: Sequence[int],
) -> Heads:
    """The layers of one rate, by dropout once a seed."""
    targets = one_hot(y).double()
    exact = (
        least_squares_head(x, targets, rate)
        if loss == "squared"
        else cross_entropy_head(x, y, rate, decay=decay)
    )
    return Heads(
        dropout=[
            dropout_head(x, targets, rate, loss=loss, decay=decay, steps=steps, seed=seed)
            for seed in seeds
        ],
        ridge=ridge_head(x, y, rate, loss=loss, decay=decay),
        closed_form=exact,
    )


def _loss_rows(
    heads: Heads,
    x: Features,
    y: Int64[Tensor, " N"],
    rate: float,
    loss: Loss,
    decay: float,
    seed: int,
) -> Iterator[Row]:
    """How far the training loss is from the closed form's, and from its own of half the steps."""
    targets = one_hot(y).double()
    pairs = {
        excess_of(loss): [(trained.head, heads.closed_form) for trained in heads.dropout],
        settling_of(loss): [(trained.halfway, trained.head) for trained in heads.dropout],
    }
    for metric, compared in pairs.items():
        found = [
            excess_loss(a, b, x, targets, rate, loss=loss, decay=decay, seed=seed)
            for a, b in compared
        ]
        value, stderr = (float(n) for n in np.mean(found, 0) / _without_features(targets, loss))
        half = float(norm.ppf((1 + LEVEL) / 2)) * stderr
        ends = {"low": value - half, "high": value + half}
        place = {"env": "all", "split": "train", "num_examples": len(x)}
        yield {"metric": metric, "value": value, "stderr": stderr, **ends, **place}


def _without_features(targets: Targets, loss: Loss) -> float:
    """Loss of a layer that has its bias only."""
    share = targets.mean(0)
    if loss == "squared":
        return float(1 - share.square().sum()) / 2
    return -float(share @ share.log())


def _unsolved(losses: Sequence[Row], closed_form: Head) -> str:
    """Why the difference decides nothing; empty where it may."""
    if not closed_form.converged:
        return "the solver of the closed form has not converged"
    excess, settling = losses
    if not excess["low"] <= CONVERGED:  # which NaN is not either
        return (
            f"SGD has not converged: its training loss is {excess['value']:.2g} of that without "
            f"features above the closed form's, {CONVERGED:g} were allowed; raise --steps"
        )
    if not settling["low"] <= CONVERGED:
        return (
            f"SGD has not converged: its training loss still fell by {settling['value']:.2g} of "
            f"that without features, {CONVERGED:g} were allowed; raise --steps"
        )
    return ""


def _correct(head: Head, test: Examples) -> Bool[np.ndarray, " M"]:
    x = matrix(test.features, "test features")
    truth = labels_of(test.labels, len(x)).numpy()
    return head(x.to(head.weight.device)).argmax(1).cpu().numpy() == truth


def _check(y: Int64[Tensor, " N"], tests: Mapping[str, Examples], repeats: int) -> None:
    counts = torch.bincount(y)
    if len(counts) < 2 or int(counts.min()) == 0:
        raise InputError(
            f"classes have {counts.tolist()} training examples; at least two classes, and an "
            "example of every class, were expected"
        )
    if repeats < 1:
        raise InputError(f"repeats is {repeats}; at least 1 was expected")
    if not tests:
        raise InputError("there are no environments to test on; at least one was expected")
