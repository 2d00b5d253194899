"""Tests for finetuning/sweep/{backends,processes}.py: processes that die, and their threads."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path

import joblib
import pytest
import torch

from core.errors import InputError
from finetuning.config import TrainConfig
from finetuning.sweep import processes
from finetuning.sweep.processes import Processes
from finetuning.sweep.running import LOCKS, Job, Outcome
from tests.finetuning.tiny import tiny_config

ROOT = Path(__file__).parents[3]
COUNTED = pytest.mark.skipif(
    not Path("/proc/self/task").is_dir(), reason="threads are counted in /proc"
)


def test_no_more_processes_than_cores_and_no_fewer_than_one() -> None:
    assert Processes(10 * joblib.cpu_count()).jobs == joblib.cpu_count()
    for jobs in (0, -1):
        with pytest.raises(InputError, match=f"there are {jobs} processes"):
            Processes(jobs)


@dataclass(frozen=True, kw_only=True)
class Deadly(TrainConfig):
    """A run that kills every process but the one that made it."""

    maker: int = field(default_factory=os.getpid)

    def __post_init__(self) -> None:
        if os.getpid() != self.maker:
            os.kill(os.getpid(), signal.SIGKILL)


@dataclass(frozen=True)
class Teller(Job):
    """A job that tells which process it is in, and perhaps what becomes of that process."""

    fate: str = ""

    def __call__(self) -> Outcome:
        if self.fate == "waits":
            time.sleep(600)
        if self.fate == "dies":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.fate == "loses its GPU":
            processes.gpus_answer = lambda: False
        if self.fate == "loses its GPU and cannot leave it":
            processes.gpus_answer = lambda: False
            raise RuntimeError("CUDA error: an illegal memory access was encountered")
        return Outcome(Path(self.config.output), os.getpid(), self.fate)


@pytest.mark.slow
def test_a_process_is_used_again_unless_it_has_died_or_lost_its_gpu() -> None:
    fates = ["", "fails", "loses its GPU", "", "dies", "loses its GPU and cannot leave it", ""]
    jobs = [
        Teller(TrainConfig(output=str(number)), Path(), fate=fate)
        for number, fate in enumerate(fates)
    ]
    with Processes(1) as one:
        ended = [found for half in (jobs[:3], jobs[3:]) for _, found in one._ended(half, 1)]
    died = [isinstance(found, BrokenProcessPool) for found in ended]
    assert died == [fate == "dies" for fate in fates]
    ids = [found.seconds for found in ended if isinstance(found, Outcome)]
    assert ids[0] == ids[1] == ids[2] and len({os.getpid(), 0.0, *ids}) == 5
    lost = ended[fates.index("loses its GPU and cannot leave it")]
    assert isinstance(lost, Outcome) and "its GPU failed (CUDA error" in lost.failure


@pytest.mark.slow
def test_processes_that_died_idle_or_were_abandoned_are_replaced() -> None:
    tell = lambda fate="": Teller(TrainConfig(output="run"), Path(), fate=fate)
    with Processes(2) as two:
        (first,) = two.results([tell()])
        os.kill(int(first.seconds), signal.SIGKILL)
        (second,) = two.results([tell()])
        assert not second.failure and second.seconds != first.seconds
        abandoned = two.results([tell(), tell("waits")])
        assert not next(abandoned).failure
        assert isinstance(abandoned, Generator)
        abandoned.close()
        assert [last.failure for last in two.results([tell(), tell()])] == ["", ""]


def test_an_allocation_that_failed_does_not_end_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda gpu: 100 * gpu)
    monkeypatch.setattr(torch.cuda, "synchronize", asked.append)
    assert processes.gpus_answer() and asked == [1]  # the other was never computed on

    def broken(gpu: int) -> None:
        raise torch.AcceleratorError("CUDA error: device-side assert triggered")

    monkeypatch.setattr(torch.cuda, "synchronize", broken)
    assert not processes.gpus_answer()


@pytest.mark.slow
@pytest.mark.parametrize("jobs", [1, 2])
def test_a_process_that_dies_takes_no_other_run_with_it(
    jobs: int, data: Path, tmp_path: Path
) -> None:
    first, *rest = [tiny_config(data, tmp_path / f"{seed}", seed=seed) for seed in range(5)]
    fatal = Deadly(**vars(tiny_config(data, tmp_path / "fatal")))
    (tmp_path / LOCKS).mkdir()
    tasks = [Job(config, tmp_path) for config in (first, fatal, *rest)]
    with Processes(jobs) as processes:
        outcomes = list(processes.results(tasks))

    failures = {outcome.folder.name: outcome.failure for outcome in outcomes}
    assert sorted(failures) == ["0", "1", "2", "3", "4", "fatal"]
    assert "died at every attempt" in failures["fatal"] and "SIGKILL" in failures["fatal"]
    finished = [name for name in failures if (tmp_path / name / "final.safetensors").is_file()]
    assert finished == [name for name, failure in failures.items() if not failure]
    assert len(finished) == 5


def ticks(process: int) -> dict[tuple[int, int], int]:
    """Processor time of every thread of a process and those that it started."""
    parents, times = {}, {}
    for stat in Path("/proc").glob("[0-9]*/task/[0-9]*/stat"):
        try:
            words = stat.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):  # it ended meanwhile
            continue
        pid, thread = int(stat.parts[2]), int(stat.parts[4])
        parents[pid] = int(words[1])
        times[pid, thread] = int(words[11]) + int(words[12])
    family = {process}
    while more := {pid for pid, parent in parents.items() if parent in family} - family:
        family |= more
    return {key: time for key, time in times.items() if key[0] in family}


def busy_threads(
    process: subprocess.Popen, begun: Callable[[], bool], ended: Callable[[], bool]
) -> int:
    """How many threads of a process and its children compute between two moments."""
    while process.poll() is None and not begun():
        time.sleep(0.1)
    before, after = ticks(process.pid), {}
    while process.poll() is None and not ended():
        after |= ticks(process.pid)
        time.sleep(0.1)
    assert process.wait() == 0
    spent = [time - before.get(thread, 0) for thread, time in after.items()]
    return sum(time > max(spent) / 10 for time in spent)


SPINNING = """
import sys, time, torch
torch.set_num_threads(int(sys.argv[1]))
x, end = torch.rand(1 << 22), time.monotonic() + 4
print(flush=True)
while time.monotonic() < end:
    x.exp()
"""


@pytest.mark.slow
@COUNTED
@pytest.mark.parametrize("threads", [1, 4])
def test_threads_are_counted_beyond_the_cores(threads: int) -> None:
    """With elementwise work: in matrix products MKL takes no more threads than cores."""
    words = [sys.executable, "-c", SPINNING, str(threads)]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as spinning:
        assert spinning.stdout is not None
        spinning.stdout.readline()
        assert busy_threads(spinning, lambda: True, lambda: False) == threads


@pytest.mark.slow
@COUNTED
def test_eight_runs_never_compute_in_more_threads_than_there_are_cores(tmp_path: Path) -> None:
    """From the first evaluation to the last run's end."""
    root, grid = tmp_path / "eight", tmp_path / "grid.yaml"
    tiny = "{steps: 12, eval_every: 12, batch_size: 8, device: cpu}"
    grid.write_text(f"options: {tiny}\nvary: {{seed: {list(range(8))}}}\n")
    own = {name: value for name, value in os.environ.items() if not name.endswith("_THREADS")}
    words = [f"--grid={grid}", f"--output={root}", "--jobs=8"]
    with subprocess.Popen(
        [sys.executable, "-m", "finetuning.sweep", *words], env=own, cwd=ROOT
    ) as sweeping:
        found = busy_threads(
            sweeping,
            lambda: bool(list(root.glob("*/metrics.jsonl"))),
            lambda: len(list(root.glob("*/final.safetensors"))) == 8,
        )
    assert found <= joblib.cpu_count()
