"""Tests for probes/transfer/checks.py: every measure refuses what it cannot work with."""

from collections.abc import Callable

import numpy as np
import pytest
from numpy.random import default_rng

from core.errors import InputError
from probes.transfer import METRICS, c_path, h_score, logme, n_leep, transrate

X, Y = default_rng(0).normal(size=(12, 3)), np.arange(12) % 2
MEASURES = [
    logme,
    h_score,
    transrate,
    n_leep,
    lambda x, y: c_path(x, y, [1.0]),
]
every_measure = pytest.mark.parametrize("measure", MEASURES)
WRONG = {
    "one class": (X, np.zeros(12, int), "all 12 examples .* are of class 0; at least two classes"),
    "too many classes": (X, np.append(Y[:11], 12), "means 13 classes, but .* have 12 examples"),
    "constant": (np.full((12, 3), 2.0), Y, "are the same for all 12 examples"),
    "one example": (X[:1], Y[:1], "have 1 examples; at least 2"),
    "lengths": (X, Y[:11], "one label per example was expected"),
    "fractions": (X, Y / 2, "class indices .* were expected"),
    "negative": (X, Y - 1, "class indices start at 0"),
    "NaN": (np.where(X.max() == X, np.nan, X), Y, "hold NaN or infinity"),
    "images": (X[None], Y, "a matrix with one row per example"),
}


@every_measure
@pytest.mark.parametrize("name", WRONG)
def test_wrong_input(measure: Callable, name: str) -> None:
    x, y, message = WRONG[name]
    with pytest.raises(InputError, match=message):
        measure(x, y)


def test_every_metric_has_a_source_and_a_title() -> None:
    assert all(metric.title and metric.reference for metric in METRICS.values())
    assert len({metric.title for metric in METRICS.values()}) == len(METRICS)
