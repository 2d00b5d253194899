"""Records made by several processes, each kept when it is done."""

import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import joblib
import torch

from core.errors import InputError
from core.records import Record, new_folder
from probes.partial import PartialResults

RECORDS = "records"
Records = Mapping[str, Mapping[str, Record]]  # by kind and name

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Job:
    """One record to be made.

    Attributes:
        folder: Where it goes: `.../KIND/NAME`.
        measure: Makes it.
        options: What `measure` is called with.
        checkpoints: The runs that it is of.
    """

    folder: Path
    measure: Callable[..., Record]
    options: tuple[Any, ...]
    checkpoints: tuple[str, ...]

    @property
    def is_made(self) -> bool:
        """Whether the record is there, and of these runs: more may have been finished since.

        Raises:
            InputError: If it is damaged.
        """
        if not self.folder.exists():
            return False
        return sorted(runs_of(Record.read(self.folder))) == sorted(
            Path(c).name for c in self.checkpoints
        )

    def __call__(self, threads: int | None) -> str:
        """Make the record; why there is none, empty where there is one."""
        if threads is not None:
            torch.set_num_threads(threads)
        try:
            record = self.measure(*self.options)
        except InputError as error:
            return str(error)
        if self.folder.exists():
            shutil.rmtree(self.folder)
        with new_folder(self.folder) as folder:
            record.write(folder)
        PartialResults.beside(self.folder).remove()
        return ""


def runs_of(record: Record) -> list[str]:
    """Names of the runs that a record is of, as its options give their folders."""
    names = ("checkpoints", "finetuned")
    return [Path(path).name for name in names for path in record.config.get(name, ())]


def folder_of(output: str | Path, kind: str, name: str) -> Path:
    """Where a record of a study lies."""
    return Path(output) / RECORDS / kind / name


def made(jobs: Sequence[Job]) -> dict[str, str]:
    """Measure what no earlier call has, on joblib's backend.

    A measurement that its run does not allow (weights that did not move, too few images of a
    class) does not stop the others.

    Returns:
        Why there is no record, by `KIND/NAME`, for those that have none.
    """
    waiting = [job for job in jobs if not job.is_made]
    num = joblib.effective_n_jobs(joblib.Parallel().n_jobs)
    threads = max(1, joblib.cpu_count() // num) if num > 1 else None  # else this process's own
    reasons = joblib.Parallel()(joblib.delayed(job)(threads) for job in waiting)
    failed = {
        "/".join(job.folder.parts[-2:]): reason
        for job, reason in zip(waiting, reasons, strict=True)
        if reason
    }
    for name, reason in failed.items():
        log.warning("%s: %s", name, reason)
    return failed


def read(output: str | Path, kind: str) -> dict[str, Record]:
    """The records of a kind that are there, by name."""
    folder = Path(output) / RECORDS / kind
    found = sorted(folder.iterdir()) if folder.is_dir() else []
    return {path.name: Record.read(path) for path in found if not path.name.startswith(".")}
