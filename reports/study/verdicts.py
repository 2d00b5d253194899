"""The ledger of claims as pages of the report, and the numbers behind every verdict."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from analysis.claims.ledger import BETWEEN, Entry, cited, shared_notes
from analysis.equivalence import ALPHA, MARGIN
from analysis.estimates import DASH
from reports.study.sections import p_value


def lines(entries: Sequence[Entry]) -> list[dict[str, Any]]:
    """What the template prints of every claim."""
    shared = shared_notes(entries)
    return [
        {
            "name": entry.claim.name,
            "statement": entry.claim.statement,
            "word": entry.verdict,
            "stands": entry.stands,
            "estimate": str(entry.estimate) if entry.judgement else DASH,
            "p": p_value(entry.adjusted) if entry.judgement else DASH,
            "paper": entry.claim.paper,
            "deciding": entry.deciding,
            "note": BETWEEN.join(cited(entry, shared)),
            "rule": f"{entry.claim.statistic} {entry.claim.rule}",
            "runs": len(entry.runs),
        }
        for entry in entries
    ]


def facts(entries: Sequence[Entry]) -> dict[str, Any]:
    """How many claims have each verdict, what they were decided by, and notes that they share."""
    words = [entry.verdict for entry in entries]
    return {
        "counts": {word: words.count(word) for word in dict.fromkeys(words)},
        "tested": sum(entry.judgement is not None for entry in entries),
        "alpha": ALPHA,
        "margin": MARGIN,
        "notes": shared_notes(entries),
    }


def frame(entries: Sequence[Entry]) -> pd.DataFrame:
    """Every requirement of every claim that was tested, one a row."""
    columns = ["claim", "verdict", "requirement", "value", "low", "high", "support", "against"]
    return pd.DataFrame(
        [
            [
                entry.claim.name,
                entry.verdict,
                r.name,
                *vars(r.estimate).values(),
                r.support,
                r.against,
                BETWEEN.join(r.notes),
                len(r.rows),
            ]
            for entry in entries
            if entry.judgement is not None
            for r in entry.judgement.requirements
        ],
        columns=[*columns, "note", "rows"],
    )
