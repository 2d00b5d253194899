"""Tasks as those of a SLURM job array, by submitit (extra `slurm`)."""

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from core.errors import InputError
from finetuning.sweep.backends import extra
from finetuning.sweep.tasks import Placed, Result, Task

LOGS = ".slurm"
_MOST = 1000  # tasks of an array; clusters allow 1,001 unless their MaxArraySize says otherwise
_LOOK_EVERY = 2.0  # seconds


class Queued(Placed[Result]):
    """A task that is done again when it is preempted or runs out of time: runs go on then."""

    def checkpoint(self) -> Any:  # ruff: ignore[any-type] - submitit is an extra
        """What submitit queues in its place."""
        return extra("submitit.helpers", "slurm").DelayedSubmission(self)


class Slurm:
    """Every task one of a job array, or of several, one array after the other.

    Args:
        max_jobs: At most so many tasks at a time.
        parameters: Of submitit's executor, such as `slurm_partition` and `timeout_min`.
        cluster: `slurm`, or `local` for processes of this machine, as in tests.

    Raises:
        InputError: If there is no submitit, no SLURM, or no such parameter.
    """

    def __init__(
        self, max_jobs: int, parameters: Mapping[str, Any], cluster: str = "slurm"
    ) -> None:
        self.jobs, self.cluster = max_jobs, cluster
        self.parameters = dict(parameters)
        if cluster == "slurm":
            self.parameters["slurm_array_parallelism"] = max_jobs
        self._executor(Path(LOGS))  # refuses what does not fit before anything is written

    def _executor(self, logs: Path) -> Any:  # ruff: ignore[any-type] - submitit is an extra
        submitit = extra("submitit", "slurm")
        try:
            executor = submitit.AutoExecutor(folder=logs, cluster=self.cluster)
            executor.update_parameters(**self.parameters)
        except (RuntimeError, NameError, TypeError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise InputError(
                f"--backend slurm cannot be used ({reason:.300}); a machine "
                "that submits to SLURM, and --slurm with parameters of submitit's executor, were "
                "expected: mend --slurm or choose another --backend"
            ) from error
        return executor

    def results(self, tasks: Sequence[Task[Result]]) -> Iterator[Result]:
        """See `finetuning.sweep.backends.Backend`."""
        for first in range(0, len(tasks), _MOST):
            yield from self._results(tasks[first : first + _MOST])

    def _results(self, tasks: Sequence[Task[Result]]) -> Iterator[Result]:
        waiting = self._submitted(tasks)
        while waiting:
            ended = [job for job in waiting if job.done()]
            for job in ended:
                yield _result(job, waiting.pop(job))
            time.sleep(0.0 if ended else _LOOK_EVERY)

    def _submitted(self, tasks: Sequence[Task[Result]]) -> dict[Any, Task[Result]]:
        """The tasks by submitit's jobs, whose logs lie beside the folder of locks."""
        executor = self._executor(tasks[0].lock.parent.with_name(LOGS))
        try:
            with executor.batch():  # which submits them when it is left
                return {executor.submit(Queued(task)): task for task in tasks}
        except RuntimeError as error:  # submitit's FailedJobError, with what sbatch said
            raise InputError(
                f"SLURM did not take the tasks ({' '.join(str(error).split()):.300}); parameters "
                "that it allows were expected: mend --slurm"
            ) from error


def _result(job: Any, task: Task[Result]) -> Result:  # ruff: ignore[any-type] - submitit is an extra
    error = job.exception()
    if error is None:
        return job.result()
    reason = " ".join(str(error).split())
    return task.failed(
        f"task {job.job_id} of SLURM ended without a result ({reason:.200}); a task that ends was "
        f"expected: see '{job.paths.stderr}'"
    )
