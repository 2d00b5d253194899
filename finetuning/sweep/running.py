"""One run of a sweep, in whatever process it lands: locked, on its share of cores or its GPU."""

import contextlib
import os
import socket
import time
import traceback
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import torch

from core.errors import InputError
from core.outputs import held, whole_file
from finetuning.linear.__main__ import fit_linear
from finetuning.linear.config import LinearConfig
from finetuning.run_folder import read_metrics
from finetuning.sweep.names import RunConfig, resolved
from finetuning.train import train

LOCKS = ".locks"
FAILURES = "failures"
ELSEWHERE = "another process is at this run"
_BEGUN = "begun"  # what a lock file holds until its run has ended, whatever becomes of the process


@dataclass(frozen=True)
class Outcome:
    """How one run ended.

    Attributes:
        folder: The run folder.
        seconds: What it took in this sweep; 0 where it was finished before.
        failure: Why there is no finished run, empty where there is one.
        steps: The steps that these seconds went into.
    """

    folder: Path
    seconds: float
    failure: str = ""
    steps: int = 0


@dataclass(frozen=True)
class Job:
    """What another process needs to make one run, wherever it is.

    Attributes:
        config: The run.
        root: The folder of the sweep.
        threads: Threads that the run may compute with; None for those that the process has.
        directory: Where relative paths start.
    """

    config: RunConfig
    root: Path
    threads: int | None = None
    directory: str = field(default_factory=os.getcwd)

    def __call__(self) -> Outcome:
        """Make the run, unless it is finished or another process is at it."""
        if self.threads is not None:
            torch.set_num_threads(self.threads)
        with contextlib.chdir(self.directory), held(self.lock) as is_ours:
            if not is_ours:
                return Outcome(Path(self.config.output), 0.0, ELSEWHERE)
            self.lock.write_text(_BEGUN)
            with _own_gpu(self.root):
                outcome = _made(self.config, self.root)
            self.lock.write_text("")
            return outcome

    @property
    def lock(self) -> Path:
        """The file that is locked while the run is made, on whatever machine sees the folder."""
        name = os.path.relpath(self.config.output, self.root).replace(os.sep, "%")
        return Path(self.directory, self.root, LOCKS, name)

    @property
    def has_begun(self) -> bool:
        """Whether a process began with the run and has not ended it, perhaps because it died."""
        return self.lock.is_file() and self.lock.read_text() == _BEGUN


def is_finished(config: RunConfig) -> bool:
    """Whether the run folder has its final weights."""
    return (Path(config.output) / "final.safetensors").is_file()


def is_being_made(config: RunConfig, root: Path) -> bool:
    """Whether some process holds the run's lock."""
    with held(Job(config, root).lock) as was_free:
        return not was_free


def _made(config: RunConfig, root: Path) -> Outcome:
    folder, began = Path(config.output), time.perf_counter()
    if is_finished(config):
        return Outcome(folder, 0.0)
    failure = ""
    try:
        before = _steps_done(folder)
        fit_linear(config) if isinstance(config, LinearConfig) else train(config)
    except InputError as error:
        failure = str(error)
    # A defect of ours, or memory that does not suffice: the other runs may still be made.
    except Exception as error:
        failure = _reported(error, root / FAILURES / f"{folder.name}.txt")
    seconds = time.perf_counter() - began
    return Outcome(folder, seconds, failure, 0 if failure else num_steps(config) - before)


def _reported(error: Exception, file: Path) -> str:
    """A sentence, with the traceback in a file of its own."""
    with whole_file(file, parents=True) as path:
        path.write_text("".join(traceback.format_exception(error)), encoding="utf-8")
    what = " ".join(f"{type(error).__name__}: {error}".split())
    return f"{what:.200}; a run that ends was expected: see the traceback in '{file}'"


def _steps_done(folder: Path) -> int:
    """The step from which an interrupted run goes on."""
    metrics = folder / "metrics.jsonl"
    lines = read_metrics(metrics) if metrics.is_file() else []
    return lines[-1]["step"] if lines else 0


def num_steps(config: RunConfig) -> int:
    """Steps of all fits of the run."""
    config = resolved(config)
    fits = len(config.cells()) if isinstance(config, LinearConfig) else 1
    assert config.steps is not None
    return config.steps * fits


@contextmanager
def _own_gpu(root: Path) -> Generator[None]:
    """The block computes on the GPU of this machine that fewest runs of the sweep are on.

    The run's options still say `auto`, so that a resumed run may land on another one.
    """
    num_gpus = torch.cuda.device_count()
    places = ((place, gpu) for place in count() for gpu in range(num_gpus))
    for place, gpu in places if num_gpus > 1 else ():
        with held(root / LOCKS / f"{socket.gethostname()} gpu {gpu} {place}") as is_free:
            if is_free:
                with torch.cuda.device(gpu):
                    yield
                return
    yield
