"""When a sweep will end: seconds a step, measured by kind of run, and a plan of the rest."""

import heapq
import statistics
import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import asdict
from pathlib import Path

from tqdm import tqdm

from finetuning.sweep.names import WITHOUT_EFFECT, RunConfig, command_of, resolved
from finetuning.sweep.running import Outcome, num_steps

# Options that change what a run learns but not what a step of it takes.
_SAME_SPEED = WITHOUT_EFFECT - {"device", "channels_last", "compile", "workers"} | {
    *("seed", "split_seed", "test_env", "train_fraction", "drop_rate", "pretrained"),
    *("lr", "head_lr_factor", "weight_decay", "steps", "milestones"),
}


class Forecast:
    """Time to go of runs that are begun in order, some at a time, the next when one ends.

    Args:
        configs: The runs.
        jobs: How many are made at a time.
        clock: Seconds since some moment.
    """

    def __init__(
        self,
        configs: Sequence[RunConfig],
        jobs: int,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.jobs, self.clock = jobs, clock
        self.kinds = {Path(config.output): _kind(config) for config in configs}
        self.steps = {Path(config.output): num_steps(config) for config in configs}
        self.waiting = list(self.kinds)
        self.begun: dict[Path, float] = {}
        self.spent: dict[Hashable, list[tuple[float, int]]] = {}
        self._begin()

    def ended(self, outcome: Outcome) -> None:
        """Take note of a run; its place is taken by the next one."""
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
            >>> forecast.ended(Outcome(Path("a"), seconds=60.0, steps=9))
            >>> forecast.seconds()
            40.0
        """
        if not self.spent:
            return None
        now = self.clock()
        ends = [max(0.0, self._takes(f) - (now - began)) for f, began in self.begun.items()]
        heapq.heapify(ends)
        for folder in self.waiting:
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


def _kind(config: RunConfig) -> Hashable:
    options = asdict(resolved(config))
    told = {name: value for name, value in options.items() if name not in _SAME_SPEED}
    return command_of(config), repr(sorted(told.items()))


def _rate(spent: Sequence[tuple[float, int]]) -> float:
    return sum(seconds for seconds, _ in spent) / sum(steps for _, steps in spent)
