r"""What a claim requires of the runs, and how many requirements make a verdict.

A requirement says that a number lies between two bounds. It has two p-values: that of the
hypothesis that the number lies outside, which is rejected in *support*, and that of the hypothesis
that it lies inside, which is rejected *against* it. Superiority has one bound and is two-sided at
5 %; equivalence has two, a 5 % test each (TOST), and is contradicted where the 95 % interval lies
wholly outside.

A claim holds where k of its n requirements do, and is refuted where l of them are: partial
conjunctions, whose p-values are

.. math:: p^{k/n} = (n - k + 1)\, p_{(k)}

With k = n this is the largest p-value, which needs no correction; with l = 1 it is Bonferroni's.
The requirement of the k-th (or l-th) smallest p-value is the one that decides.

References:
    | Screening for Partial Conjunction Hypotheses (Benjamini & Heller, 2008)
    | https://doi.org/10.1111/j.1541-0420.2007.00984.x
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from analysis.bootstrap import Mean
from analysis.equivalence import ALPHA
from analysis.estimates import Estimate

SUPPORTED, CONTRADICTED, INCONCLUSIVE = "supported", "contradicted", "inconclusive"
NOT_TESTED = "not tested"
# Ends the rule of every claim that one requirement is enough to refute.
BONFERRONI = (
    "For a contradiction the intervals are those of level 1 - 0.05 / n, n as many as there are "
    "(Bonferroni)."
)
ALL_ABOVE = (
    f"Supported if every interval lies above 0, contradicted if one lies below. {BONFERRONI}"
)


@dataclass(frozen=True, kw_only=True)
class Requirement:
    """One number that a claim says something about.

    Attributes:
        name: What the number is of.
        estimate: The number with its 95 % interval.
        support: p-value in support of the requirement, significant at 5 %; 1 without interval.
        against: p-value against it, significant at 5 %.
        rows: Labels of the runs it rests on.
        notes: What the interval does not cover, or why there is none.
    """

    name: str
    estimate: Estimate
    support: float
    against: float
    rows: tuple[int, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """The requirements of a claim and how they are counted.

    Attributes:
        requirements: All of them.
        needed: How many have to hold; all where None.
        refuting: How many have to be refuted; one is enough unless said.
        notes: What was left out.
    """

    requirements: Sequence[Requirement]
    needed: int | None = None
    refuting: int = 1
    notes: tuple[str, ...] = ()

    @property
    def holding(self) -> int:
        """How many have to hold."""
        return len(self.requirements) if self.needed is None else self.needed

    @property
    def support(self) -> float:
        """p-value in support of the claim."""
        return conjunction([r.support for r in self.requirements], self.holding)

    @property
    def against(self) -> float:
        """p-value against the claim."""
        return conjunction([r.against for r in self.requirements], self.refuting)

    @property
    def word(self) -> str:
        """`supported`, `contradicted` or `inconclusive`."""
        if self.support <= ALPHA:
            return SUPPORTED
        return CONTRADICTED if self.against <= ALPHA else INCONCLUSIVE

    @property
    def deciding(self) -> Requirement:
        """The requirement whose p-value makes the verdict, the first of equals."""
        refuted = self.word == CONTRADICTED
        p_values = [r.against if refuted else r.support for r in self.requirements]
        decisive = sorted(p_values)[(self.refuting if refuted else self.holding) - 1]
        return self.requirements[p_values.index(decisive)]

    @property
    def said(self) -> tuple[str, ...]:
        """What was left out and what the intervals do not cover, each once."""
        return distinct(*self.notes, *(note for r in self.requirements for note in r.notes))


def required(
    name: str,
    mean: Mean,
    rows: Sequence[int],
    *,
    low: float = -math.inf,
    high: float = math.inf,
) -> Requirement:
    """The requirement that a mean lies above `low` and below `high`.

    Example:
        >>> gain = Mean(value=0.02, stderr=0.005, degrees=5, num=12)
        >>> found = required("PACS", gain, range(24), low=0)
        >>> round(found.support, 3), Judgement(requirements=[found]).word
        (0.01, 'supported')
    """
    if not mean.has_error:
        return undecided(name, mean, rows)
    sides = 1 if math.isfinite(low) and math.isfinite(high) else 2
    inside = [mean.p_above(low)] * math.isfinite(low) + [mean.p_below(high)] * math.isfinite(high)
    outside = [mean.p_below(low)] * math.isfinite(low) + [mean.p_above(high)] * math.isfinite(high)
    return Requirement(
        name=name,
        estimate=mean.estimate,
        support=min(1.0, sides * max(inside)),
        against=min(1.0, 2 * min(outside)),
        rows=tuple(rows),
        notes=distinct(mean.reason),
    )


def undecided(name: str, mean: Mean, rows: Sequence[int]) -> Requirement:
    """A requirement on a number without interval."""
    return Requirement(
        name=name,
        estimate=mean.estimate,
        support=1.0,
        against=1.0,
        rows=tuple(rows),
        notes=distinct(mean.reason),
    )


def most_of(found: Judgement, needed: int) -> Judgement:
    """The same requirements, of which so many have to hold, or to be refuted."""
    num = len(found.requirements)
    notes = distinct(f"{needed} of {num} decide" if needed < num else "", *found.notes)
    return replace(found, needed=needed, refuting=needed, notes=notes)


def noted(found: Requirement, *notes: str) -> Requirement:
    """The same requirement with more to say."""
    return replace(found, notes=distinct(*found.notes, *notes))


def distinct(*notes: str) -> tuple[str, ...]:
    """Notes that say something, each once.

    Example:
        >>> distinct("one cell", "", "one cell", "2 runs without a partner")
        ('one cell', '2 runs without a partner')
    """
    return tuple(dict.fromkeys(note for note in notes if note))


def conjunction(p_values: Sequence[float], needed: int) -> float:
    """p-value of "fewer than `needed` of the alternatives hold".

    Example:
        >>> conjunction([0.01, 0.02, 0.5], 2), conjunction([0.01, 0.02, 0.5], 3)
        (0.04, 0.5)
    """
    return min(1.0, (len(p_values) - needed + 1) * sorted(p_values)[needed - 1])
