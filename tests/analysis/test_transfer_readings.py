"""Tests for analysis/transfer_readings.py."""

import pytest

from analysis.estimates import Estimate
from analysis.transfer_readings import reading_word, transfer_readings
from tests.reports.synthetic import without_intervals
from tests.reports.synthetic_richness import RUNS, transfer_record

HOME = Estimate(0.9, 0.87, 0.93)


@pytest.mark.parametrize(
    ("gap", "home", "word"),
    [
        (0.2, 0.7, "head fails"),
        (0.2, 0.9, "both"),
        (0.01, 0.9, "features lost"),
        (0.01, 0.5, "nothing shown"),
    ],
)
def test_every_reading(gap: float, home: float, word: str) -> None:
    found = transfer_readings(transfer_record(gap=gap, home=home))
    assert [(r.run, r.env, r.word) for r in found] == [(run, "rotated", word) for run in RUNS]
    assert len({r.meaning for r in found}) == 1


def test_without_intervals_nothing_is_shown() -> None:
    found = transfer_readings(without_intervals(transfer_record()))
    assert {r.word for r in found} == {"nothing shown"}


def test_without_iid_examples_features_cannot_be_lost() -> None:
    low, gap = Estimate(0.1, 0.05, 0.15), Estimate(0.01, -0.05, 0.06)
    assert reading_word(gap, low, None) == "nothing shown"
    assert reading_word(gap, low, HOME) == "features lost"
