"""Processes of this machine that make runs, each of which may die without taking another with it.

A process makes one run after the other, so that it reads images and pretrained weights once. It
is replaced when it has died, and when its GPU has: after an error in a kernel, no call of that
process to the GPU succeeds any more, whatever the run.
"""

import logging
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import joblib
import torch
from joblib.externals.loky import ProcessPoolExecutor
from joblib.parallel import ParallelBackendBase

from finetuning.sweep.names import RunConfig
from finetuning.sweep.running import FAILURES, Job, Outcome
from finetuning.sweep.tasks import died_twice

_IDLE = 60.0  # seconds after which a process without a run gives its memory back


class Processes:
    """A backend (`finetuning.sweep.backends.Backend`) of so many processes.

    Every run has its share of the cores, and no more threads than this process computes with.

    Args:
        jobs: Runs at a time.
    """

    def __init__(self, jobs: int) -> None:
        self.jobs = jobs
        self.threads = max(1, min(torch.get_num_threads(), joblib.cpu_count() // jobs))

    def outcomes(self, configs: Sequence[RunConfig], root: Path) -> Iterator[Outcome]:
        """Outcomes, the first to end first; those whose process died come last.

        They are tried once more, with no other run beside them.
        """
        died = []
        for job, ended in self._results([Job(c, root, self.threads) for c in configs], self.jobs):
            if isinstance(ended, Outcome):
                yield ended
            else:
                died.append(job)
        for job in died:
            ((_, ended),) = self._results([job], 1)
            yield ended if isinstance(ended, Outcome) else dead(job, ended)

    def _results(
        self, jobs: Sequence[Job], num: int
    ) -> Iterator[tuple[Job, Outcome | BrokenProcessPool]]:
        """Every job with its outcome, or with how its process died."""
        waiting, running = deque(jobs), dict[Future, tuple[_Process, Job]]()
        with ExitStack() as stack:
            idle = [stack.enter_context(_Process(self.threads)) for _ in jobs[:num]]
            while waiting or running:
                while waiting and idle:
                    process, job = idle.pop(), waiting.popleft()
                    running[process.begin(job)] = (process, job)
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    process, job = running.pop(future)
                    idle.append(process)
                    yield job, process.ended(future)


@dataclass(frozen=True)
class _Made:
    """An outcome, and whether the process that made it can make another one."""

    outcome: Outcome
    can_go_on: bool


class _Process:
    """A process that is there when a run is begun, whatever became of the one before."""

    def __init__(self, threads: int) -> None:
        self.limits = dict.fromkeys(ParallelBackendBase.MAX_NUM_THREADS_VARS, str(threads))
        self.pool = self._pool()

    def _pool(self) -> ProcessPoolExecutor:
        level = logging.getLogger().getEffectiveLevel()
        return ProcessPoolExecutor(
            max_workers=1, timeout=_IDLE, initializer=_tell, initargs=(level,), env=self.limits
        )

    def __enter__(self) -> "_Process":
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        self.pool.shutdown(kill_workers=error is not None)  # then it may be in the midst of a run

    def begin(self, job: Job) -> Future:
        """Make a run."""
        try:
            return self.pool.submit(_made, job)
        except BrokenProcessPool:  # it died while it had nothing to do
            self._replace()
            return self.pool.submit(_made, job)

    def ended(self, future: Future) -> Outcome | BrokenProcessPool:
        """How the run ended, or the process."""
        try:
            made: _Made = future.result()
        except BrokenProcessPool as error:
            self._replace()
            return error
        if not made.can_go_on:
            self._replace()
        return made.outcome

    def _replace(self) -> None:
        self.pool.shutdown(kill_workers=True)
        self.pool = self._pool()


def _tell(level: int) -> None:
    """What this process logs, the new one logs as well."""
    logging.basicConfig(level=level, format="%(message)s")


def _made(job: Job) -> _Made:
    try:
        outcome = job()
    except RuntimeError as error:  # a GPU that has failed can fail to be left, too
        if gpus_answer():
            raise
        reason = " ".join(str(error).split())
        lost = f"its GPU failed ({reason:.200}); one that computes was expected: see '{FAILURES}'"
        return _Made(Outcome(Path(job.config.output), 0.0, lost), can_go_on=False)
    return _Made(outcome, can_go_on=not outcome.failure or gpus_answer())


def gpus_answer() -> bool:
    """Whether the GPUs that this process has computed on still do what it asks.

    They do after an allocation that failed, and do not after an error in a kernel.
    """
    try:
        for gpu in range(torch.cuda.device_count()):
            if torch.cuda.memory_reserved(gpu):
                torch.cuda.synchronize(gpu)
    except RuntimeError:
        return False
    return True


def dead(job: Job, error: Exception) -> Outcome:
    """The outcome of a run whose process has died both times."""
    failure = f"{died_twice(error)}, or train on smaller batches"
    return Outcome(Path(job.config.output), 0.0, failure)
