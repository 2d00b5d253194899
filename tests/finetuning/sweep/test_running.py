"""Tests for finetuning/sweep/running.py: what one run of a sweep leaves, however it ends."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

import finetuning.train as training
from core.outputs import held
from finetuning.config import TrainConfig
from finetuning.sweep import running
from finetuning.sweep.running import ELSEWHERE, LOCKS, Job, is_being_made
from finetuning.sweep.tasks import Placed, has_begun, own_gpu
from tests.finetuning.tiny import assert_same_runs, tiny_config


def job(config: TrainConfig, root: Path) -> Job:
    (root / LOCKS).mkdir(exist_ok=True)
    return Job(config, root)


def test_a_defect_is_a_sentence_and_a_traceback(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(config: TrainConfig) -> None:
        raise RuntimeError("CUDA out of memory.\nTried to allocate")

    monkeypatch.setattr(running, "train", broken)
    outcome = job(tiny_config(data, tmp_path / "run"), tmp_path)()

    traceback = tmp_path / "failures" / "run.txt"
    assert outcome.failure.startswith("RuntimeError: CUDA out of memory. Tried to allocate; ")
    assert str(traceback) in outcome.failure
    assert "in broken" in traceback.read_text()


class Killed(BaseException):
    """As SIGKILL would, it goes past every handler."""


def killed_at(call: int, action: Callable[..., Any]) -> Callable[..., Any]:
    calls = iter(range(1, call))

    def acting(*words: object) -> object:
        if next(calls, None) is None:
            raise Killed
        return action(*words)

    return acting


def test_a_resumed_run_counts_the_steps_that_it_made(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, cut = tiny_config(data, tmp_path / "whole"), tiny_config(data, tmp_path / "cut")
    assert job(whole, tmp_path)().steps == 6
    with monkeypatch.context() as patched:  # evaluations follow the steps 0, 2, 4 and 6
        patched.setattr(training, "evaluate", killed_at(3, training.evaluate))
        with pytest.raises(Killed):
            job(cut, tmp_path)()
    assert has_begun(job(cut, tmp_path).lock)

    assert job(cut, tmp_path)().steps == 4
    assert not has_begun(job(cut, tmp_path).lock)
    assert_same_runs(tmp_path / "whole", tmp_path / "cut")


def test_a_locked_run_is_being_made(data: Path, tmp_path: Path) -> None:
    config = tiny_config(data, tmp_path / "run")
    with held(job(config, tmp_path).lock):
        assert is_being_made(config, tmp_path)
        assert job(config, tmp_path)().failure == ELSEWHERE
    assert not is_being_made(config, tmp_path)


def test_relative_paths_are_those_of_the_sweep(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    made = Placed(job(tiny_config(data, Path("runs/one")), Path()))
    monkeypatch.chdir("elsewhere")
    made()
    assert (tmp_path / "runs" / "one" / "final.safetensors").is_file()
    assert Path.cwd() == tmp_path / "elsewhere"


def test_each_gpu_has_one_run_before_any_has_two(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = []

    @contextmanager
    def device(gpu: int) -> Generator[None]:
        taken.append(gpu)
        yield

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "device", device)
    (tmp_path / LOCKS).mkdir()
    with own_gpu(tmp_path), own_gpu(tmp_path), own_gpu(tmp_path):
        assert taken == [0, 1, 0]
    with own_gpu(tmp_path):  # all are free again
        assert taken == [0, 1, 0, 0]
