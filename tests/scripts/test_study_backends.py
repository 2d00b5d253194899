"""Tests for where a study is done, and for scripts/study/timing.py."""

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import joblib
import pandas as pd
import pytest
import torch

from analysis.runs import read_runs
from core.command_line import as_yaml
from core.domains import Domains
from core.errors import InputError
from core.resumable import OPTIONS, check_resumable
from finetuning import shared
from finetuning.config import TrainConfig
from finetuning.run_folder import RunFolder
from finetuning.sweep import (
    Backend,
    BackendOptions,
    Here,
    Outcome,
    Processes,
    backend_of,
    running,
)
from finetuning.sweep.forecast import Forecast
from finetuning.sweep.tasks import Result, Task
from finetuning.train import train
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

    def results(self, tasks: Sequence[Task[Result]]) -> Iterator[Result]:
        self.given.append(len(tasks))
        return (task() for task in tasks)


Pair = tuple[TrainConfig, TrainConfig]


def timed(pairs: Sequence[Pair], root: Path, backend: Backend) -> list[Outcome]:
    runs = [run for pair in pairs for run in pair]
    return timing.timed_alone(pairs, root, backend, Forecast(runs, backend.jobs))


def pair_of(tmp_path: Path, seed: int = 0, **options: object) -> Pair:
    folder = tmp_path / "runs"
    one, other = (
        tiny_config(
            tmp_path / "data", folder / f"r{rate}-s{seed}", seed=seed, drop_rate=rate, **options
        )
        for rate in (0.0, 0.9)
    )
    return one, other


@pytest.fixture
def pairs(tmp_path: Path) -> list[Pair]:
    write_images(tmp_path / "data")
    return [pair_of(tmp_path, seed) for seed in (0, 1)]


def test_a_cluster_is_given_one_pair_at_a_time(pairs: list[Pair], tmp_path: Path) -> None:
    cluster = Cluster()
    outcomes = timed(pairs, tmp_path, cluster)
    assert cluster.given == [1, 1]
    seconds = {outcome.folder.name: outcome.seconds for outcome in outcomes}
    assert seconds.keys() == {"r0.0-s0", "r0.9-s0", "r0.0-s1", "r0.9-s1"}
    assert min(seconds.values()) > 0 and timing.seconds_of(tmp_path) == seconds
    assert not timed(pairs, tmp_path, cluster) and timing.seconds_of(tmp_path) == seconds


def test_here_it_is_this_process_that_makes_them(
    pairs: list[Pair], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Processes, "results", lambda *_: pytest.fail("another process did"))
    with Processes(2) as processes:
        outcomes = timed(pairs[:1], tmp_path, processes)
    assert [outcome.failure for outcome in outcomes] == ["", ""]


def test_what_later_runs_find_loaded_is_not_timed(
    pairs: list[Pair], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first run alone would pay for it."""
    load, clock = shared.load_domains, [0.0]

    def slowly(data: str, envs: tuple[str, ...], *, skip_unreadable: bool) -> Domains:
        clock[0] += LOADING
        return load(data, envs=envs, skip_unreadable=skip_unreadable)

    monkeypatch.setattr(shared, "load_domains", slowly)
    monkeypatch.setattr(running, "time", SimpleNamespace(perf_counter=lambda: clock[0]))
    outcomes = timed(pairs[:1], tmp_path, Here())
    assert clock == [LOADING] and [outcome.seconds for outcome in outcomes] == [0, 0]


def test_a_pair_that_cannot_be_prepared_fails_and_has_no_time(
    pairs: list[Pair], tmp_path: Path
) -> None:
    wrong = pair_of(tmp_path, 2, test_env=("moon",))
    outcomes = timed([wrong, pairs[0]], tmp_path, Cluster())
    failed = ["'moon' is not in" in outcome.failure for outcome in outcomes]
    assert failed == [True, True, False, False]
    assert timing.seconds_of(tmp_path).keys() == {"r0.0-s0", "r0.9-s0"}


@pytest.mark.parametrize("is_finished", [False, True])
def test_a_pair_with_a_run_that_was_begun_before_has_no_time(
    is_finished: bool, pairs: list[Pair], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where a worker dies during or after a run, and the cluster tries the pair again."""
    append = RunFolder.append_metrics

    def dying(folder: RunFolder, line: Mapping[str, Any]) -> None:
        if line["step"] > 2 and not is_finished:
            raise KeyboardInterrupt
        append(folder, line)

    (_, run), _ = pairs
    with monkeypatch.context() as patched, suppress(KeyboardInterrupt):
        patched.setattr(RunFolder, "append_metrics", dying)
        train(run)
    assert (Path(run.output) / "final.safetensors").exists() == is_finished
    outcomes = timed(pairs[:1], tmp_path, Cluster())
    assert [outcome.failure for outcome in outcomes] == ["", ""]
    assert not timing.seconds_of(tmp_path)


def test_a_study_may_go_on_elsewhere(tmp_path: Path) -> None:
    here = StudyConfig(output=str(tmp_path / "study"))
    Path(here.output).mkdir()
    (Path(here.output) / OPTIONS).write_text(as_yaml(here))
    there = replace(here, backend="slurm", jobs=7, slurm={"timeout_min": 5})
    check_resumable(there, "study", study_options.NOT_COMPARED)
    with pytest.raises(InputError, match="backend was loky, now slurm"):
        check_resumable(there, "study", ())


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
    def backend_of(options: BackendOptions, *, on_gpus: bool) -> Generator[Backend]:
        assert not on_gpus
        asked.append(options)
        yield Here()

    monkeypatch.setattr(study_options, "backend_of", backend_of)
    study_options.run_and_report(
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
    timed_runs = [set(frame.loc[frame["seconds"] > 0, "run"]) for frame in frames]
    assert timed_runs[0] == timed_runs[1] and len(timed_runs[0]) == 2 * TINY.timed
