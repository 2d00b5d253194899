"""Tests for analysis/estimates.py."""

import math

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from analysis.estimates import MINUS, Estimate, estimate, number, ordered, select
from core.records import tidy


def values() -> pd.DataFrame:
    where = {"metric": "accuracy", "run": "a", "value": 0.5}
    return tidy(
        [
            {**where, "at": 0.1 + 0.2, "low": 0.4, "high": 0.6},
            {**where, "at": 1.0, "value": 0.75},
            {"metric": "accuracy", "run": "b", "at": 1.0, "value": 0.25},
            {"metric": "norm", "run": "a", "value": 2.0},
        ]
    )


def test_a_position_is_found_in_spite_of_rounding() -> None:
    assert estimate(values(), "accuracy", run="a", at=0.3) == Estimate(0.5, 0.4, 0.6)


def test_missing_entries_match_nothing() -> None:
    assert select(values(), "accuracy", env="ink").empty
    assert estimate(values(), "accuracy", run="c") is None


def test_an_ambiguous_query_is_an_error() -> None:
    with pytest.raises(ValueError, match="2 rows of 'accuracy' fit"):
        estimate(values(), "accuracy", at=1.0)


def test_no_interval_decides_nothing() -> None:
    found = estimate(values(), "norm", run="a")
    assert found is not None
    assert not found.has_interval
    assert not found.low > 0
    assert not found.high < 10


def test_order_is_that_of_the_record() -> None:
    assert ordered(values(), "run") == ["a", "b"]


@given(st.floats(-1e6, 1e6))
def test_printed_numbers_read_back_within_their_precision(x: float) -> None:
    printed = float(number(x).replace(MINUS, "-"))
    assert math.isclose(printed, x, rel_tol=0.051, abs_tol=5.1e-4)
