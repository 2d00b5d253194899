"""Make the PDF on feature creation: what fine-tuned features share with pretrained ones.

    python -m reports.feature_creation --record runs/feature_creation --output creation.pdf

The probe `feature_creation` calls `write_report`; other reports place its section by `drawings`,
`tables_of` and `facts`.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from analysis.creation_verdict import (
    AFTER,
    ALL,
    AXES,
    BEFORE,
    CKA,
    DIFFERENCE,
    FEATURES,
    MEDIAN,
    NULL,
    R2,
    creation_verdicts,
    r2_slope,
    with_recipes,
)
from analysis.equivalence import MARGIN
from analysis.estimates import Estimate, estimate
from analysis.verdicts import UNKNOWN, controls
from core.command_line import run
from core.records import Record
from reports import creation_figures
from reports.document import aligned, check_probe, line, named, plain, write_document
from reports.figures import splits
from reports.reasons import undefined
from reports.record_command import ReportConfig, report_record
from reports.style import Drawing, theme
from reports.tables import Quantity, Table, by_split, cell

PROBE = "feature_creation"
TITLE = "Does fine-tuning create features?"
AXIS_NAMES = {"lr": "learning rate", "steps": "steps", "train_size": "training images"}


def write_report(record: Record, folder: Path, output: Path) -> Path:
    """Writes the PDF of a record; the same record gives the same bytes.

    Args:
        record: Record of the probe `feature_creation`.
        folder: Where its files lie; they are embedded in the PDF.
        output: PDF to create.

    Raises:
        InputError: If the record is another probe's, or `output` exists or cannot be created.
    """
    check_probe(record, folder, PROBE)
    content = {"title": TITLE, "tables": tables_of(record), "creation": facts(record)}
    pictures = drawings(record)
    return write_document("feature_creation.typ", record, folder, output, content, pictures)


def facts(record: Record) -> dict[str, Any]:
    """What the section says of how it was made, and its verdicts."""
    return {
        "margin": MARGIN,
        "folds": record.config["folds"],
        "permutations": record.config["permutations"],
        "trained": trained_on(record),
        "axes": [AXIS_NAMES[axis] for axis in axes_of(record)],
        "verdicts": [line(verdict) for verdict in creation_verdicts(record)],
        "undefined": undefined(record),
    }


def trained_on(record: Record) -> str:
    """How many images the probes of a run are trained on."""
    images = [entry["images"] for entry in record.provenance["runs"]]
    sizes = {sum(n for of, n in found.items() if of.endswith("/train")) for found in images}
    if not any(sizes):
        return "a random half of the images, those of the fine-tuning not being among them"
    numbers = [str(size) for size in sorted({min(sizes), max(sizes)})]
    return f"{' to '.join(numbers)} of the training images of the run itself"


def axes_of(record: Record) -> list[str]:
    """What the runs that did not start from scratch differ in."""
    rows = with_recipes(record)
    rows = rows.loc[(rows["metric"] == R2) & ~rows["run"].isin(controls(record)), :]
    known = [axis for axis in AXES if rows[axis].notna().all() and (rows[axis] > 0).all()]
    return [axis for axis in known if rows[axis].nunique() > 1]


def drawings(record: Record) -> dict[str, Sequence[Drawing]]:
    """What features share and probes know, a figure per split; R2 over what runs differ in."""
    with theme():
        measured = sorted({*splits(record, R2), *splits(record, DIFFERENCE)})
        overview = [creation_figures.overview(record, split) for split in measured]
        axes = {axis: AXIS_NAMES[axis] for axis in axes_of(record)}
        paths = [creation_figures.over_recipes(record, axes)] if axes else []
        return {"creation": overview, "creation_recipes": paths}


def tables_of(record: Record) -> dict[str, Table]:
    """The same numbers, a row per run and split, and the slopes over what runs differ in."""
    shared = (
        Quantity("R², all layers", R2, ALL),
        Quantity("permuted", NULL, ALL),
        Quantity("median unit", MEDIAN, ALL),
        Quantity("R², Φ alone", R2, FEATURES),
        Quantity("CKA, all layers", CKA, ALL),
        Quantity("CKA, Φ alone", CKA, FEATURES),
    )
    probed = (
        Quantity("Before, all layers", BEFORE, ALL),
        Quantity("before, Φ", BEFORE, FEATURES),
        Quantity("after, all layers", AFTER, ALL),
        Quantity("after, Φ", AFTER, FEATURES),
        Quantity("Before, all layers, less after, Φ", DIFFERENCE, ALL),
    )
    return {
        "creation": _measured(record, by_split(record, shared, R2)),
        "creation_probes": _measured(record, by_split(record, probed, DIFFERENCE)),
        "creation_slopes": _slopes(record),
    }


def _measured(record: Record, table: Table) -> Table:
    """Without the networks before fine-tuning, which have no numbers of their own."""
    runs = creation_figures.runs_of(record)
    return table | {"rows": [row for row in table["rows"] if row[0] in runs]}


def _slopes(record: Record) -> Table:
    rows = []
    for axis in axes_of(record):
        for split in splits(record, R2):
            slope, num = r2_slope(with_recipes(record), axis, split)
            rows.append([AXIS_NAMES[axis], split, cell(slope), str(num)])
    header = ["Over", "Split", "Change of R² per factor of ten", "Runs"]
    return {"labels": 2, "header": header, "rows": rows}


def verdict_lines(record: Record) -> list[str]:
    """The verdicts as plain text, and why numbers are missing."""
    lines = aligned(
        ["run", "split", "features were there", "probe before - after [95 %]", "R2 [95 %]"],
        [
            [named(v), v.split, v.word, plain(v.estimate), plain(_r2(record, v.run, v.split))]
            for v in creation_verdicts(record)
        ],
    )
    return [*lines, *(f"not measured: {u['where']}: {u['reason']}" for u in undefined(record))]


def _r2(record: Record, name: str, split: str) -> Estimate:
    return estimate(record.values, R2, run=name, layer=ALL, split=split, env=ALL) or UNKNOWN


def report(config: ReportConfig) -> None:
    """Reads the record, writes the PDF, prints the verdicts."""
    report_record(config, write_report, verdict_lines)


def main() -> None:
    """Entry point of `python -m reports.feature_creation`."""
    run(report, ReportConfig)


if __name__ == "__main__":
    main()
