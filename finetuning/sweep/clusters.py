"""The backend that `--backend` names, for the length of a block."""

import logging
from collections.abc import Generator
from contextlib import ExitStack, contextmanager

import joblib
import torch

from core.errors import InputError
from finetuning.sweep.backends import Backend, Cluster, extra
from finetuning.sweep.config import SweepConfig
from finetuning.sweep.processes import Processes
from finetuning.sweep.slurm import Slurm

_SLURM_TASKS = 100
_PATIENCE = 10  # seconds that the first worker of a scheduler may take to come


@contextmanager
def backend_of(config: SweepConfig) -> Generator[Backend]:
    """Started here unless an address is given, and stopped at the end.

    Raises:
        InputError: If what it needs is not installed or cannot be reached.
    """
    if config.backend == "slurm":
        yield Slurm(config.jobs or _SLURM_TASKS, config.slurm or {})
        return
    jobs = config.jobs or torch.cuda.device_count() or joblib.cpu_count()
    if config.backend == "loky":
        with Processes(jobs) as processes:
            yield processes
        return
    with ExitStack() as stack:
        if config.backend == "dask":
            jobs = stack.enter_context(_dask(config.scheduler, jobs))
            deaths = (extra("distributed", "dask").KilledWorker,)
        else:
            jobs = stack.enter_context(_ray(config.scheduler, config.jobs, jobs))
            deaths = (extra("ray.exceptions", "ray").RayError,)
        stack.enter_context(joblib.parallel_config(config.backend, n_jobs=jobs))
        yield Cluster(*deaths)


@contextmanager
def _dask(scheduler: str | None, jobs: int) -> Generator[int]:
    distributed = extra("distributed", "dask")
    logging.getLogger("distributed").setLevel(logging.WARNING)  # it tells of every worker
    local = {"n_workers": min(jobs, joblib.cpu_count()), "threads_per_worker": 1}
    where = {"address": scheduler} if scheduler else {**local, "dashboard_address": None}
    try:
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
        yield len(threads)


@contextmanager
def _ray(scheduler: str | None, asked: int, jobs: int) -> Generator[int]:
    ray, backend = extra("ray", "ray"), extra("ray.util.joblib", "ray")
    backend.register_ray()
    local = {"num_cpus": min(jobs, joblib.cpu_count()), "include_dashboard": False}
    where = {"address": scheduler} if scheduler else local
    try:
        ray.init(**where, log_to_driver=False)
    except (ConnectionError, ValueError) as error:
        raise _unreachable("ray", scheduler, error) from error
    try:
        num_cpus = int(ray.cluster_resources()["CPU"])
        yield min(asked or num_cpus, num_cpus)
    finally:
        ray.shutdown()


def _unreachable(kind: str, scheduler: str | None, error: Exception) -> InputError:
    return InputError(
        f"{kind} at '{scheduler or 'this machine'}' cannot be reached "
        f"({' '.join(str(error).split())}); the address of a running scheduler was expected: "
        "check --scheduler"
    )
