"""One run of a sweep, in whatever process it lands: locked, on a GPU of its own."""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from core.outputs import held
from finetuning.linear.__main__ import fit_linear
from finetuning.linear.config import LinearConfig
from finetuning.run_folder import read_metrics
from finetuning.sweep.names import RunConfig, resolved
from finetuning.sweep.tasks import FAILURES, LOCKS, attempted, begun, own_gpu
from finetuning.train import train

ELSEWHERE = "another process is at this run"
_LOOK_EVERY = 5.0  # seconds between looks at runs that other processes are at


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
    """One run to be made, a task of a sweep.

    Attributes:
        config: The run.
        root: The folder of the sweep.
    """

    config: RunConfig
    root: Path

    def __call__(self) -> Outcome:
        """Make the run, unless it is finished or another process is at it."""
        with begun(self.lock) as is_ours:
            if not is_ours:
                return self.failed(ELSEWHERE)
            with own_gpu(self.root):
                return self._made()

    def _made(self) -> Outcome:
        folder, began = Path(self.config.output), time.perf_counter()
        if is_finished(self.config):
            return Outcome(folder, 0.0)
        steps, failure = attempted(lambda: _train(self.config), self.report)
        return Outcome(folder, time.perf_counter() - began, failure, steps or 0)

    @property
    def lock(self) -> Path:
        """The file that is locked while the run is made, on whatever machine sees the folder."""
        name = os.path.relpath(self.config.output, self.root).replace(os.sep, "%")
        return self.root / LOCKS / name

    @property
    def report(self) -> Path:
        """The file that a defect leaves its traceback in."""
        return self.root / FAILURES / f"{Path(self.config.output).name}.txt"

    def failed(self, reason: str) -> Outcome:
        """The outcome where there is no finished run."""
        return Outcome(Path(self.config.output), 0.0, reason)


def is_finished(config: RunConfig) -> bool:
    """Whether the run folder has its final weights."""
    return (Path(config.output) / "final.safetensors").is_file()


def is_being_made(config: RunConfig, root: Path) -> bool:
    """Whether some process holds the run's lock."""
    with held(Job(config, root).lock) as was_free:
        return not was_free


def wait_for_one(configs: Sequence[RunConfig], root: Path) -> None:
    """Until the process that is at one of these runs has ended it, or died."""
    while configs and all(is_being_made(config, root) for config in configs):
        time.sleep(_LOOK_EVERY)


def _train(config: RunConfig) -> int:
    """Make the run; how many steps of it there were to make."""
    steps = steps_left(config)
    fit_linear(config) if isinstance(config, LinearConfig) else train(config)
    return steps


def steps_left(config: RunConfig) -> int:
    """Steps from where an interrupted run goes on.

    Raises:
        InputError: If it does not say where that is.
    """
    metrics = Path(config.output) / "metrics.jsonl"
    lines = read_metrics(metrics) if metrics.is_file() else []
    return num_steps(config) - (lines[-1]["step"] if lines else 0)


def num_steps(config: RunConfig) -> int:
    """Steps of all fits of the run."""
    config = resolved(config)
    fits = len(config.cells()) if isinstance(config, LinearConfig) else 1
    assert config.steps is not None
    return config.steps * fits
