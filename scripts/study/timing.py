"""What a run costs when it has the machine to itself.

Runs that share a machine wait for each other, so that their times say little. Some pairs of runs
are therefore made first, one after the other: here in this process, which may compute on all
cores, elsewhere as tasks of the cluster. Their times are written down as each ends; a run that was
finished or interrupted by an earlier call has none.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypedDict

import torch

from core.documents import read_json
from core.outputs import whole_file
from finetuning.config import TrainConfig, resolve
from finetuning.setup import prepare
from finetuning.sweep import Backend, Here, Outcome, Processes, sweep
from finetuning.sweep.forecast import Forecast
from finetuning.sweep.running import Job
from finetuning.sweep.tasks import attempted

SECONDS = "seconds.json"


class _Seconds(TypedDict):
    seconds: dict[str, float]


class _Prepared(Job):
    """A run whose images and weights are loaded before the clock starts.

    What the first run of a process loads, the others find.
    """

    def made(self) -> Outcome:
        """See `Job`."""
        run = self.config
        assert isinstance(run, TrainConfig)
        _, failure = attempted(lambda: prepare(resolve(run)), self.report)
        return self.failed(failure) if failure else super().made()


def timed_alone(
    runs: Sequence[TrainConfig], root: Path, backend: Backend, forecast: Forecast
) -> list[Outcome]:
    """Make the runs one by one; the seconds of those that were not interrupted are kept.

    Returns:
        One outcome a run.
    """
    where = Here() if isinstance(backend, Processes) else backend
    outcomes = []
    for run in runs:
        begun = Path(run.output).exists()
        (outcome,) = sweep([run], root, where, forecast=forecast, task=_Prepared)
        outcomes.append(outcome)
        if not begun and not outcome.failure:
            _keep(root, Path(run.output).name, outcome.seconds)
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()  # other processes make the other runs
    return outcomes


def seconds_of(root: Path) -> Mapping[str, float]:
    """Seconds by the name of the run.

    Raises:
        InputError: If the file is damaged.
    """
    path = root / SECONDS
    return read_json(path, _Seconds)["seconds"] if path.is_file() else {}


def _keep(root: Path, name: str, seconds: float) -> None:
    known = dict(seconds_of(root)) | {name: seconds}
    with whole_file(root / SECONDS) as file:
        file.write_text(json.dumps({"seconds": known}, indent=2) + "\n", encoding="utf-8")
