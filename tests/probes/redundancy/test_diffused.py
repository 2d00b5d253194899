"""Tests for probes/redundancy/diffused.py."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from core.errors import InputError
from probes.redundancy import METRICS, diffused_redundancy, logistic_probe
from probes.redundancy.readout import scaled

FRACTIONS = (0.05, 0.1, 0.2, 0.5, 1.0)


@pytest.fixture
def options(quick_probe: Callable) -> dict[str, Any]:
    return {
        "probe": quick_probe,
        "fractions": FRACTIONS,
        "controls": False,
        "num_resamples": 100,
    }


def value(found: Any, metric: str) -> float:  # ruff: ignore[any-type]
    return found.row(metric)["value"]


def test_repeated_features_raise_the_redundancy_and_keep_the_accuracy(
    classes: Callable, options: dict[str, Any]
) -> None:
    train, labels, test, truth = classes(width=40)
    once = diffused_redundancy(train, labels, test, truth, **options)
    often = diffused_redundancy(train.repeat(1, 8), labels, test.repeat(1, 8), truth, **options)
    assert often.curve()[-1] == once.curve()[-1]
    assert value(often, "diffused_redundancy") > value(once, "diffused_redundancy")
    assert value(often, "subset_accuracy_area") > value(once, "subset_accuracy_area")


def test_copies_of_one_unit_are_all_redundant_and_a_single_good_unit_is_not(
    classes: Callable, options: dict[str, Any]
) -> None:
    train, labels, test, truth = classes(width=1, num_classes=2, signal=4)
    copies = diffused_redundancy(train.repeat(1, 20), labels, test.repeat(1, 20), truth, **options)
    assert value(copies, "diffused_redundancy") == pytest.approx(1 - 1 / 20)
    noisy = [torch.cat([x, 0.01 * torch.randn(400, 19)], 1) for x in (train, test)]
    single = diffused_redundancy(noisy[0], labels, noisy[1], truth, **options, delta=0.99)
    assert value(single, "diffused_redundancy") == 0


def test_every_subset_is_probed_on_its_own_scaled_units(
    classes: Callable, quick_probe: Callable, options: dict[str, Any]
) -> None:
    train, labels, test, truth = classes(width=20)
    seen: list[tuple[Tensor, Tensor]] = []

    def probe(train_x: Tensor, train_y: Tensor, test_x: Tensor) -> Tensor:
        seen.append((train_x, test_x))
        assert torch.equal(train_y, labels)
        return quick_probe(train_x, train_y, test_x)

    found = diffused_redundancy(train, labels, test, truth, **options | {"probe": probe})
    assert [x.shape[1] for x, _ in seen] == [1] * 5 + [2] * 5 + [4] * 5 + [10] * 5 + [20]
    whole, columns = scaled(train, test)[0] * 20**0.5, []
    for x, z in seen:
        unscaled = x * x.shape[1] ** 0.5
        column = [int((whole - unit[:, None]).norm(dim=0).argmin()) for unit in unscaled.T]
        columns.append(column)
        expected = scaled(train[:, column], test[:, column])
        torch.testing.assert_close((x, z), expected)
    assert all(len(set(column)) == len(column) for column in columns)
    assert columns[5][:1] == columns[0]  # nested
    assert len({tuple(column) for column in columns[10:15]}) == 5
    by_hand = [float((quick_probe(x, labels, z) == truth).double().mean()) for x, z in seen]
    np.testing.assert_allclose(found.by_subset[:-1].ravel(), by_hand[:-1])
    np.testing.assert_allclose(found.by_subset[-1], by_hand[-1])
    np.testing.assert_allclose(found.curve(), found.by_subset.mean(1))


def test_controls_find_the_signal_where_it_is(classes: Callable, options: dict[str, Any]) -> None:
    train, labels, test, truth = classes(width=1, num_classes=2, signal=4)
    rotation = torch.linalg.qr(torch.randn(20, 20)).Q
    x, z = (torch.cat([f, 0.1 * torch.randn(400, 19)], 1) @ rotation for f in (train, test))
    found = diffused_redundancy(x, labels, z, truth, **options | {"controls": True})
    top, bottom = (found.curve(f"{end}_components_accuracy") for end in ("top", "bottom"))
    assert top[0] > 0.95
    assert bottom[-2] < 0.6
    assert (found.curve("random_projection_accuracy")[1:] > 0.9).all()
    for metric in METRICS:
        if metric.endswith("components_accuracy") or metric == "random_projection_accuracy":
            assert found.curve(metric)[-1] == found.curve()[-1]


def test_top_components_equal_an_explicit_decomposition(
    classes: Callable, quick_probe: Callable, options: dict[str, Any]
) -> None:
    train, labels, test, truth = classes(width=10)
    found = diffused_redundancy(train, labels, test, truth, **options | {"controls": True})
    vt = np.linalg.svd((train - train.mean(0)).numpy())[2]
    axes = torch.from_numpy(vt[:2].T)
    x, z = scaled(train @ axes, test @ axes)
    predicted = quick_probe(x, labels, z)
    expected = float((predicted == truth).double().mean())
    assert found.curve("top_components_accuracy")[1] == pytest.approx(expected)


def test_linearly_dependent_units_have_fewer_components(
    classes: Callable, options: dict[str, Any]
) -> None:
    train, labels, test, truth = classes(width=3, signal=2)
    mixing = torch.randn(3, 20)
    found = diffused_redundancy(
        train @ mixing, labels, test @ mixing, truth, **options | {"controls": True}
    )
    bottom = found.curve("bottom_components_accuracy")
    assert bottom[-2] == bottom[-3]  # ten and four of three components
    assert bottom[-2] > 0.8


def test_a_record_can_hold_every_row(classes: Callable, options: dict[str, Any]) -> None:
    found = diffused_redundancy(*classes(), **options | {"controls": True})
    for row in found.rows:
        metric = METRICS[row["metric"]]
        assert ("at" in row) == bool(metric.coordinate)
        assert row["low"] <= row["value"] <= row["high"]
        assert row["num_examples"] == 400
    assert found.units == (1, 2, 4, 10, 20)
    assert found.probe == "nearest_mean"
    assert found.chance == pytest.approx(134 / 400)


def test_the_default_probe_and_numpy_in_single_precision(classes: Callable) -> None:
    train, labels, test, truth = (t.numpy() for t in classes(width=6, signal=1))
    found = diffused_redundancy(
        train.astype(np.float32),
        labels,
        test.astype(np.float32),
        truth,
        fractions=(0.5, 1),
        subsets=2,
    )
    x, z = scaled(torch.from_numpy(train), torch.from_numpy(test))
    expected = logistic_probe(x, torch.from_numpy(labels), z).numpy() == truth
    assert found.curve()[-1] == pytest.approx(expected.mean(), abs=1 / 400)
    assert found.probe == "logistic_probe"


def test_the_seed_decides(classes: Callable, options: dict[str, Any]) -> None:
    task = classes()
    first, again, other = (diffused_redundancy(*task, **options, seed=s) for s in (1, 1, 2))
    assert first.rows == again.rows
    assert not np.array_equal(first.by_subset, other.by_subset)


def test_errors_say_what_was_found(classes: Callable, options: dict[str, Any]) -> None:
    task = classes()
    for fractions in ((), (0.5,), (0.5, 1.5), (0.0, 1.0)):
        with pytest.raises(InputError, match="numbers from 0 to 1 were expected, and 1 among"):
            diffused_redundancy(*task, **options | {"fractions": fractions})
    with pytest.raises(InputError, match="all keep 20; a curve needs two numbers of units"):
        diffused_redundancy(*task, **options | {"fractions": (0.99, 1)})
    with pytest.raises(InputError, match="subsets is 1 and delta 0.9"):
        diffused_redundancy(*task, **options, subsets=1)
    with pytest.raises(InputError, match="delta 0;"):
        diffused_redundancy(*task, **options, delta=0)
