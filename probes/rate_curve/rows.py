r"""Rows of a rate curve: accuracies by way, and the closed form less dropout.

Shapes: M test examples, S repeats.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from scipy.stats import t as student

from analysis.dropout_ridge_verdict import (
    CLOSED_FORM,
    DROPOUT,
    LOSSES,
    WAYS,
    accuracy_of,
    difference_of,
    excess_of,
    settling_of,
)
from analysis.intervals import LEVEL, Row, proportion_interval
from analysis.paired_examples import paired_difference
from core.arrays import Array
from core.records import Metric
from probes.places import places

WAGER = "Wager, Wang & Liang 2013, arXiv 1307.1493"
_RATE = "dropout rate"


def _metrics(loss: str) -> dict[str, Metric]:
    said = loss.replace("_", "-") if loss == "cross_entropy" else f"{loss} loss"
    share = "share of the loss without features"
    accuracies = {
        accuracy_of(loss, way): Metric(
            title=f"accuracy of a linear layer by {shown}, {said}",
            direction="higher",
            low=0.0,
            high=1.0,
            coordinate=_RATE,
            reference=WAGER,
        )
        for way, shown in WAYS.items()
    }
    return accuracies | {
        difference_of(loss): Metric(
            title=f"accuracy of the closed form less that of dropout, {said}",
            low=-1.0,
            high=1.0,
            coordinate=_RATE,
            reference=WAGER,
        ),
        excess_of(loss): Metric(
            title=f"training loss by dropout above the closed form's, {share}, {said}",
            coordinate=_RATE,
            reference=WAGER,
        ),
        settling_of(loss): Metric(
            title=f"what the training loss fell by in the second half of the steps, {share}, "
            f"{said}",
            direction="lower",
            coordinate=_RATE,
        ),
    }


METRICS = {name: metric for loss in LOSSES for name, metric in _metrics(loss).items()}


class Examples(NamedTuple):
    """Features and labels of an environment, and what that was to the training."""

    features: Array
    labels: Array
    split: str = "given"


Correct = Mapping[str, Mapping[str, Bool[np.ndarray, "S _"]]]  # by way and environment


def accuracy_rows(loss: str, correct: Correct, tests: Mapping[str, Examples]) -> Iterator[Row]:
    """Of every way, on each environment and on all of a split together."""
    for way, by_env in correct.items():
        for columns, envs in places({env: test.split for env, test in tests.items()}):
            rows = [proportion_interval(once) for once in _pooled(by_env, envs)]
            yield {"metric": accuracy_of(loss, way), **columns, **over_repeats(rows)}


def difference_rows(loss: str, correct: Correct, tests: Mapping[str, Examples]) -> Iterator[Row]:
    """Of the closed form less dropout, paired over examples."""
    for columns, envs in places({env: test.split for env, test in tests.items()}):
        (exact,) = _pooled(correct[CLOSED_FORM], envs)
        trained = _pooled(correct[DROPOUT], envs)
        rows = [paired_difference(exact, once) for once in trained]
        yield {"metric": difference_of(loss), **columns, **over_repeats(rows)}


def over_repeats(rows: Sequence[Row]) -> Row:
    r"""The mean of S numbers on the same examples, its interval widened by their spread.

    The half-widths over examples, z s, and over repeats, :math:`t_{S-1} s_S / \sqrt S`, add up in
    squares: conservative, since the spread of repeats on few examples is partly theirs.

    Example:
        >>> rows = [dict(value=v, stderr=0, low=v, high=v, num_examples=9) for v in (0.4, 0.6)]
        >>> row = over_repeats(rows)
        >>> row["value"], round(row["high"] - row["value"], 3)  # 12.7 times 0.1
        (0.5, 1.271)
    """
    if len(rows) == 1:
        return rows[0]
    mean = {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
    error = float(np.std([row["value"] for row in rows], ddof=1)) / len(rows) ** 0.5
    spread = float(student.ppf((1 + LEVEL) / 2, len(rows) - 1)) * error
    value = mean["value"]
    return {
        "value": value,
        "stderr": float(np.hypot(mean["stderr"], error)),
        "low": value - float(np.hypot(value - mean["low"], spread)),
        "high": value + float(np.hypot(mean["high"] - value, spread)),
        "num_examples": rows[0]["num_examples"],
    }


def _pooled(
    by_env: Mapping[str, Bool[np.ndarray, "S _"]], envs: Sequence[str]
) -> Float[np.ndarray, "S M"]:
    return np.concatenate([by_env[env] for env in envs], 1).astype(float)
