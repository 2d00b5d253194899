"""Where the tasks of a sweep or a study are done: in processes of this machine, or of a cluster.

| backend | processes | threads a task |
|---|---|---|
| `Here` | this very one | those that it has |
| loky (`processes.py`) | of this machine, at most one a core | its share of the cores |
| dask, ray | of the cluster's workers | one: a worker is a core |
| slurm (submitit) | a task of a job array each (`slurm.py`) | those of the task |

With all but the first, a task whose process dies stops no other. Dask's and ray's processes are
theirs to replace: one whose GPU has failed goes on failing until its worker is started again.
"""

from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from types import ModuleType
from typing import Protocol, cast, runtime_checkable

import joblib
from joblib.parallel import ParallelBackendBase, get_active_backend

from core.errors import InputError
from finetuning.sweep.tasks import Placed, Result, Task, died_twice, has_begun


@runtime_checkable
class Backend(Protocol):
    """Does tasks, as many at a time as `jobs`, in the order given."""

    jobs: int

    def results(self, tasks: Sequence[Task[Result]]) -> Iterator[Result]:
        """The result of every task, the first to end first."""
        ...


class Here:
    """This very process, whose fate tasks share; one after the other."""

    jobs = 1

    def results(self, tasks: Sequence[Task[Result]]) -> Iterator[Result]:
        """See `Backend`."""
        return (task() for task in tasks)


class Cluster:
    """The workers of the backend that `joblib.parallel_config` sets.

    Args:
        deaths: What it raises when a worker has died in the midst of a task.

    Attributes:
        jobs: Tasks at a time.
    """

    def __init__(self, *deaths: type[Exception]) -> None:
        self.deaths = deaths
        backend = cast(ParallelBackendBase, get_active_backend()[0])
        self.streams = backend.supports_return_generator
        self.jobs = joblib.effective_n_jobs(joblib.Parallel().n_jobs)

    def results(self, tasks: Sequence[Task[Result]]) -> Iterator[Result]:
        """A task whose worker dies is tried once more, with no other beside it."""
        left = dict(enumerate(tasks))
        try:
            for number, result in self._numbered(dict(left)):
                del left[number]
                yield result
        except self.deaths as error:
            suspects = [number for number, task in left.items() if has_begun(task.lock)]
            if not suspects:
                reason = " ".join(str(error).split())
                raise InputError(
                    f"a worker died before it had begun a task ({reason:.200}); workers with this "
                    "package and the folder of the runs were expected: see the worker's log"
                ) from error
            for number in suspects:
                yield self._alone(left.pop(number))
            yield from self.results(list(left.values()))

    def _alone(self, task: Task[Result]) -> Result:
        try:
            ((_, result),) = self._numbered({0: task})
        except self.deaths as error:
            return task.failed(died_twice(error))
        return result

    def _numbered(self, tasks: Mapping[int, Task[Result]]) -> Iterator[tuple[int, Result]]:
        parallel = joblib.Parallel(
            n_jobs=max(2, self.jobs),  # a single one would be this process
            return_as="generator_unordered" if self.streams else "list",
            batch_size=1,  # type: ignore[arg-type] - its annotation knows "auto" alone
        )
        placed = [(number, Placed(task, threads=1)) for number, task in tasks.items()]
        results = parallel(joblib.delayed(_with_number)(*item) for item in placed)
        yield from cast(Iterator[tuple[int, Result]], results)


def _with_number(number: int, placed: Placed[Result]) -> tuple[int, Result]:
    return number, placed()


def extra(module: str, name: str) -> ModuleType:
    """A module of an optional dependency.

    Raises:
        InputError: If it is not installed.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise InputError(
            f"--backend {name} needs an extra that is not installed ({error}): pip "
            f"install 'lazyrich[{name}]'"
        ) from error
