"""Tests for analysis/creation_verdict.py: the word, and the slope over runs."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import linregress
from scipy.stats import t as student

from analysis.creation_verdict import (
    CONTRADICTED,
    DIFFERENCE,
    INCONCLUSIVE,
    NULL,
    R2,
    SUPPORTED,
    creation_verdicts,
    creation_word,
    r2_slope,
    with_recipes,
)
from analysis.estimates import Estimate
from core.errors import InputError
from core.records import Record, tidy

HIGH, ZERO = Estimate(0.8, 0.7, 0.9), Estimate(0.0, -0.01, 0.01)
RATES = (1e-3, 1e-2, 1e-1, 1.0)


def record(
    r2: Sequence[float],
    rates: Sequence[float] = RATES,
    difference: Estimate = ZERO,
    scratch: Sequence[str] = (),
) -> Record:
    rows = []
    for at, value in enumerate(r2):
        of = {"run": f"run{at}", "layer": "all", "env": "all", "split": "ood", "seed": at}
        found = {R2: Estimate(value, value - 0.05, value + 0.05), NULL: ZERO}
        rows += [
            of | {"metric": metric, **vars(estimate)}
            for metric, estimate in (found | {DIFFERENCE: difference}).items()
        ]
    runs = [
        {
            "run": f"run{at}",
            "lr": lr,
            "steps": 100 * (at + 1),
            "train_size": 50,
            "seed": at,
            "from_scratch": f"run{at}" in scratch,
        }
        for at, lr in enumerate(rates)
    ]
    provenance = {"runs": runs}
    values = tidy(rows)
    return Record(
        probe="feature_creation", config={}, values=values, metrics={}, provenance=provenance
    )


def test_the_pretrained_probe_has_to_be_as_good_and_r2_above_chance() -> None:
    good, bad = Estimate(0.01, -0.002, 0.02), Estimate(-0.05, -0.07, -0.03)
    assert creation_word(good, HIGH, ZERO) == SUPPORTED
    assert creation_word(Estimate(0.2, 0.1, 0.3), HIGH, ZERO) == SUPPORTED  # better is fine
    assert creation_word(good, Estimate(0.0, -0.1, 0.1), ZERO) == INCONCLUSIVE
    assert creation_word(bad, HIGH, ZERO) == CONTRADICTED
    assert creation_word(Estimate(-0.05, -0.1, 0.0), HIGH, ZERO) == INCONCLUSIVE


def test_without_intervals_nothing_is_decided() -> None:
    for broken in ((Estimate(0.1), HIGH, ZERO), (ZERO, Estimate(0.9), ZERO)):
        assert creation_word(*broken, margin=0.02) == INCONCLUSIVE
    assert creation_word(Estimate(-0.9), HIGH, ZERO) == INCONCLUSIVE


def test_one_verdict_per_run_says_its_numbers() -> None:
    found = creation_verdicts(record([0.8, 0.6], RATES[:2], Estimate(-0.05, -0.07, -0.03)))
    assert [(v.run, v.split, v.word) for v in found] == [
        ("run0", "ood", CONTRADICTED),
        ("run1", "ood", CONTRADICTED),
    ]
    assert "above that of permuted examples" in found[0].sentence
    assert "0.800 [0.750, 0.850]" in found[0].sentence


def test_what_was_not_measured_is_inconclusive_and_says_why() -> None:
    whole = record([0.8, 0.6], RATES[:2], Estimate(0.01, -0.002, 0.02))
    reasons = {"run1|probes": "too few of a class", "run1|ood": "2 examples", "run2|ood": "none"}
    lost = (whole.values["run"] == "run1") | (whole.values["metric"] == R2)
    found = creation_verdicts(
        replace(
            whole, values=whole.values.loc[~lost, :], provenance={"runs": [], "undefined": reasons}
        )
    )
    assert [(v.run, v.split, v.word) for v in found] == [
        (run, "ood", INCONCLUSIVE) for run in ("run0", "run1", "run2")
    ]
    assert found[0].sentence.endswith("No R²: the record does not say why.")
    assert found[1].sentence == "No accuracy: too few of a class. No R²: 2 examples."
    assert math.isnan(found[1].value)


def test_the_slope_is_that_of_scipy() -> None:
    r2 = [0.9, 0.82, 0.6, 0.55]
    found, num = r2_slope(with_recipes(record(r2)), "lr", "ood")
    line = linregress(np.log10(RATES), r2)
    half = student.ppf(0.975, 2) * line.stderr
    assert num == 4
    assert found.value == pytest.approx(line.slope)
    assert (found.low, found.high) == pytest.approx((line.slope - half, line.slope + half))


def test_a_straight_line_has_its_slope() -> None:
    found, _ = r2_slope(with_recipes(record([0.9, 0.8, 0.7, 0.6])), "lr", "ood")
    assert found.value == pytest.approx(-0.1)
    assert found.high < 0


def test_two_runs_have_no_interval_and_one_value_no_slope() -> None:
    two, num = r2_slope(with_recipes(record([0.9, 0.7], RATES[:2])), "lr", "ood")
    assert num == 2 and two.value == pytest.approx(-0.2) and not two.has_interval
    same, _ = r2_slope(with_recipes(record([0.9, 0.7, 0.5])), "train_size", "ood")
    assert math.isnan(same.value)


def test_runs_from_scratch_have_no_part_in_the_slope() -> None:
    whole = record([0.9, 0.8, 0.7, 0.6, 0.0], (*RATES, 10.0), scratch=("run4",))
    found, num = r2_slope(with_recipes(whole), "lr", "ood")
    assert num == 4
    assert found.value == pytest.approx(-0.1)


def test_recipes_stand_beside_the_values() -> None:
    found = with_recipes(record([0.9, 0.7], RATES[:2]))
    assert found.loc[found["run"] == "run1", ["lr", "steps", "train_size", "seed"]].to_numpy()[
        0
    ].tolist() == [1e-2, 200, 50, 1]


def test_wrong_input_is_refused_in_a_sentence() -> None:
    rows = with_recipes(record([0.9, 0.7], (0.0, 1e-2)))
    with pytest.raises(InputError, match="no column 'width'"):
        r2_slope(rows, "width", "ood")
    with pytest.raises(InputError, match="positive numbers were expected"):
        r2_slope(rows, "lr", "ood")
    with pytest.raises(InputError, match="the margin is -1"):
        creation_verdicts(record([0.9]), margin=-1)
