"""The ledger: every claim beside what the runs say of it.

Claims are decided one by one at 5 %. With nineteen of them some would be "supported" by chance;
p-values are therefore also adjusted by Holm over all claims that were tested, and the ledger says
which verdicts stand after that.
"""

import math
import textwrap
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from statsmodels.stats.multitest import multipletests

from analysis.claims import accuracy, averaging, features, linearity, practice, rates
from analysis.claims.claim import Claim
from analysis.claims.requirement import (
    CONTRADICTED,
    NOT_TESTED,
    SUPPORTED,
    Judgement,
    distinct,
)
from analysis.equivalence import ALPHA, MARGIN
from analysis.estimates import DASH, Estimate
from core.errors import InputError
from core.records import provenance

SCHEMA_VERSION = 1
ROOMS = (accuracy, rates, averaging, linearity, features, practice)
CLAIMS: tuple[Claim, ...] = tuple(
    sorted((claim for room in ROOMS for claim in room.CLAIMS), key=lambda c: int(c.name[1:]))
)
COLUMNS = ("claim", "verdict", "estimate [95 %]", "p (Holm)", "paper", "what decided")
WIDTHS = (5, 13, 28, 8, 30, 44)
GAP, BETWEEN = "  ", "; "
HARDLY = 0.5  # of the best i.i.d. accuracy from the same weights and as many images
SHARED = 3  # claims with the same note, which is then said once for all


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One claim and its verdict.

    Attributes:
        claim: The declaration.
        judgement: Its requirements; None where it was not tested.
        missing: Why it was not tested; empty where it was.
        notes: What was left out, what the intervals do not cover, and models that hardly learned.
        adjusted: p-value of the verdict, adjusted by Holm over the claims tested; NaN for none.
        runs: Names of the runs that it rests on.
    """

    claim: Claim
    judgement: Judgement | None
    missing: str = ""
    notes: tuple[str, ...] = ()
    adjusted: float = math.nan
    runs: tuple[str, ...] = ()

    @property
    def verdict(self) -> str:
        """`supported`, `contradicted`, `inconclusive` or `not tested`."""
        return NOT_TESTED if self.judgement is None else self.judgement.word

    @property
    def estimate(self) -> Estimate:
        """The number that decided."""
        none = Estimate(math.nan)
        return none if self.judgement is None else self.judgement.deciding.estimate

    @property
    def deciding(self) -> str:
        """What that number is of, or why there is none."""
        return self.missing if self.judgement is None else self.judgement.deciding.name

    @property
    def reason(self) -> str:
        """Why it was not tested, or all notes."""
        return self.missing or BETWEEN.join(self.notes)

    @property
    def stands(self) -> bool:
        """Whether a verdict of supported or contradicted stands after Holm's adjustment."""
        return self.verdict in {SUPPORTED, CONTRADICTED} and self.adjusted <= ALPHA


def ledger(runs: pd.DataFrame, claims: Sequence[Claim] = CLAIMS) -> list[Entry]:
    """Every claim on a checked runs frame, in order.

    A claim whose runs are not there is not tested, and its entry says what is missing.
    """
    judged = [_judged(claim, runs) for claim in claims]
    tested = [j.judgement for j in judged if j.judgement is not None]
    smallest = [min(j.support, j.against) for j in tested]
    adjusted = iter(np.asarray(multipletests(smallest, method="holm")[1]) if smallest else ())
    return [
        entry
        if entry.judgement is None
        else Entry(
            claim=entry.claim,
            judgement=entry.judgement,
            notes=distinct(*entry.notes, hardly_learned(runs, entry.judgement)),
            adjusted=float(next(adjusted)),
            runs=_names(runs, entry.judgement),
        )
        for entry in judged
    ]


def document(entries: Sequence[Entry]) -> dict[str, Any]:
    """The ledger as JSON values."""
    return {
        "schema_version": SCHEMA_VERSION,
        "margin": MARGIN,
        "alpha": ALPHA,
        "num_tested": sum(entry.judgement is not None for entry in entries),
        "provenance": provenance(),
        "claims": [_json(entry) for entry in entries],
    }


def table(entries: Sequence[Entry]) -> str:
    """The ledger as text; a star marks verdicts that stand after Holm's adjustment."""
    lines, shared = _cells(COLUMNS), shared_notes(entries)
    for entry in entries:
        known = entry.judgement is not None
        lines += _cells(
            (
                entry.claim.name,
                entry.verdict + "*" * entry.stands,
                str(entry.estimate) if known else DASH,
                f"{entry.adjusted:.3f}" if known else DASH,
                entry.claim.paper,
                BETWEEN.join([entry.deciding, *cited(entry, shared)]),
            )
        )
    below = [f"Note {number}: {note}." for number, note in enumerate(shared, 1)]
    wide = sum(WIDTHS) + len(GAP) * (len(WIDTHS) - 1)
    return "\n".join([*lines, *(line for note in below for line in textwrap.wrap(note, wide))])


def shared_notes(entries: Sequence[Entry]) -> list[str]:
    """Notes that several claims share, in their order."""
    counts = Counter(note for entry in entries for note in entry.notes)
    return [note for note, count in counts.items() if count >= SHARED]


def cited(entry: Entry, shared: Sequence[str]) -> list[str]:
    """The notes of a claim; those that others share by their numbers, last."""
    own = [note for note in entry.notes if note not in shared]
    return [*own, *(f"note {i}" for i, note in enumerate(shared, 1) if note in entry.notes)]


def hardly_learned(runs: pd.DataFrame, judgement: Judgement) -> str:
    """How many of the models that a claim rests on are below half of what others have reached.

    A difference from models that did not learn says little of what the claim is about, unless it
    is about that. The others are of the same environment, weights and number of images.
    """
    alike = ["dataset", "env", "pretrained", "from_scratch", "train_size"]
    best = runs.groupby(alike, dropna=False)["iid"].transform("max")
    models = runs.assign(share=runs["iid"] / best).loc[_rows(judgement), :]
    models = models.sort_values("share").drop_duplicates(["run", "method", "env", "cell", "seed"])
    failed = pd.Series(models.loc[models["share"] < HARDLY, "iid"])
    if failed.empty:
        return ""
    num, lowest = len(failed), failed.min()
    return f"{num} of {len(models)} models hardly learned (i.i.d. accuracy down to {lowest:.2f})"


def _judged(claim: Claim, runs: pd.DataFrame) -> Entry:
    try:
        judgement = claim.judge(runs)
    except InputError as error:
        return Entry(claim=claim, judgement=None, missing=f"{error}; needed: {claim.needs}")
    return Entry(claim=claim, judgement=judgement, notes=judgement.said)


def _names(runs: pd.DataFrame, judgement: Judgement) -> tuple[str, ...]:
    return tuple(dict.fromkeys(runs.loc[_rows(judgement), "run"].tolist()))


def _rows(judgement: Judgement) -> list[int]:
    return sorted({row for r in judgement.requirements for row in r.rows})


def _json(entry: Entry) -> dict[str, Any]:
    declared = {k: v for k, v in vars(entry.claim).items() if k != "judge"}
    found: dict[str, Any] = {
        "verdict": entry.verdict,
        "stands_after_holm": entry.stands,
        "reason": entry.reason,
        "deciding": entry.deciding,
        "p_value_adjusted": _finite(entry.adjusted),
        **{k: _finite(v) for k, v in asdict(entry.estimate).items()},
        "runs": list(entry.runs),
    }
    if entry.judgement is not None:
        found |= {"support": entry.judgement.support, "against": entry.judgement.against}
        found["requirements"] = [_requirement(r) for r in map(vars, entry.judgement.requirements)]
    return declared | found


def _requirement(found: dict[str, Any]) -> dict[str, Any]:
    estimate = {k: _finite(v) for k, v in asdict(found["estimate"]).items()}
    return {k: v for k, v in found.items() if k not in {"estimate", "rows"}} | estimate


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _cells(texts: Sequence[str]) -> list[str]:
    """Lines of one row, every cell wrapped to its width."""
    wrapped = [textwrap.wrap(t, w) or [""] for t, w in zip(texts, WIDTHS, strict=True)]
    height = max(map(len, wrapped))
    padded = [cell + [""] * (height - len(cell)) for cell in wrapped]
    return [
        GAP.join(part.ljust(w) for part, w in zip(parts, WIDTHS, strict=True)).rstrip()
        for parts in zip(*padded, strict=True)
    ]
