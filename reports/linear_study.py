"""The report of `scripts.linear_study`: is fine-tuning linear, and where does that end?"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.linear_counterparts import contrasts, linear_model_verdicts
from core.records import Record
from reports import counterparts, linearity_grid
from reports.document import check_probe, line, write_document
from reports.style import Drawing

PROBE = "linear_study"
TITLE = "Is fine-tuning really linear?"


def write_report(
    record: Record, runs: pd.DataFrame, grid: pd.DataFrame | None, folder: Path, output: Path
) -> Path:
    """Writes the PDF of a study; the same study gives the same bytes.

    Args:
        record: Record of the study.
        runs: The runs frame of the comparison.
        grid: That of the grid; None where there is none.
        folder: Where the record's files lie; they are embedded in the PDF.
        output: PDF to create.

    Raises:
        InputError: If the record is another probe's, or `output` exists or cannot be created.
    """
    check_probe(record, folder, PROBE)
    found = contrasts(runs)
    verdicts = linear_model_verdicts(found)
    drawings: dict[str, Sequence[Drawing]] = {"comparison": counterparts.drawings(runs, found)}
    tables: dict[str, Any] = {"comparison": counterparts.table(found)}
    if grid is not None:
        drawings["grid"] = [linearity_grid.drawing(grid, record)]
        tables["grid"] = linearity_grid.table(grid, record)
    content = {
        "title": TITLE,
        "verdicts": [line(verdict) for verdict in verdicts],
        "tables": tables,
        "margin": found[0].test.margin,
        "reason": found[0].mean.reason,
        "has_grid": grid is not None,
    }
    return write_document("linear_study.typ", record, folder, output, content, drawings)
