"""Make the PDF of a linearity record again: verdicts, figures, tables, methods, provenance.

    python -m reports.linearity --record runs/linearity --output linearity.pdf

The probe itself calls `write_report`; this command is for records that lie on disk.
"""

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analysis.estimates import DASH, MINUS, Estimate, ordered
from analysis.verdicts import Verdict, comparison_verdicts, linearity_verdicts
from core.command_line import run
from core.errors import InputError
from core.records import Record
from reports import dots, figures, tables
from reports.style import Drawing
from reports.typeset import TEMPLATES, Attachment, check_new_file, typeset

PROBE = "linearity"
TITLE = "How linear was the fine-tuning?"
_ASCII = str.maketrans({MINUS: "-", DASH: "-", "∞": "inf"})
_WIDTH = 100
_LONG = 20

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ReportConfig:
    """Options of `python -m reports.linearity`."""

    record: str
    """Record folder that `python -m probes.linearity` wrote."""
    output: str = "linearity.pdf"
    """PDF to create; an existing file is never overwritten."""


def write_report(record: Record, folder: Path, output: Path) -> Path:
    """Writes the PDF of a record; the same record gives the same bytes.

    Args:
        record: Record of the probe `linearity`.
        folder: Where its files lie; they are embedded in the PDF.
        output: PDF to create.

    Raises:
        InputError: If the record is another probe's, or `output` exists or cannot be created.
    """
    _check_probe(record, folder)
    check_new_file(output)
    shown, files = _figures(record)
    data = {
        "title": TITLE,
        "subtitle": _subtitle(record),
        "verdicts": [_line(verdict) for verdict in linearity_verdicts(record)],
        "comparisons": [_line(verdict) for verdict in comparison_verdicts(record)],
        "tables": _tables(record),
        "figures": shown,
        "config": _pairs(record.config),
        "provenance": _provenance(record.provenance),
        "runs": [
            {"run": entry["run"], "entries": _checkpoints(entry)}
            for entry in record.provenance["runs"]
        ],
        "draws": record.provenance["num_draws"],
    }
    return typeset(TEMPLATES / "linearity.typ", data, files, output, _attachments(folder))


def _check_probe(record: Record, folder: Path) -> None:
    if record.probe != PROBE:
        raise InputError(
            f"'{folder}' is a record of the probe '{record.probe}'; one of '{PROBE}' was "
            "expected: name a folder that `python -m probes.linearity` wrote"
        )


def _subtitle(record: Record) -> str:
    shape, classes = record.provenance["image_shape"], record.provenance["classes"]
    runs = len(record.provenance["runs"])
    return (
        f"{', '.join(ordered(record.values, 'model'))} on {Path(record.provenance['data']).name}: "
        f"{runs} {'run' if runs == 1 else 'runs'}, {len(classes)} classes, "
        f"{shape[-2]} by {shape[-1]} pixels"
    )


def _line(verdict: Verdict) -> dict[str, Any]:
    return {
        "run": verdict.run.replace(" - ", f" {MINUS} "),
        "split": verdict.split,
        "word": verdict.word,
        "sentence": verdict.sentence,
        "control": verdict.is_control,
    }


def _figures(record: Record) -> tuple[dict[str, list[dict[str, str]]], dict[str, bytes]]:
    """What the template places, and the files it refers to."""
    drawings: dict[str, list[Drawing]] = {
        "neighbours": [dots.neighbours(record)],
        "path": [figures.path(record)],
        "interpolation": figures.interpolation(record),
        "curvature": [dots.curvature(record)],
        "blocks": dots.blocks(record),
    }
    shown = {
        name: [
            {"file": f"{name}-{i}.svg", "alt": d.alt, "part": d.part, "note": d.note}
            for i, d in enumerate(group)
        ]
        for name, group in drawings.items()
    }
    files = {
        f"{name}-{i}.svg": drawing.svg
        for name, group in drawings.items()
        for i, drawing in enumerate(group)
    }
    return shown, files


def _tables(record: Record) -> dict[str, Any]:
    splits = figures.splits(record)
    return {
        "recipes": tables.recipes(record),
        "linearity": tables.by_split(record, tables.LINEARITY),
        "decisions": tables.by_split(record, tables.DECISIONS),
        "scale": tables.by_split(record, tables.SCALE),
        "environments": tables.by_environment(record, tables.ENVIRONMENT),
        "blocks": {
            split: table for split in splits if (table := tables.blocks(record, split)) is not None
        },
        "weights": tables.weights(record),
    }


def _pairs(entries: dict[str, Any]) -> list[list[str]]:
    """Keys and values as YAML's flow style writes them; long lists are left to the attachment."""
    return [[key, _flow(value)] for key, value in entries.items()]


def _flow(value: object) -> str:
    if isinstance(value, str):
        return value or '""'
    if isinstance(value, list | tuple) and len(value) > _LONG:
        return f"{len(value)} entries, from {value[0]} to {value[-1]}"
    return json.dumps(value, ensure_ascii=False, default=str)


def _provenance(provenance: dict[str, Any]) -> list[list[str]]:
    versions = ", ".join(f"{name} {v}" for name, v in provenance["versions"].items())
    rest = {k: v for k, v in provenance.items() if k not in {"versions", "runs"}}
    return _pairs({"versions": versions, **rest})


def _checkpoints(run: dict[str, Any]) -> list[list[str]]:
    """Files, hashes and data of one run; its recipe stands in a table of its own."""
    files = ("checkpoint", "sha256", "pretrained", "pretrained_sha256", "head")
    environments = f"{', '.join(run['train_envs'])}; held out: {', '.join(run['test_envs'])}"
    images = f"{_flow(run['iid_images'])} iid, {_flow(run['ood_images'])} ood"
    return _pairs({key: run[key] for key in files} | {"envs": environments, "images": images})


def _attachments(folder: Path) -> Sequence[Attachment]:
    return (
        Attachment(
            path=folder / "values.parquet",
            description="Every number of this report with its interval, one a row",
            mime="application/vnd.apache.parquet",
        ),
        Attachment(
            path=folder / "record.json",
            description="Configuration, provenance and the declared metrics",
            mime="application/json",
            relationship="source",
        ),
    )


def verdict_table(record: Record) -> str:
    """The verdicts of the PDF as plain text of at most 100 columns."""
    verdicts, pairs = linearity_verdicts(record), comparison_verdicts(record)
    lines = _aligned(
        ["run", "split", "verdict", "R2 [95 %]", "lazy radius [95 %]"],
        [
            [
                f"{v.run} (control)" if v.is_control else v.run,
                v.split,
                v.word,
                _ascii(v.estimate),
                _ascii(v.lazy_radius),
            ]
            for v in verdicts
        ],
    )
    if pairs:
        rows = [[pair.run, pair.split, pair.word, _ascii(pair.estimate)] for pair in pairs]
        lines += ["", *_aligned(["difference", "split", "verdict", "R2 [95 %]"], rows)]
    return "\n".join(lines)


def _ascii(estimate: Estimate) -> str:
    return str(estimate).translate(_ASCII)


def _aligned(header: list[str], rows: list[list[str]]) -> list[str]:
    """Columns as wide as their widest cell; the first one gives way when space is short."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    widths[0] = min(widths[0], _WIDTH - sum(widths[1:]) - 2 * (len(widths) - 1))
    return [
        "  ".join(
            _shortened(text, width).ljust(width) for text, width in zip(row, widths, strict=True)
        ).rstrip()
        for row in [header, *rows]
    ]


def _shortened(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 2]}.."


def report(config: ReportConfig) -> None:
    """Reads the record, writes the PDF, prints the verdicts."""
    folder = Path(config.record)
    record = Record.read(folder)
    output = write_report(record, folder, Path(config.output))
    print(verdict_table(record))
    log.info("wrote %s", output)


def main() -> None:
    """Entry point of `python -m reports.linearity`."""
    run(report, ReportConfig)


if __name__ == "__main__":
    main()
