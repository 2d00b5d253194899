"""Tests for analysis/kernel_verdicts.py."""

import pytest

from analysis.estimates import Estimate
from analysis.kernel_verdicts import has_kernels, kernel_layer, kernel_verdicts, kernel_word
from core.records import Record
from tests.reports.synthetic import linearity_record, replace_rows, without_intervals
from tests.reports.synthetic_kernels import kernel_record, with_kernels

RANDOM = Estimate(0.10, 0.05, 0.15)
WHOLE = {"layer": "logits", "env": "all", "run": "erm-s0", "split": "iid"}


@pytest.mark.parametrize(
    ("distance", "word"),
    [
        (Estimate(0.3, 0.2, 0.4), "moved more"),
        (Estimate(0.02, 0.01, 0.03), "moved less"),
        (Estimate(0.2, 0.14, 0.4), "inconclusive"),  # the intervals overlap
        (Estimate(0.05, 0.01, 0.06), "inconclusive"),
        (Estimate(0.2, 0.15, 0.4), "inconclusive"),  # they touch
        (Estimate(0.3), "inconclusive"),
    ],
)
def test_intervals_decide(distance: Estimate, word: str) -> None:
    assert kernel_word(distance, RANDOM) == word


def test_a_null_without_an_interval_decides_nothing() -> None:
    assert kernel_word(Estimate(0.9, 0.8, 1.0), Estimate(0.1)) == "inconclusive"


def test_a_reading_per_run_and_split_with_the_numbers_that_decided() -> None:
    record = kernel_record()
    verdicts = kernel_verdicts(record)
    assert len(verdicts) == 5 * 2
    first = verdicts[0]
    assert (first.run, first.split, first.env) == ("erm-s0", "iid", "all")
    assert first.word == "moved more"
    assert first.estimate == Estimate(0.1, 0.07, 0.13)
    assert str(first.estimate) in first.sentence
    assert str(first.neighbours["random move"]) in first.sentence
    assert "above that of a random move" in first.sentence
    assert "changed by 0.200 [0.170, 0.230], above 0, to 0.700" in first.sentence
    assert [verdict.run for verdict in verdicts if verdict.is_control] == ["scratch-s0"] * 2


def test_the_whole_kernel_decides_and_not_a_block() -> None:
    far = {"value": 0.9, "low": 0.8, "high": 1.0}
    blocks = replace_rows(kernel_record(), far, "kernel_distance", layer="stem")
    assert kernel_verdicts(blocks) == kernel_verdicts(kernel_record())
    less = {"value": 0.01, "low": 0.0, "high": 0.02}
    whole = replace_rows(kernel_record(), less, "kernel_distance", **WHOLE)
    assert kernel_verdicts(whole)[0].word == "moved less"
    assert "below that of a random move" in kernel_verdicts(whole)[0].sentence


def test_without_intervals_nothing_is_decided() -> None:
    verdicts = kernel_verdicts(without_intervals(kernel_record()))
    assert {verdict.word for verdict in verdicts} == {"inconclusive"}
    assert "without an interval" in verdicts[0].sentence


def test_a_record_without_kernels_has_no_readings() -> None:
    assert not has_kernels(linearity_record())
    assert kernel_verdicts(linearity_record()) == []
    assert has_kernels(with_kernels(linearity_record()))


def test_the_layer_is_that_of_the_record() -> None:
    record = kernel_record()
    values = record.values.replace({"layer": {"logits": "features"}})
    parts = {"probe", "config", "metrics", "provenance", "arrays"}
    other = Record(values=values, **{name: getattr(record, name) for name in parts})
    assert (kernel_layer(record), kernel_layer(other)) == ("logits", "features")
    assert kernel_verdicts(other) == kernel_verdicts(record)
