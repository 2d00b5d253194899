"""When a sweep will end: seconds a step, measured by kind of run, and a plan of the rest."""

import heapq
import statistics
import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import asdict
from pathlib import Path

from tqdm import tqdm

from core.errors import InputError
from finetuning.sweep.names import WITHOUT_EFFECT, RunConfig, command_of, resolved
from finetuning.sweep.running import Outcome, num_steps, steps_left

# Options that change what a run learns but not what a step of it takes.
_SAME_SPEED = WITHOUT_EFFECT - {"device", "channels_last", "compile", "workers"} | {
    *("seed", "split_seed", "test_env", "train_fraction", "drop_rate", "pretrained"),
    *("lr", "head_lr_factor", "weight_decay", "steps", "milestones"),
}


class Forecast:
    """Time to go of runs that are begun in order, some at a time, the next when one ends.

    One forecast may go through several sweeps: each begins some of the runs, the others come
    later. What one sweep says about the speed of a kind of run holds in the next.

    Args:
        configs: The runs of all sweeps that are not finished.
        jobs: How many are made at a time.
        clock: Seconds since some moment.
    """

    def __init__(
        self,
        configs: Sequence[RunConfig],
        jobs: int,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.later_jobs, self.clock = jobs, clock
        self.kinds = {Path(config.output): _kind(config) for config in configs}
        self.steps = {Path(config.output): _steps(config) for config in configs}
        self.later, self.done = list(self.kinds), set[Path]()
        self.spent: dict[Hashable, list[tuple[float, int]]] = {}
        self.sweeping([], jobs)

    def sweeping(self, configs: Sequence[RunConfig], jobs: int) -> None:
        """A sweep begins with these of the runs, so many at a time."""
        self.jobs = jobs
        self.waiting = [Path(config.output) for config in configs]
        self.later = [folder for folder in self.later if folder not in self.waiting]
        self.begun: dict[Path, float] = {}
        self._begin()

    def ended(self, outcome: Outcome) -> None:
        """Take note of a run; its place is taken by the next one."""
        self.done.add(outcome.folder)
        self.begun.pop(outcome.folder, None)
        if outcome.folder in self.waiting:  # begun out of turn, as a cluster may
            self.waiting.remove(outcome.folder)
        if outcome.steps:
            spent = self.spent.setdefault(self.kinds[outcome.folder], [])
            spent.append((outcome.seconds, outcome.steps))
        self._begin()

    def _begin(self) -> None:
        while self.waiting and len(self.begun) < self.jobs:
            self.begun[self.waiting.pop(0)] = self.clock()

    def seconds(self) -> float | None:
        """Until the last run ends; None while no run has been measured.

        Example:
            >>> from finetuning.config import TrainConfig
            >>> times = iter([0.0, 60.0, 80.0])
            >>> runs = [TrainConfig(output=name, steps=9) for name in "ab"]
            >>> forecast = Forecast(runs, jobs=1, clock=lambda: next(times))
            >>> forecast.sweeping(runs, jobs=1)
            >>> forecast.ended(Outcome(Path("a"), seconds=60.0, steps=9))
            >>> forecast.seconds()
            40.0
        """
        if not self.spent:
            return None
        now = self.clock()
        ends = [max(0.0, self._takes(f) - (now - began)) for f, began in self.begun.items()]
        return self._last(ends, self.waiting) + self._last([0.0] * self.later_jobs, self.later)

    def _last(self, ends: list[float], queue: Sequence[Path]) -> float:
        """When the last run of a queue ends, whose processes are free at these times."""
        heapq.heapify(ends)
        for folder in queue:
            heapq.heapreplace(ends, ends[0] + self._takes(folder))
        return max(ends, default=0.0)

    def _takes(self, folder: Path) -> float:
        """Steps times the seconds a step of its kind, or the mean kind where none has ended."""
        rates = {kind: _rate(spent) for kind, spent in self.spent.items()}
        rate = rates.get(self.kinds[folder], statistics.fmean(rates.values()))
        return self.steps[folder] * rate

    def sentence(self) -> str:
        """Time to go and when that is, for a progress bar that moves only when a run ends."""
        seconds = self.seconds()
        if seconds is None:
            return "time to go unknown before a run has ended"
        end = time.strftime("%a %H:%M", time.localtime(time.time() + seconds))
        kinds = set(self.kinds.values())
        unknown = len(kinds - self.spent.keys())
        told = f", guessing {unknown} of {len(kinds)} kinds of run" if unknown else ""
        return f"{tqdm.format_interval(round(seconds))} to go, until {end}{told}"


def _steps(config: RunConfig) -> int:
    """Steps still to be made; all of them where the run cannot say, as it will itself."""
    try:
        return steps_left(config)
    except InputError:
        return num_steps(config)


def _kind(config: RunConfig) -> Hashable:
    options = asdict(resolved(config))
    told = {name: value for name, value in options.items() if name not in _SAME_SPEED}
    return command_of(config), repr(sorted(told.items()))


def _rate(spent: Sequence[tuple[float, int]]) -> float:
    return sum(seconds for seconds, _ in spent) / sum(steps for _, steps in spent)
