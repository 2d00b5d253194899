"""Records made by several processes, each kept when it is done."""

import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from core.records import Record, new_folder
from finetuning.sweep import Backend
from finetuning.sweep.tasks import FAILURES, LOCKS, attempted, begun_when_free, own_gpu
from probes.partial import PartialResults

RECORDS = "records"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """One record to be made.

    Attributes:
        folder: Where it goes: `STUDY/records/KIND/NAME`.
        measure: Makes it.
        options: What `measure` is called with.
        checkpoints: The runs that it is of.
    """

    folder: Path
    measure: Callable[..., Record]
    options: tuple[Any, ...]
    checkpoints: tuple[str, ...]

    @property
    def kind(self) -> str:
        """What is measured."""
        return self.folder.parent.name

    @property
    def name(self) -> str:
        """`KIND/NAME`."""
        return f"{self.kind}/{self.folder.name}"

    @property
    def study(self) -> Path:
        """The folder of the study."""
        return self.folder.parents[2]

    @property
    def lock(self) -> Path:
        """The file that is locked while the record is made."""
        return self.study / LOCKS / f"{RECORDS}%{self.kind}%{self.folder.name}"

    def record(self) -> Record | None:
        """The record, if it is there and of these runs: more may have been finished since.

        Raises:
            InputError: If it is damaged.
        """
        found = Record.read(self.folder) if self.folder.exists() else None
        names = sorted(Path(c).name for c in self.checkpoints)
        return found if found is not None and sorted(runs_of(found)) == names else None

    def __call__(self) -> "Attempt":
        """Make the record."""
        report = self.study / FAILURES / f"{self.kind}-{self.folder.name}.txt"
        with begun_when_free(self.lock), own_gpu(self.study):
            return Attempt(self.name, attempted(self._make, report)[1])

    def _make(self) -> None:
        if self.record() is not None:  # by the last process of a killed call
            return
        record = self.measure(*self.options)
        if self.folder.exists():
            shutil.rmtree(self.folder)
        with new_folder(self.folder) as folder:
            record.write(folder)
        PartialResults.beside(self.folder).remove()

    def failed(self, reason: str) -> "Attempt":
        """What a call returns that did not end."""
        return Attempt(self.name, reason)


@dataclass(frozen=True)
class Attempt:
    """How a job ended.

    Attributes:
        name: Of the job.
        failure: Why there is no record, empty where there is one.
    """

    name: str
    failure: str


def runs_of(record: Record) -> list[str]:
    """Names of the runs that a record is of, as its options give their folders."""
    names = ("checkpoints", "finetuned")
    return [Path(path).name for name in names for path in record.config.get(name, ())]


def folder_of(output: str | Path, kind: str, name: str) -> Path:
    """Where a record of a study lies."""
    return Path(output) / RECORDS / kind / name


def made(jobs: Sequence[Job], backend: Backend) -> dict[str, str]:
    """Measure what no earlier call has.

    A measurement that its run does not allow (weights that did not move, too few images of a
    class), that fails with a defect, or whose process dies, does not stop the others.

    Returns:
        Why there is no record, by `KIND/NAME`, for those that have none.

    Raises:
        InputError: If a record is damaged.
    """
    waiting = [job for job in jobs if job.record() is None]
    if not waiting:
        return {}
    waiting[0].lock.parent.mkdir(parents=True, exist_ok=True)
    attempts = tqdm(backend.results(waiting), "measuring", len(waiting), unit="record")
    reasons = {attempt.name: attempt.failure for attempt in attempts}
    failed = {job.name: reasons[job.name] for job in waiting if reasons[job.name]}
    for name, reason in failed.items():
        log.warning("%s: %s", name, reason)
    return failed


def read(jobs: Sequence[Job], kind: str) -> Mapping[str, Record]:
    """The records of a kind that are there, by name: those of other jobs are left alone."""
    found = {job.folder.name: job.record() for job in jobs if job.kind == kind}
    return {name: record for name, record in found.items() if record is not None}
