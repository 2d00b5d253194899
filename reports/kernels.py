"""Make the PDF of a kernel record: readings, heat maps, spectra, drift, velocity, tables.

    python -m reports.kernels --record runs/ntk --output kernels.pdf

The probe `ntk` calls `write_report`; the report of the probe `linearity` has the same section,
where that probe measured kernels.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypedDict

from analysis.kernel_verdicts import DISTANCE, has_kernels, kernel_layer, kernel_verdicts
from core.command_line import run
from core.records import Record
from reports import kernel_drift, kernel_maps, kernel_spectra, tables
from reports.document import OfImages, aligned, check_probe, line, named, plain, write_document
from reports.record_command import ReportConfig, report_record
from reports.style import Drawing
from reports.tables import Quantity

PROBE = "ntk"
TITLE = "How did the tangent kernel move?"


class _Kernels(TypedDict):
    environments: list[str]


class _Provenance(OfImages):
    kernels: _Kernels


def write_report(record: Record, folder: Path, output: Path) -> Path:
    """Writes the PDF of a kernel record; the same record gives the same bytes.

    Args:
        record: Record of the probe `ntk`.
        folder: Where its files lie; they are embedded in the PDF.
        output: PDF to create.

    Raises:
        InputError: If the record is another probe's, or `output` exists or cannot be created.
    """
    check_probe(record, folder, PROBE, _Provenance)
    content = {"title": TITLE, "tables": tables_of(record), "kernels": facts(record)}
    return write_document("kernels.typ", record, folder, output, content, drawings(record))


def facts(record: Record) -> dict[str, Any] | None:
    """What the section says about how it was made; None where there are no kernels."""
    if not has_kernels(record):
        return None
    verdicts = [line(verdict) for verdict in kernel_verdicts(record)]
    return {**record.provenance["kernels"], "verdicts": verdicts}


def drawings(record: Record) -> dict[str, Sequence[Drawing]]:
    """The figures of the section by name; none without kernels."""
    if not has_kernels(record):
        return {}
    return {
        "drift": kernel_drift.drift(record),
        "maps": kernel_maps.heat_maps(record),
        "spectra": kernel_spectra.spectra(record),
        "velocity": kernel_drift.velocity(record),
    }


def tables_of(record: Record) -> dict[str, tables.Table]:
    """The tables of the section by name; none without kernels."""
    if not has_kernels(record):
        return {}
    layer = kernel_layer(record)
    return {
        "kernel_drift": tables.by_split(record, _drift(layer), DISTANCE),
        "kernel_labels": tables.by_split(record, _labels(layer), DISTANCE),
        "kernel_spectra": tables.by_split(record, _spectra(layer), DISTANCE),
        "kernel_environments": tables.by_environment(record, _environments(layer), DISTANCE),
    }


def _drift(layer: str) -> tuple[Quantity, ...]:
    return (
        Quantity("Distance", DISTANCE, layer),
        Quantity("Random move", "random_kernel_distance", layer),
        Quantity("Distance, centred", "kernel_distance_centred", layer),
        Quantity("Relative change", "kernel_change", layer),
    )


def _labels(layer: str) -> tuple[Quantity, ...]:
    return (
        Quantity("Alignment, before", "label_alignment", layer, 0.0),
        Quantity("after", "label_alignment", layer, 1.0),
        Quantity("change", "label_alignment_change", layer),
        Quantity("permuted, after", "permuted_label_alignment", layer, 1.0),
        Quantity("Label energy, before", "label_energy", layer, 0.0),
        Quantity("after", "label_energy", layer, 1.0),
    )


def _spectra(layer: str) -> tuple[Quantity, ...]:
    return (
        Quantity("Effective rank, before", "effective_rank", layer, 0.0),
        Quantity("after", "effective_rank", layer, 1.0),
        Quantity("change", "effective_rank_change", layer),
        Quantity("Trace, before", "kernel_trace", layer, 0.0),
        Quantity("after", "kernel_trace", layer, 1.0),
    )


def _environments(layer: str) -> tuple[Quantity, ...]:
    distance, random, *_ = _drift(layer)
    before, after, _, permuted, *_ = _labels(layer)
    return (distance, random, before, after, permuted)


def verdict_lines(record: Record) -> list[str]:
    """The readings as plain text; none without kernels."""
    return aligned(
        ["kernel", "split", "verdict", "distance [95 %]", "random move [95 %]"],
        [
            [named(v), v.split, v.word, plain(v.estimate), plain(v.neighbours["random move"])]
            for v in kernel_verdicts(record)
        ],
    )


def report(config: ReportConfig) -> None:
    """Reads the record, writes the PDF, prints the readings."""
    report_record(config, write_report, verdict_lines)


def main() -> None:
    """Entry point of `python -m reports.kernels`."""
    run(report, ReportConfig)


if __name__ == "__main__":
    main()
