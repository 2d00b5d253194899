"""Tests for finetuning/sweep/schedule.py: shared work, failures, locks, resuming."""

from pathlib import Path

import pytest

from core.errors import InputError
from core.outputs import held
from finetuning.linear.config import LinearConfig
from finetuning.sweep import LOCKS, Processes, is_finished, sweep
from finetuning.train import train
from tests.finetuning.tiny import assert_same_runs, tiny_config, write_images


def test_failures_are_reported_and_the_rest_is_run(tmp_path: Path) -> None:
    data = write_images(tmp_path / "data")
    good = tiny_config(data, tmp_path / "good")
    bad = tiny_config(data, tmp_path / "bad", test_env=("moon",))
    linear = LinearConfig(
        data=str(data),
        output=str(tmp_path / "linear"),
        cache=str(tmp_path / "cache"),
        test_env=("photo",),
        pretrained="none",
        steps=2,
        device="cpu",
    )
    outcomes = sweep([good, bad, linear], tmp_path)
    assert [outcome.folder.name for outcome in outcomes] == ["good", "bad", "linear"]
    assert "'moon' is not in" in outcomes[1].failure
    assert [bool(outcome.failure) for outcome in outcomes] == [False, True, False]
    assert is_finished(good) and is_finished(linear) and not is_finished(bad)

    train(tiny_config(data, tmp_path / "alone"))
    assert_same_runs(tmp_path / "alone", tmp_path / "good")
    assert [outcome.seconds for outcome in sweep([good, linear], tmp_path)] == [0, 0]


def test_a_run_that_another_sweep_is_at_is_left_to_it(tmp_path: Path) -> None:
    data = write_images(tmp_path / "data")
    config = tiny_config(data, tmp_path / "run")
    (tmp_path / LOCKS).mkdir()
    with held(tmp_path / LOCKS / "run") as is_ours:
        assert is_ours
        (outcome,) = sweep([config], tmp_path)
    assert outcome.failure == "another process is at this run" and not is_finished(config)
    (outcome,) = sweep([config], tmp_path)
    assert not outcome.failure and is_finished(config)


def test_two_runs_in_one_folder_are_refused(tmp_path: Path) -> None:
    config = tiny_config("digits", tmp_path / "run")
    with pytest.raises(InputError, match="two runs have the output"):
        sweep([config, config], tmp_path)


@pytest.mark.slow
def test_processes_write_the_same_files_as_one(data: Path, tmp_path: Path) -> None:
    alone = [tiny_config(data, tmp_path / "alone" / str(s), seed=s) for s in (0, 1, 2)]
    shared = [tiny_config(data, tmp_path / "shared" / str(s), seed=s) for s in (0, 1, 2)]
    sweep(alone, tmp_path)
    with Processes(2) as processes:
        sweep(shared, tmp_path, processes)
    for one, other in zip(alone, shared, strict=True):
        assert_same_runs(Path(one.output), Path(other.output))
