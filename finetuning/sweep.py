"""Many runs, several at once: finished ones are skipped, failures reported, none runs twice.

    from finetuning.sweep import sweep

    with joblib.parallel_config("loky", n_jobs=2):  # or "dask", "ray"
        outcomes = sweep(configs, Path("runs"))

Runs are shared between the processes of joblib's backend. Every run holds a lock while it trains,
so that a second sweep over the same folder leaves it to the first; the system takes the lock back
from a process that dies, and the next sweep resumes the run where it stopped.
"""

import os
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import joblib
import torch
from tqdm import tqdm

from core.errors import InputError
from core.outputs import held
from finetuning.config import TrainConfig
from finetuning.linear.__main__ import fit_linear
from finetuning.linear.config import LinearConfig
from finetuning.train import train

LOCKS = ".locks"
RunConfig = TrainConfig | LinearConfig


@dataclass(frozen=True)
class Outcome:
    """How one run ended.

    Attributes:
        folder: The run folder.
        seconds: What it took in this sweep; 0 where it was finished before.
        failure: Why there is no finished run, empty where there is one.
    """

    folder: Path
    seconds: float
    failure: str = ""


def sweep(configs: Sequence[RunConfig], root: Path) -> list[Outcome]:
    """Run everything that is not finished, in the order given, on joblib's backend.

    Args:
        configs: Runs with distinct outputs.
        root: A folder that every process sees; locks lie in it.

    Returns:
        One outcome a run, in the order of `configs`. A run that another sweep is at has failed
        here, and says so.

    Raises:
        InputError: If two runs have the same output.
    """
    outputs = [config.output for config in configs]
    twice = next((output for output in outputs if outputs.count(output) > 1), None)
    if twice is not None:
        raise InputError(f"two runs have the output '{twice}'; a folder each was expected")
    (root / LOCKS).mkdir(parents=True, exist_ok=True)
    parallel = joblib.Parallel(return_as="generator_unordered")
    jobs = joblib.effective_n_jobs(parallel.n_jobs)
    calls = [
        joblib.delayed(_locked_run)(_placed(config, i, jobs), root, jobs)
        for i, config in enumerate(configs)
        if not is_finished(config)
    ]
    with _quiet_bars():
        done = cast(Iterator[Outcome], parallel(calls))
        found = list(tqdm(done, "sweep", total=len(calls), unit="run"))
    by_folder = {outcome.folder: outcome for outcome in found}
    return [by_folder.get(Path(output), Outcome(Path(output), 0.0)) for output in outputs]


def is_finished(config: RunConfig) -> bool:
    """Whether the run folder has its final weights."""
    return (Path(config.output) / "final.safetensors").is_file()


def _placed(config: RunConfig, index: int, jobs: int) -> RunConfig:
    """The run on the next GPU, where several share the work."""
    num_gpus = torch.cuda.device_count()
    if config.device == "auto" and num_gpus > 1 and jobs > 1:
        return replace(config, device=f"cuda:{index % num_gpus}")
    return config


def _locked_run(config: RunConfig, root: Path, jobs: int) -> Outcome:
    if jobs > 1:  # a process of its own
        torch.set_num_threads(max(1, joblib.cpu_count() // jobs))
    folder, began = Path(config.output), time.perf_counter()
    name = str(folder.absolute()).replace(os.sep, "%")
    with held(root / LOCKS / name) as is_ours:
        if not is_ours:
            return Outcome(folder, 0.0, "another process is at this run")
        if is_finished(config):
            return Outcome(folder, 0.0)
        try:
            train(config) if isinstance(config, TrainConfig) else fit_linear(config)
        except InputError as error:
            return Outcome(folder, time.perf_counter() - began, str(error))
    return Outcome(folder, time.perf_counter() - began)


@contextmanager
def _quiet_bars() -> Generator[None]:
    """No bar for every single run in the processes that are started meanwhile."""
    before = os.environ.get("TQDM_DISABLE")
    os.environ["TQDM_DISABLE"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["TQDM_DISABLE"]
        else:
            os.environ["TQDM_DISABLE"] = before
