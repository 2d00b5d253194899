"""What a run costs when it has the machine to itself.

Runs that share a machine wait for each other, so that their times say little. Some pairs of runs
are therefore made first, one pair after the other and both runs of it by one process: here by this
one, which may compute on all cores, elsewhere by a worker of the cluster, whose machine may be at
other work besides. The times of a pair are written down when both runs have ended; a pair with one
that was finished or interrupted before has none.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TypedDict

import torch

from core.documents import read_json
from core.outputs import whole_file
from finetuning.config import TrainConfig, resolve
from finetuning.setup import prepare
from finetuning.sweep import LOCKS, Backend, Here, Outcome, Processes, is_finished
from finetuning.sweep.forecast import Forecast
from finetuning.sweep.running import Job, num_steps
from finetuning.sweep.schedule import with_time_to_go
from finetuning.sweep.tasks import attempted, begun_when_free, own_gpu

SECONDS = "seconds.json"


class _Seconds(TypedDict):
    seconds: dict[str, float]


@dataclass(frozen=True)
class _Pair:
    """Two runs as one task: one process of one machine makes both.

    Attributes:
        runs: In the order in which they are made.
        root: The folder of the study.
    """

    runs: tuple[TrainConfig, TrainConfig]
    root: Path

    @property
    def jobs(self) -> list[Job]:
        """What makes the runs."""
        return [Job(run, self.root) for run in self.runs]

    @property
    def lock(self) -> Path:
        """The file that is locked while either is made."""
        return self.root / LOCKS / f"timed%{self.jobs[0].lock.name}"

    def __call__(self) -> list[Outcome]:
        """Make both, once no process of an earlier call does."""
        with begun_when_free(self.lock):
            return [self._made(run, job) for run, job in zip(self.runs, self.jobs, strict=True)]

    def _made(self, run: TrainConfig, job: Job) -> Outcome:
        _, failure = attempted(lambda: self._load(run), job.report)
        return job.failed(failure) if failure else job()

    def _load(self, run: TrainConfig) -> None:
        """What the first run of a process loads, the others find."""
        with own_gpu(self.root):
            prepare(resolve(run))

    def failed(self, reason: str) -> list[Outcome]:
        """What a call returns that did not end."""
        return [job.failed(reason) for job in self.jobs]


def timed_alone(
    pairs: Sequence[tuple[TrainConfig, TrainConfig]],
    root: Path,
    backend: Backend,
    forecast: Forecast,
) -> list[Outcome]:
    """Make the runs, a pair at a time; the seconds of pairs that were not interrupted are kept.

    Returns:
        One outcome a run, of pairs that were not finished before.
    """
    where = Here() if isinstance(backend, Processes) else backend
    (root / LOCKS).mkdir(parents=True, exist_ok=True)
    found: list[Outcome] = []
    for pair in pairs:
        if all(map(is_finished, pair)):
            continue
        forecast.sweeping(pair, 1)
        results = chain.from_iterable(where.results([_Pair(pair, root)]))
        outcomes = list(with_time_to_go(results, forecast))
        if all(map(_is_whole, outcomes, pair)):
            _keep(root, outcomes)
        found += outcomes
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()  # other processes make the other runs
    return found


def seconds_of(root: Path) -> Mapping[str, float]:
    """Seconds by the name of the run.

    Raises:
        InputError: If the file is damaged.
    """
    path = root / SECONDS
    return read_json(path, _Seconds)["seconds"] if path.is_file() else {}


def _is_whole(outcome: Outcome, run: TrainConfig) -> bool:
    """Whether its seconds are those of all its steps."""
    return not outcome.failure and outcome.steps == num_steps(run)


def _keep(root: Path, outcomes: Sequence[Outcome]) -> None:
    known = dict(seconds_of(root)) | {o.folder.name: o.seconds for o in outcomes}
    with whole_file(root / SECONDS) as file:
        file.write_text(json.dumps({"seconds": known}, indent=2) + "\n", encoding="utf-8")
