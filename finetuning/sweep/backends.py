"""Where the runs of a sweep are made: in processes of this machine, or of a cluster.

| backend | processes | threads a run |
|---|---|---|
| loky | of this machine, at most one a core (`processes.py`) | its share of the cores |
| dask, ray | of the cluster's workers | one: a worker is a core |
| slurm (submitit) | a task of a job array each | those of the task |

With all of them a run whose process dies stops no other. Dask's and ray's processes are theirs to
replace: one whose GPU has failed goes on failing runs until its worker is started again.
"""

from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Protocol, cast, runtime_checkable

import joblib
from joblib.parallel import BACKENDS, ParallelBackendBase, get_active_backend

from core.errors import InputError
from finetuning.sweep.names import RunConfig
from finetuning.sweep.processes import Processes, dead
from finetuning.sweep.running import Job, Outcome


@runtime_checkable
class Backend(Protocol):
    """Makes runs, as many at a time as `jobs`, in the order given."""

    jobs: int

    def outcomes(self, configs: Sequence[RunConfig], root: Path) -> Iterator[Outcome]:
        """The outcome of every run, the first to end first."""
        ...


class Joblib:
    """The backend that `joblib.parallel_config` sets.

    Where that is one job on this machine, runs are made in this very process, one after the other,
    and share its fate; `Processes(1)` gives them one of their own, as the command does.

    Args:
        deaths: What a cluster raises when a worker has died in the midst of a run.

    Attributes:
        jobs: Runs at a time: on this machine no more than it has cores.

    Raises:
        InputError: If it has threads where processes are needed.
    """

    def __init__(self, *deaths: type[Exception]) -> None:
        backend = cast(ParallelBackendBase, get_active_backend()[0])
        if type(backend) is BACKENDS["threading"]:
            raise InputError(
                f"joblib is set to {type(backend).__name__}, which shares a process between runs; "
                "every run draws from its process's random numbers: choose loky, dask or ray"
            )
        self.deaths = deaths
        self.streams = backend.supports_return_generator
        self.is_local = type(backend) is BACKENDS["loky"]
        jobs = joblib.effective_n_jobs(joblib.Parallel().n_jobs)
        self.jobs = min(jobs, joblib.cpu_count()) if self.is_local else jobs

    def outcomes(self, configs: Sequence[RunConfig], root: Path) -> Iterator[Outcome]:
        """See `Backend`."""
        if not self.is_local:
            return self._of_cluster([Job(config, root, 1) for config in configs])
        if self.jobs > 1:
            return Processes(self.jobs).outcomes(configs, root)
        return (Job(config, root)() for config in configs)

    def _of_cluster(self, jobs: Sequence[Job]) -> Iterator[Outcome]:
        """A run whose worker dies is tried once more, with no other beside it."""
        left = {Path(job.config.output): job for job in jobs}
        try:
            for outcome in self._outcomes(jobs):
                del left[outcome.folder]
                yield outcome
        except self.deaths as error:
            suspects = {folder: job for folder, job in left.items() if job.has_begun}
            if not suspects:
                reason = " ".join(str(error).split())
                raise InputError(
                    f"a worker died before it had begun a run ({reason:.200}); workers with this "
                    "package and the folder of the runs were expected: see the worker's log"
                ) from error
            for folder in suspects:
                yield self._alone(left.pop(folder))
            yield from self._of_cluster(list(left.values()))

    def _alone(self, job: Job) -> Outcome:
        try:
            (outcome,) = self._outcomes([job])
        except self.deaths as error:
            return dead(job, error)
        return outcome

    def _outcomes(self, jobs: Sequence[Job]) -> Iterator[Outcome]:
        parallel = joblib.Parallel(
            n_jobs=max(2, self.jobs),  # a single one would be this process
            return_as="generator_unordered" if self.streams else "list",
            batch_size=1,  # type: ignore[arg-type] - its annotation knows "auto" alone
        )
        yield from cast(Iterator[Outcome], parallel(joblib.delayed(job)() for job in jobs))


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
