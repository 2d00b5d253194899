"""Where the runs of a sweep are made: in processes of this machine, or of a cluster.

| backend | processes | threads a run |
|---|---|---|
| loky | of this machine, at most one a core | its share of the cores |
| dask, ray | of the cluster's workers | one: a worker is a core |
| slurm (submitit) | a task of a job array each | those of the task |
"""

import re
from collections.abc import Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Protocol, cast, runtime_checkable

import joblib
from joblib.parallel import BACKENDS, ParallelBackendBase, get_active_backend

from core.errors import InputError
from finetuning.sweep.names import RunConfig
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

    Attributes:
        jobs: Runs at a time: on this machine no more than it has cores.

    Raises:
        InputError: If it has threads where processes are needed.
    """

    def __init__(self) -> None:
        backend = cast(ParallelBackendBase, get_active_backend()[0])
        if type(backend) is BACKENDS["threading"]:
            raise InputError(
                f"joblib is set to {type(backend).__name__}, which shares a process between runs; "
                "every run draws from its process's random numbers: choose loky, dask or ray"
            )
        self.streams = backend.supports_return_generator
        self.is_local = type(backend) is BACKENDS["loky"]
        jobs = joblib.effective_n_jobs(joblib.Parallel().n_jobs)
        self.jobs = min(jobs, joblib.cpu_count()) if self.is_local else jobs

    def outcomes(self, configs: Sequence[RunConfig], root: Path) -> Iterator[Outcome]:
        """See `Backend`. A run whose process dies is tried once more, with no other beside it."""
        jobs = [Job(config, root, self._threads()) for config in configs]
        left = {Path(job.config.output): job for job in jobs}
        try:
            for outcome in self._outcomes(jobs):
                del left[outcome.folder]
                yield outcome
        except BrokenProcessPool:
            suspects = {folder: job for folder, job in left.items() if job.has_begun}
            if not suspects:
                raise
            for folder in suspects:
                yield self._alone(left.pop(folder))
            yield from self.outcomes([job.config for job in left.values()], root)

    def _threads(self) -> int | None:
        if self.jobs == 1 and self.is_local:
            return None  # in this process, which keeps its threads
        return max(1, joblib.cpu_count() // self.jobs) if self.is_local else 1

    def _outcomes(self, jobs: Sequence[Job]) -> Iterator[Outcome]:
        parallel = joblib.Parallel(
            n_jobs=self.jobs,
            return_as="generator_unordered" if self.streams else "list",
            batch_size=1,  # type: ignore[arg-type] - its annotation knows "auto" alone
        )
        yield from cast(Iterator[Outcome], parallel(joblib.delayed(job)() for job in jobs))

    def _alone(self, job: Job) -> Outcome:
        """The outcome of a run in a pool of its own, whose death is its own."""
        try:
            (outcome,) = joblib.Parallel(n_jobs=2)([joblib.delayed(job)()])
        except BrokenProcessPool as error:
            codes = re.search(r"exit codes of the workers are .*", str(error))
            reason = codes[0] if codes else " ".join(str(error).split())
            return Outcome(
                Path(job.config.output),
                0.0,
                f"its process died twice ({reason}); a process that ends was expected: give it "
                "more memory, or train on smaller batches",
            )
        return cast(Outcome, outcome)


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
