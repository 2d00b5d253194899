"""The work on a kernel, shared between the processes of joblib and between devices."""

import copy
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import joblib
import torch

from core.device import full_precision
from probes.ntk.exact import Kernel
from probes.ntk.examples import Examples
from probes.ntk.factor_files import FactorFiles
from probes.ntk.ledger import Ledger
from probes.ntk.progress import watched
from probes.ntk.tiles import Tile


@dataclass(frozen=True)
class Task:
    """What one process does: every so-many-th part of the work, on its device."""

    kernel: Kernel
    x1: Examples
    x2: Examples | None
    folder: Path
    factors: FactorFiles | None
    workers: int
    device: torch.device | None = None

    def capture(self, parts: Sequence[tuple[int, slice]]) -> None:
        """The gradients of some parts of the sides, to disk."""
        with self._at_work() as kernel:
            for side, part in parts:
                x = self.x1 if side == 0 or self.x2 is None else self.x2
                self.factors.save(side, part, kernel.factors(x[part]))  # type: ignore[union-attr]

    def fill(self, rows: Sequence[Sequence[Tile]]) -> None:
        """Some rows of tiles."""
        ledger, files = Ledger(self.folder), self.factors
        with self._at_work() as kernel:
            read = files and (lambda side, part: files.load(side, part, kernel.device))
            for row in rows:
                for tile, parts in kernel.row(row, self.x1, self.x2, read):
                    ledger.write(tile, parts)

    @contextmanager
    def _at_work(self) -> Generator[Kernel, None, None]:
        """The kernel on this task's device, with its share of the threads.

        A model is changed while it is differentiated, so that threads of one process need copies.
        """
        threads = torch.get_num_threads()
        torch.set_num_threads(max(1, min(threads, joblib.cpu_count() // self.workers)))
        kernel = self.kernel if self.device is None else self.kernel.on(self.device)
        if self.workers > 1:
            model = copy.deepcopy(kernel.network.model)
            kernel = kernel.of(replace(kernel.network, model=model))
        try:
            with full_precision():
                yield kernel
        finally:
            torch.set_num_threads(threads)


def capture_all(tasks: Sequence[Task], factors: FactorFiles, *, progress: bool) -> None:
    """The gradients of all examples that have none on disk."""
    sides = [len(x) for x in (tasks[0].x1, tasks[0].x2) if x is not None]
    missing = lambda: [(i, p) for i, num in enumerate(sides) for p in factors.missing(i, num)]
    done = lambda: sum(sides) - sum(part.stop - part.start for _, part in missing())
    with watched(sum(sides), done, "example", shown=progress):
        _in_parallel(tasks, "capture", missing())


def fill_all(tasks: Sequence[Task], ledger: Ledger, *, progress: bool) -> None:
    """All tiles that are missing."""
    with watched(ledger.num_pairs, ledger.num_pairs_done, "pair", shown=progress):
        _in_parallel(tasks, "fill", ledger.missing())


def _in_parallel(tasks: Sequence[Task], action: str, work: Sequence) -> None:
    """Share the work between the tasks, in turn."""
    shares = [(task, work[i :: len(tasks)]) for i, task in enumerate(tasks)]
    calls = [joblib.delayed(getattr(task, action))(share) for task, share in shares if share]
    joblib.Parallel(n_jobs=len(tasks))(calls)
