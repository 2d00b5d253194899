"""Tests for probes/transfer/knn.py: a loop over examples, and what cosine does not see."""

import math

import numpy as np
import pytest
import torch
from numpy.random import default_rng
from numpy.testing import assert_array_equal

from core.errors import InputError
from probes.transfer import knn_predictions


@pytest.fixture
def examples() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = default_rng(0)
    return rng.normal(size=(60, 5)) + 0.5, rng.integers(4, size=60), rng.normal(size=(23, 5)) + 0.5


def by_a_loop(
    x: np.ndarray, y: np.ndarray, test: np.ndarray, k: int, temperature: float
) -> list[int]:
    predictions = []
    for row in test:
        cosines = [float(row @ a / math.sqrt((row @ row) * (a @ a))) for a in x]
        votes = dict.fromkeys(range(int(y.max()) + 1), 0.0)
        for i in sorted(range(len(x)), key=lambda i: -cosines[i])[:k]:
            votes[int(y[i])] += math.exp(cosines[i] / temperature)
        predictions.append(max(votes, key=lambda c: votes[c]))
    return predictions


@pytest.mark.parametrize("temperature", [0.07, 1.0])
def test_loop(examples: tuple[np.ndarray, np.ndarray, np.ndarray], temperature: float) -> None:
    found = knn_predictions(*examples, neighbours=[1, 7, 60], temperature=temperature)
    for k, predictions in found.items():
        assert_array_equal(predictions, by_a_loop(*examples, k, temperature))


def test_blocks_change_nothing(
    examples: tuple[np.ndarray, np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = knn_predictions(*examples, neighbours=[5])[5]
    monkeypatch.setattr(f"{knn_predictions.__module__}.BLOCK_BYTES", 8 * 60 * 4)
    assert_array_equal(knn_predictions(*examples, neighbours=[5])[5], whole)


def test_lengths_and_rotations_do_not_matter(
    examples: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    x, y, test = examples
    rng = default_rng(1)
    rotation = np.linalg.qr(rng.normal(size=(5, 5)))[0]
    scaled = x * rng.uniform(0.1, 9, (60, 1)) @ rotation
    assert_array_equal(
        knn_predictions(scaled, y, torch.from_numpy(test @ rotation), neighbours=[9])[9],
        knn_predictions(x, y, test, neighbours=[9])[9],
    )


def test_nearest_of_the_training_examples_is_itself(
    examples: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> None:
    x, y, _ = examples
    assert_array_equal(knn_predictions(x, y, x, neighbours=[1])[1], y)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"neighbours": [61]}, "from 1 to the 60 training examples"),
        ({"neighbours": []}, "from 1 to the 60 training examples"),
        ({"temperature": 0.0}, "a positive number was expected"),
    ],
)
def test_options_that_cannot_be(
    examples: tuple[np.ndarray, np.ndarray, np.ndarray], change: dict, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        knn_predictions(*examples, **{"neighbours": [1], **change})


def test_zero_has_no_direction(examples: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    x, y, test = examples
    with pytest.raises(InputError, match="1 of 23 rows of test features are zero"):
        knn_predictions(x, y, test * (np.arange(23) > 0)[:, None], neighbours=[1])
