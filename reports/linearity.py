"""Make the PDF of a linearity record again: verdicts, figures, tables, methods, provenance.

    python -m reports.linearity --record runs/linearity --output linearity.pdf

The probe itself calls `write_report`; this command is for records that lie on disk.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from analysis.verdicts import comparison_verdicts, linearity_verdicts
from core.command_line import run
from core.records import Record
from reports import dots, figures, kernels, tables, training_space
from reports.document import OfImages, aligned, check_probe, line, named, plain, write_document
from reports.record_command import ReportConfig, report_record
from reports.style import Drawing

PROBE = "linearity"
TITLE = "How linear was the fine-tuning?"


class _Provenance(OfImages):
    num_draws: int


def write_report(record: Record, folder: Path, output: Path) -> Path:
    """Writes the PDF of a record; the same record gives the same bytes.

    Args:
        record: Record of the probe `linearity`.
        folder: Where its files lie; they are embedded in the PDF.
        output: PDF to create.

    Raises:
        InputError: If the record is another probe's, or `output` exists or cannot be created.
    """
    check_probe(record, folder, PROBE, _Provenance)
    content = {
        "title": TITLE,
        "verdicts": [line(verdict) for verdict in linearity_verdicts(record)],
        "comparisons": [line(verdict) for verdict in comparison_verdicts(record)],
        "tables": _tables(record) | kernels.tables_of(record) | training_space.tables_of(record),
        "draws": record.provenance["num_draws"],
        "kernels": kernels.facts(record),
        "training": training_space.facts(record),
    }
    drawings = _drawings(record) | kernels.drawings(record) | training_space.drawings(record)
    return write_document("linearity.typ", record, folder, output, content, drawings)


def _drawings(record: Record) -> dict[str, Sequence[Drawing]]:
    return {
        "neighbours": [dots.neighbours(record)],
        "path": [figures.path(record)],
        "interpolation": figures.interpolation(record),
        "curvature": [dots.curvature(record)],
        "blocks": dots.blocks(record),
    }


def _tables(record: Record) -> dict[str, Any]:
    splits = figures.splits(record)
    return {
        "linearity": tables.by_split(record, tables.LINEARITY),
        "decisions": tables.by_split(record, tables.DECISIONS),
        "scale": tables.by_split(record, tables.SCALE),
        "environments": tables.by_environment(record, tables.ENVIRONMENT),
        "blocks": {
            split: table for split in splits if (table := tables.blocks(record, split)) is not None
        },
        "weights": tables.weights(record),
    }


def verdict_table(record: Record) -> str:
    """The verdicts of the PDF as plain text of at most 100 columns."""
    lines = aligned(
        ["run", "split", "verdict", "R2 [95 %]", "lazy radius [95 %]"],
        [
            [named(v), v.split, v.word, plain(v.estimate), plain(v.lazy_radius)]
            for v in linearity_verdicts(record)
        ],
    )
    compared = aligned(
        ["difference", "split", "verdict", "R2 [95 %]"],
        [[v.run, v.split, v.word, plain(v.estimate)] for v in comparison_verdicts(record)],
    )
    parts = (lines, compared, kernels.verdict_lines(record), training_space.lines(record))
    return "\n\n".join("\n".join(part) for part in parts if part)


def report(config: ReportConfig) -> None:
    """Reads the record, writes the PDF, prints the verdicts."""
    report_record(config, write_report, lambda record: [verdict_table(record)])


def main() -> None:
    """Entry point of `python -m reports.linearity`."""
    run(report, ReportConfig)


if __name__ == "__main__":
    main()
