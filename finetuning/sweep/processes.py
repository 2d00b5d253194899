"""Processes of this machine that do tasks, each of which may die without taking another with it.

A process does one task after the other, so that it reads images and pretrained weights once. It
is replaced when it has died, and when its GPU has: after an error in a kernel, no call of that
process to the GPU succeeds any more, whatever the task.
"""

import logging
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Generic

import joblib
import torch
from joblib.externals.loky import ProcessPoolExecutor
from joblib.parallel import ParallelBackendBase

from core.errors import InputError
from finetuning.sweep.tasks import FAILURES, Placed, Result, Task, death

_IDLE = 300.0  # seconds after which a process without a task gives its memory back


class Processes:
    """A backend (`finetuning.sweep.backends.Backend`) of so many processes, for a block.

    They stay from one call of `results` to the next. Every task has its share of the cores, and
    no more threads than this process computes with.

    Args:
        jobs: Tasks at a time; as many as there are cores at most.

    Raises:
        InputError: If there are none.
    """

    def __init__(self, jobs: int) -> None:
        if jobs < 1:
            raise InputError(f"there are {jobs} processes; at least 1 was expected")
        self.jobs = min(jobs, joblib.cpu_count())
        self.threads = max(1, min(torch.get_num_threads(), joblib.cpu_count() // self.jobs))
        self._stack, self._idle = ExitStack(), list[_Process]()

    def __enter__(self) -> "Processes":
        return self

    def __exit__(self, *error: object) -> None:
        self._idle.clear()
        self._stack.__exit__(*error)  # type: ignore[arg-type]

    def results(self, tasks: Sequence[Task[Result]]) -> Iterator[Result]:
        """Results, the first to end first; those whose process died come last.

        They are tried once more, when all other processes have given their memory back.
        """
        died = []
        for task, ended in self._ended(tasks, self.jobs):
            if isinstance(ended, BrokenProcessPool):
                died.append(task)
            else:
                yield ended
        for process in self._idle if died else ():
            process.replace()
        for task in died:
            ((_, ended),) = self._ended([task], 1)
            if isinstance(ended, BrokenProcessPool):
                yield task.failed(death(ended))
            else:
                yield ended

    def _ended(
        self, tasks: Sequence[Task[Result]], num: int
    ) -> Iterator[tuple[Task[Result], Result | BrokenProcessPool]]:
        """Every task with its result, or with how its process died."""
        waiting, running = deque(tasks), dict[Future, tuple[_Process, Task[Result]]]()
        try:
            while waiting or running:
                while waiting and len(running) < num:
                    process, task = self._process(), waiting.popleft()
                    running[process.begin(Placed(task, self.threads))] = (process, task)
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    process, task = running.pop(future)
                    self._idle.append(process)
                    yield task, process.ended(future)
        finally:
            for process, _ in running.values():  # nobody asks for the rest
                process.replace()
                self._idle.append(process)

    def _process(self) -> "_Process":
        if self._idle:
            return self._idle.pop()
        return self._stack.enter_context(_Process(self.threads))


@dataclass(frozen=True)
class _Done(Generic[Result]):
    """A result, and whether the process that it is of can do another task."""

    result: Result
    can_go_on: bool


class _Process:
    """A process that is there when a task is begun, whatever became of the one before."""

    def __init__(self, threads: int) -> None:
        self.env = environment(threads)
        self.pool = self._pool()

    def _pool(self) -> ProcessPoolExecutor:
        level = logging.getLogger().getEffectiveLevel()
        return ProcessPoolExecutor(
            max_workers=1, timeout=_IDLE, initializer=_tell, initargs=(level,), env=self.env
        )

    def __enter__(self) -> "_Process":
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        self.pool.shutdown(kill_workers=error is not None)  # then it may be in the midst of one

    def begin(self, placed: Placed) -> Future:
        """Do a task."""
        try:
            return self.pool.submit(_done, placed)
        except BrokenProcessPool:  # it died while it had nothing to do
            self.replace()
            return self.pool.submit(_done, placed)

    def ended(self, future: Future[_Done[Result]]) -> Result | BrokenProcessPool:
        """How the task ended, or the process."""
        try:
            done = future.result()
        except BrokenProcessPool as error:
            self.replace()
            return error
        if not done.can_go_on:
            self.replace()
        return done.result

    def replace(self) -> None:
        """End it, whatever it is at, and have another one in its place."""
        self.pool.shutdown(kill_workers=True)
        self.pool = self._pool()


def environment(threads: int) -> dict[str, str]:
    """Of a process that does tasks beside others, with so many threads: bars would be mixed."""
    limits = dict.fromkeys(ParallelBackendBase.MAX_NUM_THREADS_VARS, str(threads))
    return limits | {"TQDM_DISABLE": "1"}


def _tell(level: int) -> None:
    """What this process logs, the new one logs as well."""
    logging.basicConfig(level=level, format="%(message)s")


def _done(placed: Placed[Result]) -> _Done[Result]:
    try:
        result = placed()
    except RuntimeError as error:  # a GPU that has failed can fail to be left, too
        if gpus_answer():
            raise
        reason = " ".join(str(error).split())
        lost = f"its GPU failed ({reason:.200}); one that computes was expected: see '{FAILURES}'"
        return _Done(placed.task.failed(lost), can_go_on=False)
    return _Done(result, can_go_on=gpus_answer())


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
