"""From a frame of runs to the PDF, and to every figure with its data beside it."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.claims.ledger import Entry, ledger
from analysis.claims.rows import SINGLE
from analysis.runs import FILES, check_runs
from core.outputs import whole_file
from core.records import Record
from reports.document import Provenance, check_probe, write_document
from reports.study import verdicts
from reports.study.catalogue import SECTIONS
from reports.study.sections import Content, Plate, built
from reports.style import Drawing
from reports.typeset import Attachment, check_new_file

PROBE = "study"
TITLE = "Fine-tuning with very large dropout, claim by claim"
FIGURES = "figures"
LEDGER = "ledger.csv"
_MIME = {".parquet": "application/vnd.apache.parquet", ".jsonl": "application/jsonl"}


def write_report(
    runs: pd.DataFrame,
    record: Record,
    folder: Path,
    output: Path,
    entries: Sequence[Entry] | None = None,
) -> Path:
    """Writes the PDF of a study; the same study gives the same bytes.

    Every figure is also written as SVG, with what it shows as CSV, to `folder`/figures; what lies
    there from an earlier report of the same study is replaced.

    Args:
        runs: A runs frame; see `analysis.runs`.
        record: Record of the probe `study`: options and provenance; `failed` in it has the reason
            of every run that is missing.
        folder: Where its files lie; they are embedded in the PDF.
        output: PDF to create.
        entries: The ledger of these runs, where it is at hand.

    Raises:
        InputError: If the frame is no runs frame, the record is another probe's, or `output`
            exists or cannot be created.
    """
    check_new_file(output)
    check_probe(record, folder, PROBE, Provenance)
    runs = check_runs(runs)
    entries = entries or ledger(runs)
    found = {section.name: built(section, runs) for section in SECTIONS}
    plates = {name: named(name, content) for name, (content, _) in found.items()}
    write_figures(plates, folder / FIGURES)
    write_csv(verdicts.frame(entries), folder / FIGURES / LEDGER)
    content = {
        "title": TITLE,
        "subtitle": _subtitle(runs),
        "claims": verdicts.lines(entries),
        "ledger": verdicts.facts(entries),
        "failed": record.provenance.get("failed", {}),
        "sections": {name: _words(*pair) for name, pair in found.items()},
        "tables": {name: content.table for name, (content, _) in found.items() if content},
    }
    drawings: Mapping[str, list[Drawing]] = {
        name: [plate.drawing for plate in group] for name, group in plates.items()
    }
    more = [*_frames(folder), _ledger(folder / FIGURES / LEDGER)]
    return write_document("study.typ", record, folder, output, content, drawings, more=more)


def named(name: str, content: Content | None) -> list[Plate]:
    """The figures of a section, whose captions name their files."""
    plates = content.plates if content else ()
    return [
        replace(plate, drawing=replace(plate.drawing, note=_note(plate.drawing, stem(name, i))))
        for i, plate in enumerate(plates)
    ]


def write_figures(plates: Mapping[str, list[Plate]], folder: Path) -> None:
    """NAME.svg and NAME.csv of every figure."""
    for name, group in plates.items():
        for i, plate in enumerate(group):
            with whole_file(folder / f"{stem(name, i)}.svg", parents=True) as file:
                file.write_bytes(plate.drawing.svg)
            write_csv(plate.data, folder / f"{stem(name, i)}.csv")


def stem(name: str, number: int) -> str:
    """What the files of a figure are called.

    Example:
        >>> stem("on_top", 0)
        'on-top-0'
    """
    return f"{name}-{number}".replace("_", "-")


def write_csv(frame: pd.DataFrame, path: Path) -> None:
    """A table as CSV, numbers as exact as they are."""
    with whole_file(path, parents=True) as file:
        frame.to_csv(file, index=False)


def _note(drawing: Drawing, name: str) -> str:
    return f"{drawing.note} Files: {name}.svg, {name}.csv.".strip()


def _words(content: Content | None, reason: str) -> dict[str, Any]:
    if content is None:
        return {"reason": reason, "notes": [], "facts": {}}
    return {"reason": "", "notes": list(content.notes), "facts": dict(content.facts)}


def _subtitle(runs: pd.DataFrame) -> str:
    single = runs["method"].isin(SINGLE)
    num = runs.loc[single, "run"].nunique()
    envs, seeds = (runs.loc[single, name].nunique() for name in ("env", "seed"))
    data = ", ".join(sorted(set(runs["dataset"])))
    counts = (num, "single run", ""), (envs, "environment", " held out"), (seeds, "seed", "")
    words = [f"{n} {what}{'' if n == 1 else 's'}{more}" for n, what, more in counts]
    return f"{data}: {', '.join(words)}"


def _frames(folder: Path) -> list[Attachment]:
    """The runs frame, where it lies beside the record."""
    return [
        Attachment(
            path=folder / name,
            description="The runs frame that every number of this report is computed from",
            mime=_MIME[Path(name).suffix],
        )
        for name in FILES
        if (folder / name).is_file()
    ]


def _ledger(path: Path) -> Attachment:
    return Attachment(
        path=path, description="Every requirement of every claim that was tested", mime="text/csv"
    )
