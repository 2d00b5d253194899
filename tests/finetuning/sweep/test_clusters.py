"""Tests for finetuning/sweep/clusters.py on clusters of this machine."""

import os
import signal
import sys
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pandas as pd
import pytest
from joblib import cpu_count

from core.errors import InputError
from finetuning.sweep.__main__ import run_sweep
from finetuning.sweep.clusters import Dask, Ray, backend_of
from finetuning.sweep.config import SweepConfig
from finetuning.sweep.processes import Processes
from finetuning.sweep.table import FRAME, INDEX
from finetuning.sweep.tasks import Placed, begun
from tests.finetuning.sweep.test_command import write_grid
from tests.finetuning.tiny import assert_same_runs

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


def test_a_worker_without_the_folder_of_the_command_says_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no folder '/none' on .*all machines see"):
        Placed(Told(tmp_path / "a"), directory="/none")()


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
    settings = module(get=lambda name, default: default, set=lambda values: nullcontext())
    monkeypatch.setitem(sys.modules, "dask", module(config=settings))
    monkeypatch.setitem(sys.modules, "distributed", module(Client=Client))
    with (
        pytest.raises(InputError, match=r"'a:1' has no worker; .*dask worker a:1 --nthreads 1"),
        backend_of(SweepConfig(backend="dask", scheduler="a:1")),
    ):
        pytest.fail("it was taken")


def test_workers_of_dask_keep_their_memory_and_what_the_user_gave_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found: dict[str, object] = {}

    def change(values: dict[str, object]) -> nullcontext[None]:
        found.update(values)
        return nullcontext()

    given = {"MALLOC_TRIM_THRESHOLD_": 65536, "http_proxy": "a"}
    settings = module(get=lambda name, default: given, set=change)
    monkeypatch.setitem(sys.modules, "dask", module(config=settings))
    monkeypatch.setitem(sys.modules, "distributed", module(Client=Client))
    with (
        pytest.raises(InputError, match="has no worker"),
        backend_of(SweepConfig(backend="dask")),
    ):
        pytest.fail("it was taken")
    environment = found["distributed.nanny.pre-spawn-environ"]
    assert isinstance(environment, dict)
    assert environment["http_proxy"] == "a" and environment["OMP_NUM_THREADS"] == "1"
    assert "MALLOC_TRIM_THRESHOLD_" not in environment


@pytest.mark.parametrize(("on_gpus", "jobs"), [(True, 1), (False, 4)])
def test_a_task_of_ray_has_a_gpu_where_it_is_to_compute_on_one(
    on_gpus: bool, jobs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    resources = {"CPU": 4.0, "GPU": 1.0}
    fake = module(
        init=lambda **_: None, cluster_resources=lambda: resources, shutdown=lambda: None
    )
    monkeypatch.setitem(sys.modules, "ray", fake)
    options = SweepConfig(backend="ray", scheduler="a:1")
    with backend_of(options, on_gpus=on_gpus) as ray:
        assert isinstance(ray, Ray) and (ray.on_gpus, ray.jobs) == (on_gpus, jobs)
