"""Where the tasks of a sweep or a study are done: in processes of this machine, or of a cluster.

| backend | processes | threads a task |
|---|---|---|
| `Here` | this very one | those that it has |
| loky (`processes.py`) | of this machine, at most one a core | its share of the cores |
| dask, ray (`clusters.py`) | of the cluster's workers | one: a worker is a core |
| slurm (submitit) | a task of a job array each (`slurm.py`) | those of the task |

With all but the first, a task whose process dies stops no other. Dask's and ray's processes are
theirs to replace: one whose GPU has failed goes on failing until its worker is started again.
"""

from collections.abc import Iterator, Sequence
from importlib import import_module
from types import ModuleType
from typing import Protocol, runtime_checkable

from core.errors import InputError
from finetuning.sweep.tasks import Result, Task


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
