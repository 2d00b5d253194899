"""Tests for probes/transfer/selection.py: rules worked by hand, no leak, published grids."""

import numpy as np
import pytest
from numpy.random import default_rng
from numpy.testing import assert_allclose, assert_array_equal

from core.errors import InputError
from probes.transfer import c_path, clip_select_c, dinov2_probe, select_c
from probes.transfer.selection import (
    DINOV2_GRID,
    binary_search,
    one_standard_error,
    validation_split,
)


def clusters(n: int, seed: int, apart: float = 0.7) -> tuple[np.ndarray, np.ndarray]:
    rng = default_rng(seed)
    y = np.arange(n) % 3
    means = apart * default_rng(99).normal(size=(3, 8))
    return rng.normal(size=(n, 8)) + means[y], y


@pytest.mark.parametrize(
    ("accuracies", "num", "chosen"),
    [
        # Best 0.8 of 100: the standard error is 0.04, so that 0.76 counts and 0.75 does not.
        ([0.5, 0.75, 0.76, 0.8, 0.7], 100, 2),
        # Of 10,000 it is 0.004.
        ([0.5, 0.75, 0.76, 0.8, 0.7], 10_000, 3),
        ([0.5, 0.75, 0.76, 0.796, 0.8], 10_000, 3),
        # All right has no error: the first that is all right.
        ([0.99, 1.0, 1.0], 100, 1),
        ([0.0, 0.0], 5, 0),
    ],
)
def test_one_standard_error(accuracies: list[float], num: int, chosen: int) -> None:
    assert one_standard_error(np.array(accuracies), num) == chosen


def test_selection_is_the_rule_on_the_path_and_a_refit_on_everything() -> None:
    train, validation = clusters(60, 0), clusters(30, 1)
    values = [1e-3, 1e-1, 10.0]
    selection = select_c(*train, *validation, values)

    path = c_path(*train, values)
    accuracies = np.array([np.mean(p.predict(validation[0]) == validation[1]) for p in path])
    assert_array_equal(selection.accuracies, accuracies)
    assert values[one_standard_error(accuracies, 30)] == selection.probe.C
    both = [np.concatenate(pair) for pair in zip(train, validation, strict=True)]
    refit = c_path(both[0], both[1], [selection.probe.C])[0]
    assert_array_equal(selection.probe.coef, refit.coef)
    assert_allclose(selection.probe.mean, both[0].mean(0))
    assert selection.num_unconverged == 0


def test_without_refit_the_validation_examples_train_nothing() -> None:
    train, validation = clusters(60, 0), clusters(30, 1)
    probe = select_c(*train, *validation, [0.1], refit=False).probe
    assert_allclose(probe.mean, train[0].mean(0))
    assert_array_equal(probe.coef, c_path(*train, [0.1])[0].coef)


def test_grid_of_dinov2() -> None:
    assert len(DINOV2_GRID) == 45
    assert_allclose(DINOV2_GRID[[0, -1]], [1e-6, 1e5])
    assert_allclose(np.diff(np.log10(DINOV2_GRID)), 0.25)


def test_dinov2_protocol_uses_a_tenth_and_reproduces() -> None:
    x, y = clusters(200, 0)
    first, second = dinov2_probe(x, y, seed=1), dinov2_probe(x, y, seed=1)
    assert first.num_validation == 20
    assert_array_equal(first.values_of_C, DINOV2_GRID)
    assert_array_equal(first.probe.coef, second.probe.coef)
    assert_allclose(first.probe.mean, x.mean(0))


@pytest.mark.parametrize("peak", range(-48, 49))
def test_binary_search_finds_every_single_peak(peak: int) -> None:
    visited: list[int] = []

    def accuracies(steps: list[int]) -> list[float]:
        visited.extend(steps)
        return [-abs(step - peak) for step in steps]

    assert binary_search(accuracies) == peak
    assert visited[:7] == [-48, -32, -16, 0, 16, 32, 48]
    assert max(map(abs, visited)) <= 48
    assert len(set(visited)) <= 7 + 4 * 2


def test_clip_sweep_tries_seven_values_and_then_eighths_of_a_decade() -> None:
    selection = clip_select_c(*clusters(60, 0), *clusters(40, 1))
    steps = 8 * np.log10(selection.values_of_C)
    assert_allclose(steps, np.round(steps), atol=1e-9)
    assert set(np.round(steps)) >= {-48, -32, -16, 0, 16, 32, 48}
    assert np.diff(steps).min() == pytest.approx(1)
    best = selection.accuracies.max()
    error = np.sqrt(best * (1 - best) / 40)
    within = selection.values_of_C[selection.accuracies >= best - error]
    assert within.min() == selection.probe.C


def test_split_is_stratified_and_disjoint() -> None:
    y = np.repeat([0, 1, 2], [50, 30, 20])
    train, validation = validation_split(y, seed=3)
    assert_array_equal(np.sort(np.concatenate([train, validation])), np.arange(100))
    assert_array_equal(np.bincount(y[validation]), [5, 3, 2])
    assert_array_equal(validation, validation_split(y, seed=3)[1])
    assert not np.array_equal(validation, validation_split(y, seed=4)[1])


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.array([0] * 30 + [1]), "class 1 has one example; at least two"),
        (np.arange(12) % 3, "validates on 2 and leaves 10; at least 3 each"),
    ],
)
def test_split_that_cannot_be(labels: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=message):
        validation_split(labels)
