"""Tests for finetuning/sweep/forecast.py against plans worked out by hand."""

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


def test_nothing_is_said_before_something_is_known() -> None:
    forecast = Forecast(runs(10, 10), jobs=1, clock=Clock())
    assert forecast.seconds() is None
    assert forecast.sentence() == "time to go unknown before a run has ended"


def test_a_queue_is_shared_between_the_processes() -> None:
    # Two at a time, two seconds a step: 20 s and then 40 s in one process, 60 s in the other.
    clock, configs = Clock(), runs(10, 30, 20, 10)
    forecast = Forecast(configs, jobs=2, clock=clock)
    clock.now = 20.0
    forecast.ended(ended(configs[0], 20.0))
    assert forecast.seconds() == pytest.approx(60.0)  # 20 s + 20 s, behind 40 s: 60 s, and 40 s
    clock.now = 30.0
    assert forecast.seconds() == pytest.approx(50.0)


def test_runs_that_take_longer_than_expected_end_at_any_moment() -> None:
    clock, configs = Clock(), runs(10, 10)
    forecast = Forecast(configs, jobs=1, clock=clock)
    clock.now = 5.0
    forecast.ended(ended(configs[0], 5.0))
    clock.now = 50.0
    assert forecast.seconds() == 0.0


def test_kinds_of_run_have_rates_of_their_own() -> None:
    clock, fast, slow = Clock(), runs(10, 10), runs(10, 10, tangent=True)
    slow = [TrainConfig(**(vars(run) | {"output": f"slow{run.seed}"})) for run in slow]
    forecast = Forecast([fast[0], slow[0], fast[1], slow[1]], jobs=1, clock=clock)
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
    forecast = Forecast(configs, jobs=1, clock=clock)
    clock.now = 10.0
    for config in reversed(configs):
        forecast.ended(ended(config, 10.0))
    assert forecast.seconds() == 0.0


def test_a_run_that_failed_says_nothing_about_speed() -> None:
    clock, configs = Clock(), runs(10, 10)
    forecast = Forecast(configs, jobs=1, clock=clock)
    forecast.ended(Outcome(Path(configs[0].output), 3.0, "it failed"))
    assert forecast.seconds() is None
