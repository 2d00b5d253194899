"""What a command that makes the report of one record does, and its options."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from core.records import Record

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ReportConfig:
    """Options of a report on one record."""

    record: str
    """Record folder that the probe wrote."""
    output: str | None = None
    """PDF to create (default: the probe's name); an existing file is never overwritten."""


def report_record(
    config: ReportConfig,
    write: Callable[[Record, Path, Path], Path],
    said: Callable[[Record], Sequence[str]],
) -> None:
    """Read a record, write its PDF and print what it says.

    Args:
        config: Which record, and where the PDF goes.
        write: Writes the PDF of a record that lies in a folder, and returns its path.
        said: The lines for the terminal.

    Raises:
        InputError: If there is no such record, or the PDF exists already.
    """
    folder = Path(config.record)
    record = Record.read(folder)
    output = write(record, folder, Path(config.output or f"{record.probe}.pdf"))
    print("\n".join(said(record)))
    log.info("wrote %s", output)
