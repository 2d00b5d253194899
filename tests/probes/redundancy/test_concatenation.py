"""Tests for probes/redundancy/concatenation.py."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from core.errors import InputError
from probes.redundancy import ConcatenationGain, concatenation_gain
from probes.redundancy.readout import scaled

Halves = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]


@pytest.fixture
def halves(classes: Callable) -> Halves:
    """Two representations, of which each tells some of four classes apart."""
    _, labels, _, truth = classes(num_classes=4)
    first, second = torch.eye(2)[:, torch.arange(4) // 2].T, torch.eye(2)[:, torch.arange(4) % 2].T

    def view(means: Tensor, y: Tensor, width: int) -> Tensor:
        return torch.cat([3 * means[y] + torch.randn(400, 2), torch.randn(400, width - 2)], 1)

    train = view(first, labels, 5), view(second, labels, 9)
    return (*train, labels, view(first, truth, 5), view(second, truth, 9), truth)


def test_what_the_other_half_adds_is_found(halves: Halves) -> None:
    found = concatenation_gain(*halves)
    assert found.first["value"] == pytest.approx(0.5, abs=0.1)
    assert found.second["value"] == pytest.approx(0.5, abs=0.1)
    assert found.both["value"] > 0.9
    assert found.gain["low"] > 0.3
    assert found.gain_over_width["low"] > 0.3
    assert found.probe == "logistic_probe"


def test_gains_are_differences_paired_over_examples(halves: Halves, quick_probe: Callable) -> None:
    found = concatenation_gain(*halves, probe=quick_probe)
    both = found.both["value"]
    assert found.gain["value"] == pytest.approx(both - found.first["value"])
    assert found.gain_over_width["value"] == pytest.approx(both - found.control["value"])
    train_a, train_b, labels, test_a, test_b, truth = halves
    (a, za), (b, zb) = scaled(train_a, test_a), scaled(train_b, test_b)
    first = quick_probe(a, labels, za) == truth
    together = quick_probe(torch.cat([a, b], 1), labels, torch.cat([za, zb], 1)) == truth
    difference = together.double() - first.double()
    assert found.gain["value"] == pytest.approx(float(difference.mean()))
    expected = float(difference.std(correction=0)) / 400**0.5
    assert found.gain["stderr"] == pytest.approx(expected, rel=0.1)  # 1000 resamples


def test_the_same_features_add_nothing(halves: Halves, quick_probe: Callable) -> None:
    train_a, _, labels, test_a, _, truth = halves
    found = concatenation_gain(train_a, train_a, labels, test_a, test_a, truth, probe=quick_probe)
    assert found.gain["value"] == found.gain["low"] == found.gain["high"] == 0


def test_no_block_wins_by_its_norm(halves: Halves) -> None:
    train_a, train_b, labels, test_a, test_b, truth = halves
    scaled_up = concatenation_gain(
        train_a, 1000 * train_b + 3, labels, test_a, 1000 * test_b + 3, truth
    )
    assert _values(scaled_up) == pytest.approx(_values(concatenation_gain(*halves)), abs=1 / 400)


def test_blocks_weigh_the_same_whatever_their_width(halves: Halves) -> None:
    train_a, train_b, *_ = halves
    seen: list[Tensor] = []

    def probe(train_x: Tensor, train_y: Tensor, test_x: Tensor) -> Tensor:
        seen.append(train_x)
        return torch.zeros(len(test_x), dtype=torch.long)

    concatenation_gain(*halves, probe=probe)
    _, _, both, control = seen
    assert both.shape == control.shape == (400, train_a.shape[1] + train_b.shape[1])
    for x in (both, control):
        for block in x.split([train_a.shape[1], train_b.shape[1]], dim=1):
            assert float(block.square().sum(1).mean()) == pytest.approx(1)
    torch.testing.assert_close(both[:, :5], control[:, :5])


def test_the_control_holds_no_information_beyond_the_first(quick_probe: Callable) -> None:
    """It is a function of the first representation: equal rows there are equal rows here."""
    rows = torch.randn(4, 3)
    labels = torch.arange(40) % 4
    a, seen = rows[labels], []

    def probe(train_x: Tensor, train_y: Tensor, test_x: Tensor) -> Tensor:
        seen.append(train_x)
        return quick_probe(train_x, train_y, test_x)

    concatenation_gain(a, torch.randn(40, 6), labels, a, torch.randn(40, 6), labels, probe=probe)
    assert len(seen[3].unique(dim=0)) == 4
    assert len(seen[2].unique(dim=0)) == 40


def _values(found: ConcatenationGain) -> list[float]:
    return [found.first["value"], found.second["value"], found.both["value"]]


def test_errors_say_what_was_found(halves: Halves) -> None:
    train_a, train_b, labels, test_a, test_b, truth = halves
    with pytest.raises(InputError, match="one label per example was expected"):
        concatenation_gain(train_a, train_b[1:], labels, test_a, test_b, truth)
    with pytest.raises(InputError, match="test features have 8 columns"):
        concatenation_gain(train_a, train_b, labels, test_a, test_b[:, 1:], truth)
    with pytest.raises(InputError, match="at least two classes were expected"):
        concatenation_gain(train_a, train_b, 0 * labels, test_a, test_b, 0 * truth)
