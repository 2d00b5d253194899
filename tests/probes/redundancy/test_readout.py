"""Tests for probes/redundancy/readout.py."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from core.errors import InputError
from probes.redundancy import logistic_probe
from probes.redundancy.readout import STRENGTHS, VALIDATION_SHARE, Task, scaled
from probes.transfer.selection import validation_split


def read_out(train: Tensor, labels: Tensor, test: Tensor) -> Tensor:
    x, z = scaled(train, test)
    return logistic_probe(x, labels, z)


def test_scaling_uses_training_statistics_only() -> None:
    train, test = 3 * torch.randn(50, 8) + 4, torch.randn(9, 8)
    x, y = scaled(train, test)
    torch.testing.assert_close(x.mean(0), torch.zeros(8), atol=1e-14, rtol=0)
    torch.testing.assert_close(x.std(0, correction=0), torch.full((8,), 8**-0.5))
    torch.testing.assert_close(y, (test - train.mean(0)) / train.std(0, correction=0) / 8**0.5)


def test_a_unit_that_is_constant_in_training_becomes_zero() -> None:
    train = torch.cat([torch.randn(50, 2), torch.full((50, 1), 0.1)], 1)
    x, y = scaled(train, torch.full((3, 3), 0.3))
    assert (x[:, 2] == 0).all()
    torch.testing.assert_close(y[:, 2], torch.full((3,), 0.2 / 3**0.5))


def test_repeated_features_leave_the_probe_unchanged(classes: Callable) -> None:
    train, labels, test, _ = classes()
    once = read_out(train, labels, test)
    repeated = read_out(train.repeat(1, 3), labels, test.repeat(1, 3))
    assert torch.equal(repeated, once)


@pytest.mark.parametrize(("num_classes", "signal"), [(2, 0.3), (4, 0.2), (4, 0.6)])
def test_equals_scikit_learn_at_the_chosen_strength(
    num_classes: int, signal: float, classes: Callable
) -> None:
    train, labels, test, _ = classes(num_classes=num_classes, signal=signal)
    x, z = (features.numpy() for features in scaled(train, test))
    y = labels.numpy()
    fit, held = validation_split(y, share=VALIDATION_SHARE)

    def model(c: float) -> LogisticRegression:
        return LogisticRegression(C=c, tol=1e-8, max_iter=10_000)

    scores = [model(c).fit(x[fit], y[fit]).score(x[held], y[held]) for c in STRENGTHS]
    error = (max(scores) * (1 - max(scores)) / len(held)) ** 0.5
    chosen = STRENGTHS[int(np.argmax(np.array(scores) >= max(scores) - error))]
    expected = model(chosen).fit(x, y).predict(z)
    found = logistic_probe(torch.from_numpy(x), labels, torch.from_numpy(z)).numpy()
    assert (found == expected).mean() > 0.995  # ties of logits, to the solvers' tolerance


def test_classes_need_not_be_numbered_in_a_row(classes: Callable) -> None:
    train, labels, test, truth = classes(signal=2)
    names = torch.tensor([7, 1, 30])
    predicted = read_out(train, names[labels], test)
    assert (predicted == names[truth]).double().mean() > 0.98


def test_a_fit_that_stops_early_warns(classes: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("probes.redundancy.readout.MAX_ITER", 1)
    train, labels, test, _ = classes()
    with pytest.warns(ConvergenceWarning, match="stopped after 1 steps at C ="):
        read_out(train, labels, test)


def test_errors_say_what_was_found(classes: Callable) -> None:
    train, labels, test, truth = classes(num=30)
    with pytest.raises(InputError, match="one label per example was expected"):
        Task.of(train, labels[:9], test, truth)
    with pytest.raises(InputError, match="test features have 19 columns"):
        Task.of(train, labels, test[:, 1:], truth)
    with pytest.raises(InputError, match="at least two classes were expected"):
        Task.of(train, 0 * labels, test, truth)
    with pytest.raises(InputError, match="the same for all 30 examples"):
        Task.of(torch.full_like(train, 0.1), labels, test, truth)
    with pytest.raises(InputError, match="1 examples; at least 2 were expected"):
        Task.of(train[:1], labels[:1], test, truth)
    with pytest.raises(InputError, match=r"the test labels hold the classes \[3\]"):
        Task.of(train, labels, test, truth + 1)


def test_units_that_never_vary_predict_the_most_frequent_class() -> None:
    labels = torch.tensor([0] * 10 + [2] * 20 + [1] * 10)
    assert (logistic_probe(torch.zeros(40, 3), labels, torch.zeros(5, 3)) == 2).all()


def test_a_shift_of_all_examples_does_not_matter(classes: Callable) -> None:
    train, labels, test, _ = classes()
    x, z = scaled(train, test)
    shift = torch.randn(x.shape[1])
    assert torch.equal(logistic_probe(x + shift, labels, z + shift), logistic_probe(x, labels, z))
