"""Tests for probes/transfer/transfer_gap.py: a head that fails, features that are lost."""

import numpy as np
import pytest
from numpy.random import default_rng
from numpy.testing import assert_allclose, assert_array_equal

from core.errors import InputError
from probes.transfer import dinov2_probe, source_and_target_probes
from probes.transfer.transfer_gap import paired_difference

D = 6


def domain(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    y = np.arange(n) % 3
    return default_rng(seed).normal(size=(n, D)) + 3 * np.eye(3, D)[y], y


def test_same_domain_has_no_gap() -> None:
    gap = source_and_target_probes(*domain(240, 0), *domain(240, 1))
    row = gap.rows()["transfer_gap"]
    assert row["low"] <= 0 <= row["high"]
    assert gap.num_unconverged == 0
    assert (gap.num_source, gap.num_target) == (240, 192)


def test_classes_that_change_places_are_the_heads_failure() -> None:
    x, y = domain(240, 1)
    rows = source_and_target_probes(*domain(240, 0), x[:, [1, 2, 0, 3, 4, 5]], y).rows()
    assert rows["source_probe_accuracy"]["value"] < 0.2
    assert rows["target_probe_accuracy"]["value"] > 0.8
    assert rows["transfer_gap"]["low"] > 0.6


def test_features_that_lost_the_classes_show_no_gap() -> None:
    x, y = domain(240, 1)
    rows = source_and_target_probes(*domain(240, 0), x - 3 * np.eye(3, D)[y], y).rows()
    assert rows["target_probe_accuracy"]["value"] < 0.5
    assert abs(rows["transfer_gap"]["value"]) < 0.15


def test_source_probe_never_sees_statistics_of_the_target() -> None:
    """Shifted target features meet the same probe; standardising them would undo the shift."""
    source, (x, y) = domain(240, 0), domain(120, 1)
    shift = np.array([4.0, 0, 0, 0, 0, 0])
    gap = source_and_target_probes(*source, x + shift, y)
    probe = dinov2_probe(*source).probe
    assert_array_equal(gap.source_right, probe.predict(x + shift) == y)
    assert gap.source_right.mean() < 0.6 < gap.target_right.mean()
    half = probe.predict((x + shift)[:60]) == y[:60]
    assert_array_equal(gap.source_right[:60], half)


def test_values_are_means_over_the_same_examples_and_seeds_reproduce() -> None:
    data = *domain(120, 0), *domain(90, 1)
    gap, again = (source_and_target_probes(*data, seed=4) for _ in range(2))
    rows = gap.rows(seed=1)
    difference = rows["target_probe_accuracy"]["value"] - rows["source_probe_accuracy"]["value"]
    assert_allclose(rows["transfer_gap"]["value"], difference, atol=1e-12)
    assert rows == again.rows(seed=1)
    assert {row["num_examples"] for row in rows.values()} == {90}


def test_paired_interval_is_narrower_than_an_unpaired_one() -> None:
    rng = default_rng(0)
    ours = (rng.random(400) < 0.7).astype(float)
    other = np.where(rng.random(400) < 0.05, 0, ours)
    row = paired_difference(ours, other)
    # Exact standard error of a mean of paired differences.
    assert_allclose(row["stderr"], (ours - other).std() / 20, rtol=0.1)
    assert row["stderr"] < 0.5 * np.sqrt(ours.var() + other.var()) / 20


@pytest.mark.parametrize(
    ("labels", "folds", "message"),
    [
        (np.arange(60) % 4, 5, r"classes \[3\] that the source does not have"),
        (np.array([0, 1] * 28 + [2] * 4), 5, "class 2 has 4 examples there"),
        (np.arange(60) % 3, 1, "at least 2 folds"),
        (np.zeros(60, int), 5, "all 60 examples of target features are of class 0"),
    ],
)
def test_targets_that_cannot_be(labels: np.ndarray, folds: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        source_and_target_probes(*domain(120, 0), domain(60, 1)[0], labels, folds=folds)


def test_other_width() -> None:
    x, y = domain(60, 1)
    with pytest.raises(InputError, match="target features have 5 columns"):
        source_and_target_probes(*domain(120, 0), x[:, 1:], y)
