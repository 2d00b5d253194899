"""Tests for where a study is done, and for scripts/study/timing.py."""

import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import joblib
import pandas as pd
import pytest
import torch

from analysis.runs import read_runs
from core.resumable import differences
from finetuning.config import TrainConfig
from finetuning.sweep import (
    Backend,
    BackendOptions,
    Here,
    Outcome,
    Processes,
    backend_of,
)
from finetuning.sweep.forecast import Forecast
from scripts import study_options
from scripts.study import timing
from scripts.study.__main__ import study
from scripts.study.config import StudyConfig
from scripts.study.protocols import PROTOCOLS
from tests.finetuning.tiny import tiny_config, write_images
from tests.scripts.test_study import TINY, tiny_study

LOADING = 0.5  # seconds


class Cluster:
    """A backend that says how many tasks it was given at a time."""

    jobs = 8

    def __init__(self) -> None:
        self.given: list[int] = []

    def results(self, tasks: Sequence[Callable[[], Outcome]]) -> Iterator[Outcome]:
        self.given.append(len(tasks))
        return (task() for task in tasks)


def timed(runs: Sequence[TrainConfig], root: Path, backend: Backend) -> list[Outcome]:
    return timing.timed_alone(runs, root, backend, Forecast(runs, backend.jobs))


@pytest.fixture
def runs(tmp_path: Path) -> list[TrainConfig]:
    data = write_images(tmp_path / "data")
    return [tiny_config(data, tmp_path / "runs" / str(s), seed=s) for s in (0, 1)]


def test_a_cluster_is_given_one_run_at_a_time(runs: list[TrainConfig], tmp_path: Path) -> None:
    cluster = Cluster()
    outcomes = timed(runs, tmp_path, cluster)
    assert cluster.given == [1, 1]
    assert timing.seconds_of(tmp_path) == {
        Path(outcome.folder).name: outcome.seconds for outcome in outcomes
    }
    before = timing.seconds_of(tmp_path)
    assert [outcome.seconds for outcome in timed(runs, tmp_path, cluster)] == [0, 0]
    assert timing.seconds_of(tmp_path) == before


def test_here_it_is_this_process_that_makes_them(
    runs: list[TrainConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Processes, "results", lambda *_: pytest.fail("another process did"))
    with Processes(2) as processes:
        outcomes = timed(runs, tmp_path, processes)
    assert [outcome.failure for outcome in outcomes] == ["", ""]


def test_loading_is_not_timed(
    runs: list[TrainConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare = timing.prepare

    def slowly(config: TrainConfig) -> object:
        time.sleep(LOADING)
        return prepare(config)

    monkeypatch.setattr(timing, "prepare", slowly)
    monkeypatch.setattr("finetuning.sweep.running.train", lambda config: None)
    (outcome,) = timed(runs[:1], tmp_path, Here())
    assert outcome.seconds < LOADING / 2


def test_a_run_that_cannot_be_prepared_fails_and_has_no_time(
    runs: list[TrainConfig], tmp_path: Path
) -> None:
    wrong = tiny_config(tmp_path / "data", tmp_path / "runs" / "wrong", test_env=("moon",))
    first, second = timed([wrong, runs[0]], tmp_path, Cluster())
    assert "'moon' is not in" in first.failure and not second.failure
    assert timing.seconds_of(tmp_path).keys() == {"0"}


def test_a_study_may_go_on_elsewhere() -> None:
    here = StudyConfig()
    there = StudyConfig(backend="slurm", jobs=7, slurm={"timeout_min": 5})
    changed = differences(asdict(here), asdict(there), study_options.NOT_COMPARED)
    assert not changed


@pytest.mark.parametrize(
    ("options", "jobs"),
    [
        ({}, joblib.cpu_count()),
        ({"jobs": 1}, 1),
        ({"backend": "ray"}, joblib.cpu_count()),
        ({"backend": "ray", "scheduler": "a:1"}, 0),  # as many as the cluster has workers
        ({"backend": "slurm"}, 0),
    ],
)
def test_the_device_of_this_machine_counts_where_runs_are_made_here(
    options: dict, jobs: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = []

    @contextmanager
    def backend_of(options: BackendOptions) -> Generator[Backend]:
        asked.append(options)
        yield Here()

    monkeypatch.setattr(study_options, "backend_of", backend_of)
    study_options.report(
        lambda config, backend: Path("a.pdf"), StudyConfig(device="cpu", **options)
    )
    (found,) = asked
    assert found.jobs == jobs and capsys.readouterr().out == "report: a.pdf\n"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of packages that are no dependency of ours
@pytest.mark.parametrize(("backend", "package"), [("dask", "distributed"), ("ray", "ray")])
def test_a_study_on_a_cluster_finds_what_it_finds_here(
    backend: str, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip(package)
    monkeypatch.setitem(PROTOCOLS, "smoke", TINY)
    torch.set_default_dtype(torch.float32)  # as the workers compute
    write_images(tmp_path / "data")
    here = study(tiny_study(tmp_path), Here())
    config = tiny_study(tmp_path, output=str(tmp_path / "there"), backend=backend, jobs=2)
    with backend_of(config) as cluster:
        there = study(config, cluster)
    frames = [read_runs(pdf.parent / "study") for pdf in (here, there)]
    pd.testing.assert_frame_equal(*(frame.drop(columns="seconds") for frame in frames))
