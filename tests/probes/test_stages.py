"""Tests for probes/stages.py: what is kept, what is run again, and what has no value."""

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from analysis.intervals import Row
from core.errors import InputError
from probes.partial import Arrays, PartialResults
from probes.stages import Stage, attempted, run_stages


def counted(name: str, calls: list[str]) -> Stage:
    def compute(arrays: Arrays) -> Iterator[Row]:
        calls.append(name)
        arrays[f"{name}|spectrum"] = np.arange(2.0)
        yield {"metric": "rank", "value": 2.0, "num_examples": np.int64(3)}

    return Stage(name, {"run": name}, compute)


def refused(_: Arrays) -> Iterator[Row]:
    yield {"metric": "rank", "value": 1.0}
    raise InputError("one class; at least two were expected")


def test_finished_stages_are_not_run_again(tmp_path: Path) -> None:
    calls: list[str] = []
    partial = PartialResults(tmp_path)
    first = run_stages([counted("a", calls)], partial, {"seed": 0}, "test")
    again = run_stages([counted("a", calls), counted("b", calls)], partial, {"seed": 0}, "test")
    assert calls == ["a", "b"]
    assert (
        again.rows[0]
        == first.rows[0]
        == {"run": "a", "metric": "rank", "value": 2.0, "num_examples": 3}
    )
    np.testing.assert_array_equal(again.arrays["a|spectrum"], [0.0, 1.0])
    run_stages([counted("a", calls)], partial, {"seed": 1}, "test")
    assert calls == ["a", "b", "a"]


def test_a_stage_that_stops_keeps_its_rows_and_says_why(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    found = run_stages([Stage("a", {}, refused)], PartialResults(tmp_path), {}, "test")
    assert [row["metric"] for row in found.rows] == ["rank"]
    assert found.reasons == {"a": "one class; at least two were expected"}
    assert "a: one class" in caplog.text


def test_a_measure_without_a_value_says_why(tmp_path: Path) -> None:
    def compute(_: Arrays) -> Iterator[Row]:
        yield attempted("rank", lambda: {"value": 1.0})
        yield attempted("decay", undefined)

    def undefined() -> Row:
        raise InputError("too few eigenvalues")

    found = run_stages([Stage("a", {}, compute)], PartialResults(tmp_path), {}, "test")
    assert found.reasons == {"a|decay": "too few eigenvalues"}
    assert math.isnan(found.rows[1]["value"])


def test_nothing_at_all_is_an_error(tmp_path: Path) -> None:
    def nothing(_: Arrays) -> Iterator[Row]:
        raise InputError("two classes were expected")
        yield {}

    with pytest.raises(InputError, match="two classes were expected"):
        run_stages([Stage("a", {}, nothing)], PartialResults(tmp_path / "kept"), {}, "test")
    assert not list(tmp_path.iterdir())
