"""Dask's and ray's workers as backends, and the backend that `--backend` names.

Their own interfaces are used, and not joblib's: where a worker of dask dies for good, joblib's
backend waits for ever.

References:
    | https://distributed.dask.org/en/stable/api.html#distributed.as_completed
    | https://docs.ray.io/en/latest/ray-core/fault_tolerance/tasks.html
"""

import logging
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import joblib
import torch

from core.errors import InputError
from finetuning.sweep.backends import Backend, extra
from finetuning.sweep.config import BackendOptions
from finetuning.sweep.processes import Processes, environment
from finetuning.sweep.slurm import Slurm
from finetuning.sweep.tasks import Placed, Result, Task, death, has_begun

_SLURM_TASKS = 100
_PATIENCE = 10  # seconds that the first worker of a scheduler may take to come
_DEATHS = "distributed.scheduler.allowed-failures"
_ENVIRONMENT = "distributed.nanny.pre-spawn-environ"
# Dask's default for its workers, with which they give memory back to the system at every
# opportunity: a study of the digits took 6.9 minutes with it and 4.3 without.
_TRIMMING = ("MALLOC_TRIM_THRESHOLD_", 65536)


class Dask:
    """The workers of a dask scheduler, one task a worker.

    A task whose worker dies is tried again on others, as often as the scheduler allows: once where
    it was started here.

    Args:
        client: Of `distributed`.

    Attributes:
        jobs: Tasks at a time.
    """

    def __init__(self, client: Any) -> None:  # ruff: ignore[any-type] - dask is an extra
        self.client, self.jobs = client, len(client.nthreads())

    def results(self, tasks: Sequence[Task[Result]]) -> Iterator[Result]:
        """See `finetuning.sweep.backends.Backend`.

        Raises:
            InputError: If workers die before they have begun a task.
        """
        distributed = extra("distributed", "dask")
        waiting = {self._submitted(task): task for task in tasks}
        beside: list[Task[Result]] = []  # which waited for a worker that another task killed
        reason, num_deaths = "", 0
        for future in distributed.as_completed(list(waiting)):
            task, error = waiting[future], future.exception()
            if not isinstance(error, distributed.KilledWorker):
                yield future.result()
            elif has_begun(task.lock):
                num_deaths += 1
                yield task.failed(death(error))
            else:
                beside.append(task)
                reason = " ".join(str(error).split())
        if beside and not num_deaths:
            raise InputError(
                f"workers died before they had begun a task ({reason:.200}); workers with this "
                "package and the folder of the runs were expected: see their logs"
            )
        if beside:
            yield from self.results(beside)

    def _submitted(self, task: Task[Result]) -> Any:  # ruff: ignore[any-type] - dask is an extra
        return self.client.submit(_done, Placed(task, threads=1), pure=False)


class Ray:
    """The processors of a ray cluster, or its GPUs where it has some, one task each.

    A task whose worker dies is tried once more.

    Args:
        jobs: Tasks at a time.
        on_gpus: Whether each has a GPU.
    """

    def __init__(self, jobs: int, *, on_gpus: bool = False) -> None:
        self.jobs, self.on_gpus = jobs, on_gpus

    def results(self, tasks: Sequence[Task[Result]]) -> Iterator[Result]:
        """See `finetuning.sweep.backends.Backend`."""
        ray, errors = extra("ray", "ray"), extra("ray.exceptions", "ray")
        do = ray.remote(num_cpus=1, num_gpus=int(self.on_gpus), max_retries=1)(_done)
        left, running = deque(tasks), dict[Any, Task[Result]]()
        while left or running:
            while left and len(running) < self.jobs:
                task = left.popleft()
                running[do.remote(Placed(task, threads=1))] = task
            for ended in ray.wait(list(running))[0]:
                task = running.pop(ended)
                try:
                    result = ray.get(ended)
                except errors.RayTaskError:  # it was raised by the task
                    raise
                except errors.RayError as error:
                    result = task.failed(death(error))
                yield result


def _done(placed: Placed[Result]) -> Result:
    return placed()


@contextmanager
def backend_of(options: BackendOptions, *, on_gpus: bool = True) -> Generator[Backend]:
    """The backend that options name, for a block.

    It is started here unless an address is given, and stopped at the end.

    Args:
        options: Where, and how many tasks at a time.
        on_gpus: Whether tasks compute on GPUs where there are some.

    Raises:
        InputError: If what it needs is not installed or cannot be reached.
    """
    jobs = options.jobs or (on_gpus and torch.cuda.device_count()) or joblib.cpu_count()
    if options.backend == "slurm":
        yield Slurm(options.jobs or _SLURM_TASKS, options.slurm or {})
    elif options.backend == "loky":
        with Processes(jobs) as processes:
            yield processes
    elif options.backend == "dask":
        with _dask(options.scheduler, jobs) as dask:
            yield dask
    else:
        with _ray(options.scheduler, options.jobs, jobs, on_gpus=on_gpus) as ray:
            yield ray


@contextmanager
def _dask(scheduler: str | None, jobs: int) -> Generator[Dask]:
    distributed, dask = extra("distributed", "dask"), extra("dask", "dask")
    logging.getLogger("distributed").setLevel(logging.WARNING)  # it tells of every worker
    local = {"n_workers": min(jobs, joblib.cpu_count()), "threads_per_worker": 1}
    where = {"address": scheduler} if scheduler else {**local, "dashboard_address": None}
    given = dict(dask.config.get(_ENVIRONMENT, {}).items() - {_TRIMMING})
    settings = {_DEATHS: 1, _ENVIRONMENT: given | environment(threads=1)}
    try:
        with dask.config.set(settings):
            client = distributed.Client(**where)
    except (OSError, ValueError) as error:
        raise _unreachable("dask", scheduler, error) from error
    with client:
        try:
            client.wait_for_workers(1, timeout=_PATIENCE)
        except TimeoutError as error:
            raise InputError(
                f"the dask scheduler at '{scheduler or 'this machine'}' has no worker; at least "
                f"one was expected: start some (dask worker {scheduler or 'ADDRESS'} --nthreads 1)"
            ) from error
        threads = client.nthreads()
        if many := next((worker for worker, number in threads.items() if number > 1), None):
            raise InputError(
                f"dask worker {many} has {threads[many]} threads; runs of one process would share "
                "its random numbers: start workers with --nthreads 1, several a machine"
            )
        yield Dask(client)


@contextmanager
def _ray(scheduler: str | None, asked: int, jobs: int, *, on_gpus: bool) -> Generator[Ray]:
    ray = extra("ray", "ray")
    local = {"num_cpus": min(jobs, joblib.cpu_count()), "include_dashboard": False}
    where = {"address": scheduler} if scheduler else local
    try:
        ray.init(**where, log_to_driver=False)
    except (ConnectionError, ValueError) as error:
        raise _unreachable("ray", scheduler, error) from error
    try:
        found = ray.cluster_resources()
        gpus = int(found.get("GPU", 0)) if on_gpus else 0
        num = gpus or int(found["CPU"])
        yield Ray(min(asked or num, num), on_gpus=gpus > 0)
    finally:
        ray.shutdown()


def _unreachable(kind: str, scheduler: str | None, error: Exception) -> InputError:
    return InputError(
        f"{kind} at '{scheduler or 'this machine'}' cannot be reached "
        f"({' '.join(str(error).split())}); the address of a running scheduler was expected: "
        "check --scheduler"
    )
