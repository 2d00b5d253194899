"""Tests for finetuning/sweep/slurm.py, by submitit's own processes of this machine."""

import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from core.errors import InputError
from finetuning.sweep.names import RunConfig
from finetuning.sweep.running import LOCKS, Job
from finetuning.sweep.schedule import sweep
from finetuning.sweep.slurm import Queued, Slurm
from tests.finetuning.sweep.test_backends import Deadly
from tests.finetuning.sweep.test_clusters import NEEDS, Told, module
from tests.finetuning.tiny import assert_same_runs, tiny_config


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


@dataclass(frozen=True)
class Ended:
    """As a job of submitit that has ended."""

    task: Told

    def done(self) -> bool:
        return True

    def exception(self) -> None:
        return None

    def result(self) -> str:
        return self.task()


def test_slurm_is_given_arrays_that_it_allows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = []

    def submitted(_: Slurm, tasks: Sequence[Told]) -> dict[Ended, Told]:
        given.append(len(tasks))
        return {Ended(task): task for task in tasks}

    monkeypatch.setitem(sys.modules, "submitit", module(AutoExecutor=Executor))
    monkeypatch.setattr(Slurm, "_submitted", submitted)
    monkeypatch.setattr("finetuning.sweep.slurm._MOST", 2)
    names = list("abcde")
    assert list(Slurm(1, {}).results([Told(tmp_path / name) for name in names])) == names
    assert given == [2, 2, 1]
    assert not list(Slurm(1, {}).results([])) and len(given) == 3
