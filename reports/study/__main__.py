"""Make the PDF of a study again, from its runs and its record.

    python -m reports.study --runs runs/study/study --output study.pdf

`scripts.study` calls `write_report`. Figures with their data are written beside the runs, to
`figures`.
"""

import logging
from dataclasses import dataclass
from pathlib import Path

from analysis.runs import read_runs
from core.command_line import run
from core.records import Record
from reports.study import write_report

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ReportConfig:
    """Options of `python -m reports.study`."""

    runs: str
    """File of runs as `scripts.study` wrote it beside its record, or the folder of both."""
    output: str = "study.pdf"
    """PDF to create; an existing file is never overwritten."""


def report(config: ReportConfig) -> None:
    """Reads runs and record, writes the PDF."""
    path = Path(config.runs)
    runs = read_runs(path)
    folder = path if path.is_dir() else path.parent
    output = write_report(runs, Record.read(folder), folder, Path(config.output))
    log.info("wrote %s", output)


def main() -> None:
    """Entry point of `python -m reports.study`."""
    run(report, ReportConfig)


if __name__ == "__main__":
    main()
