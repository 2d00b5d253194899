"""Tests for probes/rate_curve/curve.py and rows.py: what the rows say of three linear layers."""

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import one_hot

from analysis.dropout_ridge_verdict import WAYS, accuracy_of, difference_of, excess_of, settling_of
from analysis.intervals import Row, proportion_interval
from core.errors import InputError
from probes.dropout_head import Trained, dropout_head
from probes.dropout_ridge import cross_entropy_head, least_squares_head
from probes.rate_curve import METRICS, Examples, curve, rate_rows
from probes.rate_curve.rows import over_repeats
from tests.probes.feature_data import labelled_features

TRAIN = labelled_features(90, 6)
TESTS = {
    "x": Examples(*labelled_features(60, 6, seed=1), "iid"),
    "y": Examples(*labelled_features(80, 6, seed=2), "iid"),
    "z": Examples(*labelled_features(45, 6, seed=3), "ood"),
}


def rows_of(loss: str, rate: float, steps: int = 2000) -> list[Row]:
    return list(rate_rows(*TRAIN, TESTS, rate, loss=loss, steps=steps, decay=1e-2))


def find(rows: list[Row], metric: str, env: str, split: str) -> Row:
    (row,) = [r for r in rows if (r["metric"], r["env"], r["split"]) == (metric, env, split)]
    return row


@pytest.mark.parametrize("loss", ["squared", "cross_entropy"])
def test_rows_are_complete_and_declared(loss: str) -> None:
    rows = rows_of(loss, 0.5, steps=40)
    assert {row["metric"] for row in rows} == {name for name in METRICS if name.startswith(loss)}
    places = {(r["env"], r["split"]) for r in rows if r["metric"] == difference_of(loss)}
    singles = {("x", "iid"), ("y", "iid"), ("z", "ood")}
    assert places == singles | {("all", "iid"), ("all", "ood")}
    assert {row["at"] for row in rows} == {0.5}
    assert find(rows, accuracy_of(loss, "ridge"), "all", "iid")["num_examples"] == 140


@pytest.mark.parametrize("rate", [0.0, 0.9])
def test_accuracies_of_the_closed_form_are_those_of_its_layer(rate: float) -> None:
    x, y = (torch.from_numpy(array) for array in TRAIN)
    heads = {
        "squared": least_squares_head(x, one_hot(y).double(), rate),
        "cross_entropy": cross_entropy_head(x, y, rate, decay=1e-2),
    }
    for loss, head in heads.items():
        right = head(torch.from_numpy(TESTS["z"].features)).argmax(1).numpy() == TESTS["z"].labels
        found = find(rows_of(loss, rate, 8), accuracy_of(loss, "closed_form"), "z", "ood")
        expected = proportion_interval(right.astype(float))
        assert {k: found[k] for k in expected} == expected


def test_converged_dropout_is_its_closed_form() -> None:
    """Of the squared loss, the identity: no excess, and hardly a decision differs."""
    rows = rows_of("squared", 0.5)
    excess = find(rows, excess_of("squared"), "all", "train")
    assert 0 <= excess["value"] < 1e-3
    difference = find(rows, difference_of("squared"), "all", "iid")
    assert difference["low"] < 0 < difference["high"]
    assert abs(difference["value"]) < 0.02
    assert "reason" not in difference


@pytest.mark.parametrize("loss", ["squared", "cross_entropy"])
def test_unconverged_dropout_decides_nothing_and_says_why(loss: str) -> None:
    rows = rows_of(loss, 0.5, steps=4)
    assert find(rows, settling_of(loss), "all", "train")["low"] > 1e-3
    for place in (("all", "iid"), ("z", "ood")):
        difference = find(rows, difference_of(loss), *place)
        assert difference["low"] is None and difference["high"] is None
        assert "SGD has not converged" in difference["reason"]
        assert "raise --steps" in difference["reason"]
    assert find(rows, accuracy_of(loss, "dropout"), "all", "iid")["low"] is not None


@pytest.mark.parametrize("loss", ["squared", "cross_entropy"])
def test_sgd_that_diverged_decides_nothing(loss: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def diverged(*args: Any, **options: Any) -> Trained:  # ruff: ignore[any-type] - passed on
        trained = dropout_head(*args, **options)
        lost = trained.head._replace(weight=torch.full_like(trained.head.weight, torch.nan))
        return trained._replace(head=lost)

    monkeypatch.setattr(curve, "dropout_head", diverged)
    difference = find(rows_of(loss, 0.5, steps=40), difference_of(loss), "all", "iid")
    assert difference["low"] is None
    assert "SGD has not converged: its training loss is nan" in difference["reason"]


def test_repeats_are_the_same_for_the_same_seed() -> None:
    assert rows_of("squared", 0.9, 8) == rows_of("squared", 0.9, 8)


def test_repeats_that_differ_widen_the_interval() -> None:
    once = proportion_interval(np.repeat([1.0, 0.0], [20, 20]))
    other = proportion_interval(np.repeat([1.0, 0.0], [24, 16]))
    assert over_repeats([once]) == once
    same, wider = over_repeats([once, once]), over_repeats([once, other])
    assert same["low"] == pytest.approx(once["low"])
    assert wider["value"] == pytest.approx(0.55)
    assert wider["low"] < 0.55 - 12.7 * 0.05  # Student's t of one degree of freedom


def test_every_way_has_a_metric_of_each_loss() -> None:
    assert {accuracy_of("squared", way) for way in WAYS} <= set(METRICS)


def test_wrong_input_is_refused_in_a_sentence() -> None:
    x, y = TRAIN
    with pytest.raises(InputError, match="at least two classes, and an example of every class"):
        list(rate_rows(x, y * 2, TESTS, 0.5, loss="squared"))
    with pytest.raises(InputError, match="no environments to test on"):
        list(rate_rows(x, y, {}, 0.5, loss="squared"))
    with pytest.raises(InputError, match="repeats is 0"):
        list(rate_rows(x, y, TESTS, 0.5, loss="squared", repeats=0))
    with pytest.raises(InputError, match="expected 0 <= rate < 1"):
        list(rate_rows(x, y, TESTS, 1.0, loss="squared"))
