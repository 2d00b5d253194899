"""The ledger: every claim beside what the runs say of it.

Claims are decided one by one at 5 %. With nineteen of them some would be "supported" by chance;
p-values are therefore also adjusted by Holm over all claims that were tested, and the ledger says
which verdicts stand after that.
"""

import math
import textwrap
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
    joined,
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


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One claim and its verdict.

    Attributes:
        claim: The declaration.
        judgement: Its requirements; None where it was not tested.
        reason: Why it was not tested, or what was left out and what its intervals do not cover.
        adjusted: p-value of the verdict, adjusted by Holm over the claims tested; NaN for none.
        runs: Names of the runs that it rests on.
    """

    claim: Claim
    judgement: Judgement | None
    reason: str
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
        return self.reason if self.judgement is None else self.judgement.deciding.name

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
            reason=entry.reason,
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
    lines = _cells(COLUMNS)
    for entry in entries:
        known = entry.judgement is not None
        lines += _cells(
            (
                entry.claim.name,
                entry.verdict + "*" * entry.stands,
                str(entry.estimate) if known else DASH,
                f"{entry.adjusted:.3f}" if known else DASH,
                entry.claim.paper,
                joined(entry.deciding, entry.reason),
            )
        )
    return "\n".join(lines)


def _judged(claim: Claim, runs: pd.DataFrame) -> Entry:
    try:
        judgement = claim.judge(runs)
    except InputError as error:
        return Entry(claim=claim, judgement=None, reason=f"{error}; needed: {claim.needs}")
    return Entry(claim=claim, judgement=judgement, reason=judgement.said)


def _names(runs: pd.DataFrame, judgement: Judgement) -> tuple[str, ...]:
    rows = sorted({row for r in judgement.requirements for row in r.rows})
    return tuple(dict.fromkeys(runs.loc[rows, "run"].tolist()))


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
        "  ".join(part.ljust(w) for part, w in zip(parts, WIDTHS, strict=True)).rstrip()
        for parts in zip(*padded, strict=True)
    ]
