"""Tests for finetuning/sweep/{clusters,slurm}.py on clusters of this machine."""

import os
import signal
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pandas as pd
import pytest
from joblib import cpu_count

from core.errors import InputError
from finetuning.sweep.__main__ import run_sweep
from finetuning.sweep.clusters import Dask, backend_of
from finetuning.sweep.config import SweepConfig
from finetuning.sweep.names import RunConfig
from finetuning.sweep.processes import Processes
from finetuning.sweep.running import LOCKS, Job
from finetuning.sweep.schedule import sweep
from finetuning.sweep.slurm import Queued, Slurm
from finetuning.sweep.table import FRAME, INDEX
from finetuning.sweep.tasks import Placed, begun
from tests.finetuning.sweep.test_backends import Deadly
from tests.finetuning.sweep.test_command import write_grid
from tests.finetuning.tiny import assert_same_runs, tiny_config

NEEDS = {"dask": "distributed", "ray": "ray", "slurm": "submitit"}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of packages that are no dependency of ours
@pytest.mark.parametrize("backend", ["dask", "ray"])
def test_clusters_write_the_same_records_as_loky(backend: str, data: Path, tmp_path: Path) -> None:
    pytest.importorskip(NEEDS[backend])
    grid = write_grid(tmp_path / "grid.yaml", data, "drop_rate: [0, 0.5], test_env: [art, moon]")
    for name in ("loky", backend):
        config = SweepConfig(grid=str(grid), output=str(tmp_path / name), backend=name, jobs=2)
        failed = run_sweep(config)
        assert len(failed) == 2 and all("'moon' is not in" in one.failure for one in failed)

    loky, cluster = (pd.read_csv(tmp_path / name / INDEX) for name in ("loky", backend))
    pd.testing.assert_frame_equal(loky.drop(columns="seconds"), cluster.drop(columns="seconds"))
    frames = [pd.read_parquet(tmp_path / name / FRAME) for name in ("loky", backend)]
    pd.testing.assert_frame_equal(*(frame.drop(columns="seconds") for frame in frames))
    for run in loky.query("status == 'finished'")["run"]:
        assert_same_runs(tmp_path / "loky" / run, tmp_path / backend / run)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_tasks_of_submitit_write_the_same_files(data: Path, tmp_path: Path) -> None:
    pytest.importorskip(NEEDS["slurm"])
    alone = [tiny_config(data, tmp_path / "alone" / str(s), seed=s) for s in (0, 1)]
    tasks = [tiny_config(data, tmp_path / "tasks" / str(s), seed=s) for s in (0, 1)]
    wrong: Sequence[RunConfig] = [tiny_config(data, tmp_path / "wrong", test_env=("moon",))]
    sweep(alone, tmp_path)
    outcomes = sweep([*tasks, *wrong], tmp_path, Slurm(2, {"timeout_min": 5}, cluster="local"))
    for one, other in zip(alone, tasks, strict=True):
        assert_same_runs(Path(one.output), Path(other.output))
    assert "'moon' is not in" in outcomes[2].failure
    assert [outcome.steps for outcome in outcomes] == [6, 6, 0]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_task_that_dies_is_a_failure_and_one_that_is_preempted_goes_on(
    data: Path, tmp_path: Path
) -> None:
    pytest.importorskip(NEEDS["slurm"])
    (tmp_path / LOCKS).mkdir()
    config = Deadly(**vars(tiny_config(data, tmp_path / "run")))
    (outcome,) = Slurm(1, {}, cluster="local").results([Job(config, tmp_path)])
    assert "of SLURM ended without a result" in outcome.failure

    task = Queued(Job(tiny_config(data, tmp_path / "again"), tmp_path))
    assert task.checkpoint().result().folder == tmp_path / "again"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_dask_workers_with_threads_are_refused(tmp_path: Path) -> None:
    distributed = pytest.importorskip(NEEDS["dask"])
    cluster = distributed.LocalCluster(
        n_workers=1, threads_per_worker=2, processes=False, dashboard_address=None
    )
    address = cluster.scheduler_address
    config = SweepConfig(backend="dask", scheduler=address)
    with (
        cluster,
        pytest.raises(InputError, match="has 2 threads; runs of one process would"),
        backend_of(config),
    ):
        pytest.fail("it was taken")


@dataclass(frozen=True)
class Told:
    """A task that says its name, raises an error, or kills its process."""

    lock: Path
    fate: str = ""

    def __call__(self) -> str:
        with begun(self.lock):
            if self.fate == "dies":
                os.kill(os.getpid(), signal.SIGKILL)
            if self.fate == "raises":
                raise ValueError("no such task")
            return self.lock.name

    def failed(self, reason: str) -> str:
        return reason


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("backend", ["dask", "ray"])
def test_a_worker_of_a_cluster_that_dies_stops_no_other(backend: str, tmp_path: Path) -> None:
    pytest.importorskip(NEEDS[backend])
    tasks = [
        Told(tmp_path / name, "dies" * (name == "fatal")) for name in ("a", "fatal", "b", "c")
    ]
    with backend_of(SweepConfig(backend=backend, jobs=2)) as cluster:
        found = sorted(cluster.results(tasks))
        assert found[:3] == ["a", "b", "c"] and "its process died at every attempt" in found[3]
        with pytest.raises(ValueError, match="no such task"):
            list(cluster.results([Told(tmp_path / "wrong", "raises")]))
        assert list(cluster.results(tasks[:1])) == ["a"] and not list(cluster.results([]))


class KilledWorker(Exception):
    """As distributed's."""


@dataclass(frozen=True)
class Future:
    """As dask's, of a task whose worker was lost or not."""

    placed: Placed
    is_lost: bool

    def exception(self) -> Exception | None:
        return KilledWorker("it was lost") if self.is_lost else None

    def result(self) -> object:
        return self.placed()


class Scheduler:
    """As dask's client, of workers that die so often."""

    def __init__(self, deaths: int) -> None:
        self.deaths = deaths

    def nthreads(self) -> dict[str, int]:
        return {"a": 1, "b": 1}

    def submit(self, _: object, placed: Placed, *, pure: bool) -> Future:
        assert not pure
        self.deaths -= 1
        return Future(placed, is_lost=self.deaths >= 0)


def test_a_task_that_waited_beside_a_fatal_one_is_done_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = module(as_completed=list, KilledWorker=KilledWorker)
    monkeypatch.setitem(sys.modules, NEEDS["dask"], fake)
    fatal, beside, late = (Told(tmp_path / name) for name in ("fatal", "beside", "late"))
    fatal.lock.write_text("begun")
    reason, *rest = Dask(Scheduler(deaths=2)).results([fatal, beside, late])
    assert "its process died at every attempt (it was lost)" in reason
    assert rest == ["late", "beside"]
    with pytest.raises(InputError, match=r"died before they had begun a task \(it was lost\)"):
        list(Dask(Scheduler(deaths=1)).results([beside]))


def test_runs_of_this_machine_never_share_the_fate_of_the_sweep() -> None:
    for jobs in (1, 2):
        with backend_of(SweepConfig(jobs=jobs)) as backend:
            assert isinstance(backend, Processes) and backend.jobs == min(jobs, cpu_count())


@pytest.mark.parametrize("backend", list(NEEDS))
def test_what_is_not_installed_is_said(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, NEEDS[backend], None)
    with (
        pytest.raises(InputError, match=rf"pip install 'lazyrich\[{backend}\]'"),
        backend_of(SweepConfig(backend=backend)),
    ):
        pytest.fail("it was taken")


def module(**names: object) -> ModuleType:
    found = ModuleType("fake")
    vars(found).update(names)
    return found


class Executor:
    """As submitit's, on a SLURM that takes nothing."""

    def __init__(self, **_: object) -> None:
        pass

    def update_parameters(self, **_: object) -> None:
        pass

    @contextmanager
    def batch(self) -> Generator[None]:
        yield
        raise RuntimeError("sbatch: error: invalid partition\nspecified")

    def submit(self, task: Queued) -> object:
        return object()


def test_what_slurm_says_of_tasks_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "submitit", module(AutoExecutor=Executor))
    job = Job(tiny_config("digits", tmp_path / "run"), tmp_path)
    with pytest.raises(InputError, match=r"not take the tasks \(sbatch: .* partition specified\)"):
        list(Slurm(1, {}).results([job]))


class Client:
    """As distributed's, of a scheduler without workers."""

    def __init__(self, **_: object) -> None:
        pass

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def wait_for_workers(self, number: int, timeout: float) -> None:
        raise TimeoutError(f"Only 0/{number} workers arrived after {timeout}")


def test_a_scheduler_without_workers_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = module(set=lambda values: nullcontext())
    monkeypatch.setitem(sys.modules, "dask", module(config=settings))
    monkeypatch.setitem(sys.modules, "distributed", module(Client=Client))
    with (
        pytest.raises(InputError, match=r"'a:1' has no worker; .*dask worker a:1 --nthreads 1"),
        backend_of(SweepConfig(backend="dask", scheduler="a:1")),
    ):
        pytest.fail("it was taken")
