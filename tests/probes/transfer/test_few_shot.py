"""Tests for probes/transfer/few_shot.py: the draws, the seeds and the interval over them."""

import numpy as np
import pytest
from numpy.random import default_rng
from numpy.testing import assert_allclose, assert_array_equal

from core.errors import InputError
from probes.transfer import few_shot
from probes.transfer.few_shot import FewShot, draw


def clusters(n: int, seed: int, apart: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    y = np.arange(n) % 3
    return default_rng(seed).normal(size=(n, 6)) + apart * default_rng(9).normal(size=(3, 6))[y], y


@pytest.mark.parametrize(("shots", "more"), [(1, 1), (2, 2), (4, 4), (8, 4), (16, 4)])
def test_sizes_per_class(shots: int, more: int) -> None:
    y = np.repeat([0, 1, 2], [20, 40, 60])
    train, validation = draw(y, shots, seed=0)
    assert_array_equal(np.bincount(y[train]), [shots] * 3)
    assert_array_equal(np.bincount(y[validation]), [more] * 3)
    assert not set(train) & set(validation)


def test_draws_depend_on_the_seed_only_and_are_nested() -> None:
    y = np.arange(90) % 3
    few, many = draw(y, 4, seed=5), draw(y, 16, seed=5)
    assert_array_equal(few.train, draw(y, 4, seed=5).train)
    assert not np.array_equal(few.train, draw(y, 4, seed=6).train)
    assert set(few.train) < set(many.train)
    assert_array_equal(few.validation, many.validation)


def test_every_example_is_drawn_equally_often() -> None:
    y = np.arange(20) % 2
    counts = np.bincount(np.concatenate([draw(y, 5, seed=s).train for s in range(400)]))
    # Half of the draws of each example: 200 +- 10 (one standard deviation).
    assert_allclose(counts, 200, atol=45)


def test_only_drawn_examples_are_used() -> None:
    """Whatever the others hold, the result is the same: no full validation set leaks in."""
    (x, y), test = clusters(60, 0), clusters(30, 1)
    drawn = np.concatenate(draw(y, 2, seed=3))
    spoilt = np.full_like(x, 1e3)
    spoilt[drawn] = x[drawn]
    first = few_shot(x, y, *test, shots=[2], seeds=[3])[0]
    second = few_shot(spoilt, y, *test, shots=[2], seeds=[3])[0]
    assert_array_equal(first.accuracies, second.accuracies)


def test_more_shots_help_and_seeds_reproduce() -> None:
    data = *clusters(120, 0), *clusters(90, 1)
    found = few_shot(*data, shots=[1, 16], seeds=range(3))
    again = few_shot(*data, shots=[1, 16], seeds=range(3))
    assert [f.shots for f in found] == [1, 16]
    assert all(
        np.array_equal(a.accuracies, b.accuracies) for a, b in zip(found, again, strict=True)
    )
    assert found[1].accuracies.mean() > found[0].accuracies.mean() > 1 / 3
    row = found[0].row()
    assert row["low"] < row["value"] == found[0].accuracies.mean() < row["high"]
    assert row["num_examples"] == 90


def test_the_interval_knows_test_examples_and_draws() -> None:
    """Equal draws leave the binomial error of the test examples, and different ones add theirs."""
    generator = np.random.default_rng(0)
    hits = generator.random(500) < 0.6
    same = FewShot(shots=1, right=np.stack([hits] * 5), values_of_C=np.ones(5)).row()
    assert same["value"] == hits.mean()
    assert same["stderr"] == pytest.approx((0.6 * 0.4 / 500) ** 0.5, rel=0.1)
    accuracies = np.array([0.2, 0.4, 0.5, 0.6, 0.8])
    far = np.arange(5000) < 5000 * accuracies[:, None]
    differ = FewShot(shots=1, right=far, values_of_C=np.ones(5)).row()
    assert differ["stderr"] == pytest.approx(accuracies.std() / 5**0.5, rel=0.1)


@pytest.mark.slow
def test_intervals_cover_the_accuracy_of_the_population() -> None:
    """Few draws from few examples, tested on few: no overconfidence, up to what overlaps."""
    (x, y), covered = clusters(6000, 0), 0
    for seed in range(20):
        generator = np.random.default_rng(seed)
        train, test = generator.permutation(3000)[:60], 3000 + generator.permutation(3000)[:60]
        found = few_shot(x[train], y[train], x[test], y[test], shots=[1])[0].row()
        truth = few_shot(x[train], y[train], x[3000:], y[3000:], shots=[1], seeds=range(30))[0]
        covered += found["low"] <= truth.accuracies.mean() <= found["high"]
    assert covered >= 16  # of 20; below 16 of 95 % intervals happens once in 400


@pytest.mark.parametrize("shots", [0, 8])
def test_too_few_examples(shots: int) -> None:
    with pytest.raises(InputError, match=f"{shots} shots need .* ask for fewer"):
        draw(np.arange(30) % 3, shots, seed=0)
