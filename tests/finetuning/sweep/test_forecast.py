"""Tests for finetuning/sweep/forecast.py against plans worked out by hand."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest

from finetuning.config import TrainConfig
from finetuning.sweep.forecast import Forecast
from finetuning.sweep.running import Outcome


class Clock:
    """Time that the test sets."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def runs(*steps: int, **options: object) -> list[TrainConfig]:
    return [
        TrainConfig(output=f"{i}-{n}", steps=n, seed=i, **options) for i, n in enumerate(steps)
    ]


def ended(config: TrainConfig, seconds: float) -> Outcome:
    assert config.steps is not None
    return Outcome(Path(config.output), seconds, steps=config.steps)


def begun(configs: Sequence[TrainConfig], jobs: int, clock: Clock) -> Forecast:
    """Of one sweep, that has begun."""
    forecast = Forecast(configs, jobs, clock)
    forecast.sweeping(configs, jobs)
    return forecast


def test_nothing_is_said_before_something_is_known() -> None:
    forecast = begun(runs(10, 10), 1, Clock())
    assert forecast.seconds() is None
    assert forecast.sentence() == "time to go unknown before a run has ended"


def test_a_queue_is_shared_between_the_processes() -> None:
    # Two at a time, two seconds a step: 20 s and then 40 s in one process, 60 s in the other.
    clock, configs = Clock(), runs(10, 30, 20, 10)
    forecast = begun(configs, 2, clock)
    clock.now = 20.0
    forecast.ended(ended(configs[0], 20.0))
    assert forecast.seconds() == pytest.approx(60.0)  # 20 s + 20 s, behind 40 s: 60 s, and 40 s
    clock.now = 30.0
    assert forecast.seconds() == pytest.approx(50.0)


def test_runs_that_take_longer_than_expected_end_at_any_moment() -> None:
    clock, configs = Clock(), runs(10, 10)
    forecast = begun(configs, 1, clock)
    clock.now = 5.0
    forecast.ended(ended(configs[0], 5.0))
    clock.now = 50.0
    assert forecast.seconds() == 0.0


def test_kinds_of_run_have_rates_of_their_own() -> None:
    clock, fast, slow = Clock(), runs(10, 10), runs(10, 10, tangent=True)
    slow = [TrainConfig(**(vars(run) | {"output": f"slow{run.seed}"})) for run in slow]
    forecast = begun([fast[0], slow[0], fast[1], slow[1]], 1, clock)
    clock.now = 1.0
    forecast.ended(ended(fast[0], 1.0))
    assert "guessing 1 of 2 kinds of run" in forecast.sentence()
    assert forecast.seconds() == pytest.approx(3.0)
    clock.now = 11.0
    forecast.ended(ended(slow[0], 10.0))
    assert "guessing" not in forecast.sentence()
    assert forecast.seconds() == pytest.approx(11.0)


def test_runs_may_end_in_any_order() -> None:
    clock, configs = Clock(), runs(10, 10, 10)
    forecast = begun(configs, 1, clock)
    clock.now = 10.0
    for config in reversed(configs):
        forecast.ended(ended(config, 10.0))
    assert forecast.seconds() == 0.0


def test_a_run_that_failed_says_nothing_about_speed() -> None:
    clock, configs = Clock(), runs(10, 10)
    forecast = begun(configs, 1, clock)
    forecast.ended(Outcome(Path(configs[0].output), 3.0, "it failed"))
    assert forecast.seconds() is None


def test_a_forecast_goes_through_several_sweeps() -> None:
    """One run alone at 1 s a step, then two sweeps with two at a time."""
    clock, configs = Clock(), runs(10, 10, 20, 10, 30)
    forecast = Forecast(configs, jobs=2, clock=clock)
    forecast.sweeping(configs[:1], jobs=1)
    clock.now = 10.0
    forecast.ended(ended(configs[0], 10.0))
    assert forecast.seconds() == pytest.approx(50.0)  # 10 + 10 + 30 s, beside 20 s
    clock.now = 100.0  # measurements take their time
    forecast.sweeping(configs[1:3], jobs=2)
    assert forecast.seconds() == pytest.approx(20.0 + 30.0)
    clock.now = 120.0
    for config, seconds in zip(configs[1:3], (10.0, 20.0), strict=True):
        forecast.ended(ended(config, seconds))
    assert forecast.seconds() == pytest.approx(30.0)
    assert len(forecast.done) == 3


def test_steps_that_an_earlier_call_made_are_not_to_go(tmp_path: Path) -> None:
    resumed = TrainConfig(output=str(tmp_path / "cut"), steps=10)
    (tmp_path / "cut").mkdir()
    lines = [json.dumps({"step": step}) for step in (0, 4)]
    (tmp_path / "cut" / "metrics.jsonl").write_text("\n".join(lines))
    clock, configs = Clock(), [*runs(10), resumed]
    forecast = begun(configs, 1, clock)
    clock.now = 10.0
    forecast.ended(ended(configs[0], 10.0))
    assert forecast.seconds() == pytest.approx(6.0)
    (tmp_path / "cut" / "metrics.jsonl").write_text("damaged")
    assert Forecast([resumed], 1).steps == {tmp_path / "cut": 10}
