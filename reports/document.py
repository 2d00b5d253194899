"""What the reports of all probes share: title block, verdict lines, provenance, attachments."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypedDict

from analysis.estimates import DASH, MINUS, Estimate, ordered
from analysis.verdicts import Verdict
from core.documents import check_entries
from core.errors import InputError
from core.records import Record
from reports import tables
from reports.style import Drawing
from reports.typeset import TEMPLATES, Attachment, check_new_file, typeset

_ASCII = str.maketrans({MINUS: "-", DASH: "-", "∞": "inf"})
_FILES = (
    "checkpoint",
    "features",
    "sha256",
    "classifier",
    "pretrained",
    "pretrained_sha256",
    "head",
    "tangent",
    "tangent_sha256",
    "linear",
    "linear_sha256",
    "kernel",
)
_SECTIONS = ("kernels", "training_space")  # of the provenance, an entry a line
_WIDTH = 100
_LONG = 20


class _Run(TypedDict):
    run: str


class Provenance(TypedDict):
    """What every report reads of where a record comes from."""

    versions: dict[str, Any]
    runs: list[_Run]


class OfImages(Provenance):
    """What reports on networks read beside that."""

    data: str
    classes: list[str]
    image_shape: list[int]


def check_probe(
    record: Record, folder: Path, probe: str, needed: type[Provenance] = OfImages
) -> None:
    """Refuse the record of another probe, and one whose provenance is not as it was written.

    Args:
        record: The record.
        folder: Where it lies.
        probe: The probe that the report is on.
        needed: The entries of the provenance that the report reads.

    Raises:
        InputError: If it is another probe's, or lacks an entry.
    """
    if record.probe != probe:
        raise InputError(
            f"'{folder}' is a record of the probe '{record.probe}'; one of '{probe}' was "
            f"expected: name a folder that `python -m probes.{probe}` wrote"
        )
    check_entries(record.provenance, needed, f"{folder / 'record.json'}, provenance")


def write_document(
    template: str,
    record: Record,
    folder: Path,
    output: Path,
    content: Mapping[str, Any],
    drawings: Mapping[str, Sequence[Drawing]],
    beside: Mapping[str, Path] = MappingProxyType({}),
    more: Sequence[Attachment] = (),
) -> Path:
    """Typesets a record with its provenance; the same record gives the same bytes.

    Args:
        template: Name of the Typst file.
        record: Record to report on.
        folder: Where its files lie; they are embedded in the PDF.
        output: PDF to create.
        content: What this report has beyond what all have; its `tables` join theirs, and its
            `subtitle`, where it has one, takes the place of theirs.
        drawings: Figures by the name that the template places them under.
        beside: Folders of further records that the report reads, by name; their files are
            embedded under that name.
        more: Further files to embed.

    Raises:
        InputError: If `output` exists or cannot be created.
    """
    check_new_file(output)
    shown, files = _placed(drawings)
    recipes = {"recipes": tables.recipes(record)}
    data = {
        "subtitle": _subtitle(record),
        **content,
        "tables": recipes | content["tables"],
        "figures": shown,
        "config": config_pairs(record.config),
        "provenance": _provenance(record.provenance),
        "runs": [
            {"run": entry["run"], "entries": _checkpoints(entry | _counterparts(record, entry))}
            for entry in record.provenance["runs"]
        ],
    }
    attachments = [*_attachments(folder), *_further_attachments(beside), *more]
    return typeset(TEMPLATES / template, data, files, output, attachments)


def _subtitle(record: Record) -> str:
    runs = len(record.provenance["runs"])
    if "image_shape" not in record.provenance:
        return f"features of {runs} {'file' if runs == 1 else 'files'}"
    shape, classes = record.provenance["image_shape"], record.provenance["classes"]
    before = any(entry["run"].endswith("/init") for entry in record.provenance["runs"])
    what = "checkpoint" if before else "run"
    return (
        f"{', '.join(ordered(record.values, 'model'))} on {Path(record.provenance['data']).name}: "
        f"{runs} {what if runs == 1 else f'{what}s'}, {len(classes)} classes, "
        f"{shape[-2]} by {shape[-1]} pixels"
    )


def line(verdict: Verdict) -> dict[str, Any]:
    """A verdict as the templates print it."""
    return {
        "run": verdict.run.replace(" - ", f" {MINUS} "),
        "split": verdict.split,
        "word": verdict.word,
        "sentence": verdict.sentence,
        "control": verdict.is_control,
    }


def _placed(
    drawings: Mapping[str, Sequence[Drawing]],
) -> tuple[dict[str, list[dict[str, str]]], dict[str, bytes]]:
    """What the template places, and the files it refers to."""
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


def config_pairs(entries: dict[str, Any]) -> list[list[str]]:
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
    elsewhere = {"versions", "runs", "undefined", *_SECTIONS}
    rest = {k: v for k, v in provenance.items() if k not in elsewhere}
    of_sections = {
        f"{name}.{k}": v
        for name in _SECTIONS
        for k, v in provenance.get(name, {}).items()
        if k != "runs"
    }
    return config_pairs({"versions": versions, **rest, **of_sections})


def _counterparts(record: Record, run: dict[str, Any]) -> dict[str, Any]:
    """What a run was compared with; nothing where it has no counterparts."""
    return record.provenance.get("training_space", {}).get("runs", {}).get(run["run"], {})


def _checkpoints(run: dict[str, Any]) -> list[list[str]]:
    """Files, hashes and data of one run; its recipe stands in a table of its own."""
    files = [key for key in _FILES if key in run]
    listed = {key: run[key] for key in files}
    if "train_envs" in run:
        listed["envs"] = f"{', '.join(run['train_envs'])}; held out: {', '.join(run['test_envs'])}"
    if "iid_images" in run:
        listed["images"] = f"{_flow(run['iid_images'])} iid, {_flow(run['ood_images'])} ood"
    elif "images" in run:
        listed["images"] = ", ".join(f"{num} {of}" for of, num in run["images"].items())
    return config_pairs(listed)


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


def _further_attachments(beside: Mapping[str, Path]) -> list[Attachment]:
    return [
        replace(
            attachment,
            name=f"{name}-{attachment.path.name}",
            description=f"{attachment.description}, of the {name} record",
        )
        for name, folder in beside.items()
        for attachment in _attachments(folder)
    ]


def aligned(header: list[str], rows: list[list[str]]) -> list[str]:
    """Lines of plain text with columns as wide as their widest cell; none without rows.

    The first column gives way where the lines would be longer than 100 letters.
    """
    if not rows:
        return []
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    widths[0] = min(widths[0], _WIDTH - sum(widths[1:]) - 2 * (len(widths) - 1))
    return [
        "  ".join(
            _shortened(text, width).ljust(width) for text, width in zip(row, widths, strict=True)
        ).rstrip()
        for row in [header, *rows]
    ]


def plain(estimate: Estimate) -> str:
    """An estimate for a terminal that knows ASCII only.

    Example:
        >>> plain(Estimate(-0.5, float("-inf"), 0))
        '-0.500 [-inf, 0.000]'
    """
    return str(estimate).translate(_ASCII)


def named(verdict: Verdict) -> str:
    """The run of a verdict, marked where it is a control."""
    return f"{verdict.run} (control)" if verdict.is_control else verdict.run


def _shortened(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 2]}.."
