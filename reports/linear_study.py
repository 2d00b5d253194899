"""The report of `scripts.linear_study`: is fine-tuning linear, and where does that end?"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.claims.ledger import CLAIMS, Entry, ledger
from analysis.linear_counterparts import Contrast, contrasts
from core.records import Record
from reports import counterparts, feature_creation, linearity_grid, rate_curve
from reports.document import check_probe, write_document
from reports.style import Drawing
from reports.tables import Table

PROBE = "linear_study"
TITLE = "Is fine-tuning really linear?"
JUDGED = ("C13", "C15")  # by the ledger; the rate curve judges C17 by itself


@dataclass(frozen=True, kw_only=True)
class Study:
    """What a study found.

    Attributes:
        record: Its record: linearity and training space of all runs.
        runs: The runs frame of the comparison.
        grid: That of the grid; None where there is none.
        creation: Record of feature creation, of the comparison's runs without dropout.
        creation_grid: The same of the grid.
        rate: Record of the rate curve.
    """

    record: Record
    runs: pd.DataFrame
    grid: pd.DataFrame | None
    creation: Record
    creation_grid: Record | None
    rate: Record


def write_report(study: Study, folder: Path, output: Path) -> Path:
    """Writes the PDF of a study; the same study gives the same bytes.

    Args:
        study: What it found.
        folder: Where the files of its record lie; they are embedded in the PDF.
        output: PDF to create.

    Raises:
        InputError: If the record is another probe's, or `output` exists or cannot be created.
    """
    check_probe(study.record, folder, PROBE)
    found = contrasts(study.runs)
    content = {
        "title": TITLE,
        "claims": claim_lines(study.runs),
        "tables": _tables(study, found),
        "margin": found[0].test.margin,
        "reason": found[0].mean.reason,
        "has_grid": study.grid is not None,
        "envs": sorted(study.runs["env"].unique()),
        "creation": _creation_facts(study),
        "creation_rate": f"{study.runs['drop_rate'].min():g}",
        "rate_run": study.rate.provenance["runs"][0]["run"].removesuffix("/init"),
        "rate": rate_curve.facts(study.rate),
    }
    drawings = _drawings(study, found)
    return write_document("linear_study.typ", study.record, folder, output, content, drawings)


def claim_lines(runs: pd.DataFrame) -> list[dict[str, str]]:
    """What the ledger says of the claims that the study is about, as the template prints it.

    The head's learning rate is one choice for all networks of the study, and none for model (1).
    """
    main = runs.assign(head_lr_factor=1.0)
    entries = ledger(main, [claim for claim in CLAIMS if claim.name in JUDGED])
    return [
        {
            "name": f"{entry.claim.name}: {entry.claim.statement}",
            "word": entry.verdict,
            "sentence": "; ".join(numbers_of(entry)) + ".",
            "rule": f"{entry.claim.statistic} {entry.claim.rule}",
        }
        for entry in entries
    ]


def numbers_of(entry: Entry) -> list[str]:
    """What a verdict rests on: every number with its interval, or why it was not tested."""
    if entry.judgement is None:
        return [entry.reason]
    return [f"{r.name} {r.estimate}" for r in entry.judgement.requirements]


def _drawings(study: Study, found: Sequence[Contrast]) -> dict[str, Sequence[Drawing]]:
    drawings: dict[str, Sequence[Drawing]] = {
        "comparison": counterparts.drawings(study.runs, found)
    }
    if study.grid is not None:
        drawings["grid"] = [linearity_grid.drawing(study.grid, study.record)]
    drawings |= feature_creation.drawings(study.creation) | {"creation_recipes": []}
    if study.creation_grid is not None:
        recipes = feature_creation.drawings(study.creation_grid)["creation_recipes"]
        drawings["creation_recipes"] = recipes
    return drawings | rate_curve.drawings(study.rate)


def _tables(study: Study, found: Sequence[Contrast]) -> dict[str, Table]:
    tables = {"comparison": counterparts.table(found)}
    if study.grid is not None:
        tables["grid"] = linearity_grid.table(study.grid, study.record)
    tables |= feature_creation.tables_of(study.creation)
    if study.creation_grid is not None:
        slopes = feature_creation.tables_of(study.creation_grid)["creation_slopes"]
        tables["creation_slopes"] = slopes
    return tables | rate_curve.tables_of(study.rate)


def _creation_facts(study: Study) -> dict[str, Any]:
    """Of the comparison; what runs differ in, of the grid alone: held-out environments differ."""
    grid = study.creation_grid
    axes = [] if grid is None else feature_creation.facts(grid)["axes"]
    return feature_creation.facts(study.creation) | {"axes": axes}
