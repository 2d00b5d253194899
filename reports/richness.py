"""Make the PDF of a richness record: verdicts, spectra, redundancy, classes, similarity, ranks.

    python -m reports.richness --record runs/richness --output richness.pdf
    python -m reports.richness --record runs/richness --transfer runs/transfer

With a record of the probe `transfer` of the same checkpoints, the report says beside it what the
representations are good for. The probe `richness` itself calls `write_report`.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from analysis.estimates import number
from analysis.richness_verdicts import (
    MEASURES,
    POORER,
    RICHER,
    UNDECIDED,
    Comparison,
    against_init,
    between_runs,
    layer_of,
    split_names,
    voting,
)
from core.command_line import run
from core.errors import InputError
from core.records import Record
from reports import (
    reasons,
    richness_curves,
    richness_maps,
    richness_ranks,
    richness_spectra,
    richness_tables,
    richness_transfer,
)
from reports.document import Provenance, aligned, check_probe, config_pairs, write_document
from reports.richness_ranks import Ranking
from reports.style import Drawing
from reports.typeset import check_new_file

PROBE, TRANSFER = "richness", "transfer"
TITLE = "How rich is the representation?"

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ReportConfig:
    """Options of `python -m reports.richness`."""

    record: str
    """Record folder that `python -m probes.richness` wrote."""
    transfer: str | None = None
    """Record folder that `python -m probes.transfer` wrote of the same checkpoints, if any."""
    output: str = "richness.pdf"
    """PDF to create; an existing file is never overwritten."""


class _OfRichness(Provenance):
    seed: int


class _OfTransfer(Provenance):
    intervals: str


def write_report(
    record: Record,
    folder: Path,
    output: Path,
    transfer: Record | None = None,
    transfer_folder: Path | None = None,
) -> Path:
    """Writes the PDF of a record; the same records give the same bytes.

    Args:
        record: Record of the probe `richness`.
        folder: Where its files lie; they are embedded in the PDF.
        output: PDF to create.
        transfer: Record of the probe `transfer` of the same checkpoints.
        transfer_folder: Where its files lie.

    Raises:
        InputError: If a record is another probe's, the checkpoints differ, or `output` exists or
            cannot be created.
    """
    check_new_file(output)
    check_probe(record, folder, PROBE, _OfRichness)
    if transfer is not None and transfer_folder is not None:
        check_probe(transfer, transfer_folder, TRANSFER, _OfTransfer)
        _check_same_checkpoints(record, transfer)
    ranked = richness_ranks.rankings(record, transfer)
    content = {
        "title": TITLE,
        "facts": _facts(record),
        "against_init": [_line(comparison) for comparison in against_init(record)],
        "between_runs": [_line(comparison) for comparison in between_runs(record)],
        "tables": richness_tables.tables_of(record) | _transfer_tables(transfer),
        "undefined": reasons.undefined(record),
        "agreement": [_agreement(ranking, record) for ranking in ranked],
        "transfer": None if transfer is None else _transfer_facts(record, transfer),
    }
    beside = {} if transfer_folder is None else {TRANSFER: transfer_folder}
    drawings = _drawings(record, ranked, transfer)
    return write_document("richness.typ", record, folder, output, content, drawings, beside)


def _check_same_checkpoints(record: Record, transfer: Record) -> None:
    ours, theirs = (
        {entry["run"]: entry.get("sha256") for entry in r.provenance["runs"]}
        for r in (record, transfer)
    )
    if ours != theirs:
        raise InputError(
            f"the record of richness is of {', '.join(ours)}, that of transfer of "
            f"{', '.join(theirs)} or of other weights; the same checkpoints were expected: "
            "measure transfer again, or leave it out"
        )


def _drawings(
    record: Record, ranked: Sequence[Ranking], transfer: Record | None
) -> dict[str, Sequence[Drawing]]:
    return {
        "spectra": richness_spectra.spectra(record),
        "profiles": richness_spectra.profiles(record),
        "redundancy": richness_curves.redundancy(record),
        "concatenation": richness_curves.concatenation(record),
        "layer_maps": richness_maps.layer_maps(record),
        "checkpoint_map": richness_maps.checkpoint_map(record),
        "ranks": richness_ranks.rank_maps(ranked),
        "taus": richness_ranks.tau_maps(ranked),
        **({} if transfer is None else richness_transfer.drawings(transfer)),
    }


def _facts(record: Record) -> dict[str, Any]:
    """What was measured, for the first page."""
    silent = [m.name for m in MEASURES if m not in voting(record)]
    measured = set(record.values["metric"])
    present = [m.name for m in MEASURES if m.metric in measured]
    return {
        "layer": layer_of(record),
        "splits": split_names(record),
        "voting": [measure.name for measure in voting(record)],
        "silent": [name for name in silent if name in present],
        "sizes": richness_tables.sizes(record),
        "images": "image_shape" in record.provenance,
        **{k: record.config[k] for k in ("groups", "draws", "permutations", "subsets", "delta")},
    }


def _line(comparison: Comparison) -> dict[str, Any]:
    """A comparison as the template prints it."""
    said = {
        word: [vote.measure.name for vote in comparison.saying(word)]
        for word in (RICHER, POORER, UNDECIDED)
    }
    return {
        "first": comparison.first,
        "second": comparison.second,
        "split": comparison.split,
        "word": comparison.word,
        "num": len(comparison.votes),
        "said": said,
    }


def _agreement(ranking: Ranking, record: Record) -> dict[str, Any]:
    found = ranking.concordance(record.provenance["seed"])
    return {
        "split": ranking.split,
        "w": number(found.w),
        "p": number(found.p_value),
        "measures": found.num_measures,
        "checkpoints": found.num_checkpoints,
        "reason": found.reason,
    }


def _transfer_tables(transfer: Record | None) -> dict[str, Any]:
    if transfer is None:
        return {}
    return richness_tables.transfer_tables(transfer) | {
        "gaps": richness_transfer.gap_table(transfer),
        "layer_gain": richness_transfer.layer_gain(transfer),
    }


def _transfer_facts(record: Record, transfer: Record) -> dict[str, Any]:
    missing = object()
    own = {k: v for k, v in transfer.config.items() if record.config.get(k, missing) != v}
    return {
        "readings": richness_transfer.reading_lines(transfer),
        "undefined": reasons.undefined(transfer),
        "intervals": transfer.provenance["intervals"],
        "config": config_pairs(own),
    }


def verdict_table(record: Record) -> str:
    """The verdicts of the PDF as plain text of at most 100 columns."""
    return "\n".join(
        aligned(
            ["comparison", "split", "verdict", RICHER, POORER, UNDECIDED],
            [
                [
                    f"{c.first} against {c.second}",
                    c.split,
                    c.word,
                    *(str(len(c.saying(word))) for word in (RICHER, POORER, UNDECIDED)),
                ]
                for c in (*against_init(record), *between_runs(record))
            ],
        )
    )


def report(config: ReportConfig) -> None:
    """Reads the records, writes the PDF, prints the verdicts."""
    folder = Path(config.record)
    record = Record.read(folder)
    other = None if config.transfer is None else Path(config.transfer)
    transfer = None if other is None else Record.read(other)
    output = write_report(record, folder, Path(config.output), transfer, other)
    print(verdict_table(record))
    log.info("wrote %s", output)


def main() -> None:
    """Entry point of `python -m reports.richness`."""
    run(report, ReportConfig)


if __name__ == "__main__":
    main()
