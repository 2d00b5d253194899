"""Tests for scripts/study_jobs.py: records that fail, processes that die, what is read back."""

import os
import signal
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import joblib
import numpy as np
import pytest
import torch

from core.errors import InputError
from core.outputs import held
from core.records import Metric, Record, provenance, tidy
from finetuning.sweep import LOCKS, Here, Processes
from scripts import study_options
from scripts.study_jobs import Job, folder_of, made, read

KIND = "kind"


def recorded(*runs: str) -> Record:
    """A record of runs, as a probe would return it."""
    row = {"probe": KIND, "run": "run", "metric": "found", "value": 1.0}
    metrics = {"found": Metric(title="what was found")}
    return Record(
        probe=KIND,
        config={"checkpoints": list(runs)},
        values=tidy([row]),
        metrics=metrics,
        provenance=provenance(),
    )


def refused(*_: str) -> Record:
    raise InputError("its weights did not move")


def singular(*_: str) -> Record:
    raise np.linalg.LinAlgError("SVD did not converge")


def interrupted(*_: str) -> Record:
    raise KeyboardInterrupt


def killed(*_: str) -> Record:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def job(
    root: Path, name: str, measure: Callable[..., Record] = recorded, runs: tuple[str, ...] = ()
) -> Job:
    """A record of a study in `root`, of one run if none is named."""
    runs = runs or (str(root / "runs" / name),)
    return Job(folder_of(root, KIND, name), measure, runs, runs)


def test_a_measurement_that_fails_is_missing_and_the_others_are_made(tmp_path: Path) -> None:
    jobs = [job(tmp_path, "still", refused), job(tmp_path, "odd", singular), job(tmp_path, "fine")]
    failed = made(jobs, Here())
    assert failed.keys() == {"kind/still", "kind/odd"}
    assert failed["kind/still"] == "its weights did not move"
    traceback = tmp_path / "failures" / "kind-odd.txt"
    assert failed["kind/odd"].startswith("LinAlgError: SVD did not converge; ")
    assert str(traceback) in failed["kind/odd"] and "in singular" in traceback.read_text()
    assert read(jobs, KIND).keys() == {"fine"}


def test_an_interrupt_ends_everything(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        made([job(tmp_path, "one", interrupted), job(tmp_path, "other")], Here())
    assert not folder_of(tmp_path, KIND, "other").exists()


@pytest.mark.slow
def test_a_process_that_dies_takes_no_other_record_with_it(tmp_path: Path) -> None:
    names = "abcd"
    jobs = [job(tmp_path, "fatal", killed), *(job(tmp_path, name) for name in names)]
    with Processes(2) as processes:
        failed = made(jobs, processes)
    assert failed.keys() == {"kind/fatal"}
    assert "died at every attempt" in failed["kind/fatal"] and "SIGKILL" in failed["kind/fatal"]
    assert read(jobs, KIND).keys() == set(names)


def test_a_record_of_other_runs_is_made_again_and_until_then_not_read(tmp_path: Path) -> None:
    of_one = job(tmp_path, "group", runs=("runs/s1",))
    of_two = job(tmp_path, "group", runs=("runs/s0", "runs/s1"))
    assert not made([of_one, job(tmp_path, "gone")], Here())
    assert read([of_one], KIND).keys() == {"group"} and not read([of_two], KIND)
    assert not made([of_two], Here())
    (record,) = read([of_two], KIND).values()
    assert record.config["checkpoints"] == ["runs/s0", "runs/s1"]


def test_a_record_that_another_process_makes_is_waited_for_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = job(tmp_path, "late", singular)
    (tmp_path / LOCKS).mkdir()

    def wait(_: float) -> None:
        job(tmp_path, "late")._make()
        lock.close()

    monkeypatch.setattr("time.sleep", wait)
    with ExitStack() as lock:
        assert lock.enter_context(held(late.lock))
        assert not late().failure  # which would fail if it measured
    assert read([late], KIND).keys() == {"late"}


def test_measurements_share_the_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = []

    @contextmanager
    def device(gpu: int) -> Generator[None]:
        taken.append(gpu)
        yield

    def measure(*runs: str) -> Record:
        other = job(tmp_path, "inner")
        assert not folder_of(tmp_path, KIND, "inner").exists() and not other().failure
        return recorded(*runs)

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "device", device)
    assert not made([job(tmp_path, "outer", measure)], Here())
    assert taken == [0, 1]


@pytest.mark.parametrize(
    ("device", "kind", "jobs"),
    [("auto", "cuda", 2), ("cuda", "cuda", 2), ("cuda:1", "cuda", 1), ("auto", "mps", 1)],
)
def test_as_many_runs_at_a_time_as_gpus_they_may_choose(
    monkeypatch: pytest.MonkeyPatch, device: str, kind: str, jobs: int
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(study_options, "select_device", lambda name: torch.device(kind))
    assert study_options.jobs_on(device) == jobs
    monkeypatch.undo()
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert study_options.jobs_on("cpu") == joblib.cpu_count()
