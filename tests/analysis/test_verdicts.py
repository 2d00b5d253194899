"""Tests for analysis/verdicts.py."""

import math

import pytest

from analysis.estimates import Estimate
from analysis.verdicts import comparison_verdicts, linearity_verdicts, verdict_word
from tests.reports.synthetic import linearity_record, replace_rows, without_intervals

LAZY, NOT_LAZY, UNSURE = Estimate(2, 1.5, 3), Estimate(0.5, 0.4, 0.6), Estimate(1, 0.8, 1.2)
HIGH, LOW, AROUND = Estimate(0.8, 0.7, 0.9), Estimate(-0.8, -0.9, -0.7), Estimate(0, -0.1, 0.1)


@pytest.mark.parametrize(
    ("r2", "radius", "control", "word"),
    [
        (HIGH, LAZY, {}, "near-linear"),
        (Estimate(0.3, 0.2, 0.4), LAZY, {}, "weakly non-linear"),
        (Estimate(0.5, 0.4, 0.6), LAZY, {}, "inconclusive"),
        (HIGH, LAZY, {"scratch": LOW}, "near-linear"),
        (HIGH, LAZY, {"scratch": Estimate(0.75, 0.65, 0.85)}, "inconclusive"),
        (HIGH, LAZY, {"scratch": Estimate(0.95, 0.93, 0.97)}, "weakly non-linear"),
        (HIGH, LAZY, {"s0": LOW, "s1": Estimate(0.95, 0.93, 0.97)}, "weakly non-linear"),
        (HIGH, NOT_LAZY, {"scratch": LOW}, "weakly non-linear"),
        (HIGH, UNSURE, {}, "inconclusive"),
        (AROUND, LAZY, {}, "inconclusive"),
        (LOW, LAZY, {}, "non-linear"),
        (LOW, NOT_LAZY, {"scratch": Estimate(-9, -10, -8)}, "non-linear"),
        (Estimate(0.99), LAZY, {}, "inconclusive"),
        (HIGH, Estimate(2), {}, "inconclusive"),
        (HIGH, Estimate(math.inf, 5, math.inf), {}, "near-linear"),
        (HIGH, LAZY, {"scratch": Estimate(0.1)}, "inconclusive"),
    ],
)
def test_the_rule(r2: Estimate, radius: Estimate, control: dict[str, Estimate], word: str) -> None:
    assert verdict_word(r2, radius, control) == word


def test_one_verdict_per_run_and_split_with_its_neighbours() -> None:
    verdicts = linearity_verdicts(linearity_record())

    assert [(v.run, v.split) for v in verdicts[:3]] == [
        ("erm-s0", "iid"),
        ("erm-s0", "ood"),
        ("erm-s1", "iid"),
    ]
    assert len(verdicts) == 10
    assert verdicts[0].word == "near-linear"
    assert set(verdicts[0].neighbours) == {
        "exactly linear",
        "nothing moved",
        "control scratch-s0",
        "random displacement",
        "permuted displacement",
    }
    assert str(verdicts[0].estimate) in verdicts[0].sentence
    assert str(verdicts[0].neighbours["control scratch-s0"]) in verdicts[0].sentence


def test_the_control_is_judged_but_not_against_itself() -> None:
    control = [v for v in linearity_verdicts(linearity_record()) if v.is_control]

    assert [v.run for v in control] == ["scratch-s0", "scratch-s0"]
    assert {v.word for v in control} == {"non-linear"}
    assert not any("control" in name for v in control for name in v.neighbours)


def test_a_split_without_the_control_is_judged_without_it() -> None:
    record = linearity_record(runs=("model",), envs=("photos",), split="given")
    (verdict,) = linearity_verdicts(record)
    assert (verdict.split, verdict.word) == ("given", "near-linear")
    assert not any("control" in name for name in verdict.neighbours)


def test_an_untrained_run_says_nothing_about_dropout() -> None:
    record = linearity_record()
    chance = {"value": 0.11, "low": 0.08, "high": 0.14}
    record = replace_rows(record, chance, "weight_accuracy", run="erm-s1", split="iid")

    untrained = {v.run for v in linearity_verdicts(record) if "untrained" in v.sentence}
    assert untrained == {"erm-s1"}
    pairs = comparison_verdicts(record)
    assert {v.run for v in pairs if "untrained" in v.sentence} == {"erm-s1 - erm-s0"}


def test_chance_is_judged_on_given_images_where_iid_ones_are_unknown() -> None:
    record = linearity_record(runs=("model",), envs=("photos",), split="given")
    record = replace_rows(record, {"low": 0.05}, "weight_accuracy")
    assert "untrained" in linearity_verdicts(record)[0].sentence


@pytest.mark.parametrize(
    ("low", "high", "word"),
    [
        (0.1, 0.3, "more linear"),
        (-0.3, -0.1, "less linear"),
        (-0.1, 0.3, "inconclusive"),
        (math.nan, math.nan, "inconclusive"),
    ],
)
def test_differences_are_decided_by_their_interval(low: float, high: float, word: str) -> None:
    ends = {"value": (low + high) / 2, "low": low, "high": high}
    record = replace_rows(linearity_record(), ends, "explained_displacement_difference")
    assert {v.word for v in comparison_verdicts(record)} == {word}


def test_without_intervals_everything_is_inconclusive() -> None:
    record = without_intervals(linearity_record())
    verdicts = linearity_verdicts(record)
    assert {v.word for v in verdicts} == {"inconclusive"}
    assert all("without an interval" in v.sentence for v in verdicts)
