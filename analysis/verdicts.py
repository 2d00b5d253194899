"""Verdicts on the linearity of a fine-tuning, decided by intervals against neighbours.

The number judged is the explained displacement of the representation Phi at the fine-tuned
weights (alpha = 1), pooled over the environments of a split,

    R2 = 1 - sum_i ||Phi1_i - Phi0_i - J0_i delta||^2 / sum_i ||Phi1_i - Phi0_i||^2.

Its neighbours are 1 (a model linear in its parameters), 0 (the expansion explains nothing: no
better than "nothing moved"), the same network trained from scratch (the control), and random and
permuted displacements of the same norms (shown beside it). Only intervals decide:

near-linear
    The interval lies above 1/2, so that the expansion explains more of the displacement than it
    leaves, and above the interval of every control in the record; and the interval of the lazy
    radius alpha* lies above 1: the second-order term stays below the first over the whole path,
    Chizat's criterion.
non-linear
    The interval lies below 0: the expansion is worse than predicting no change.
weakly non-linear
    The interval lies above 0, but below 1/2 or below that of a control, or that of the lazy
    radius lies below 1.
inconclusive
    A boundary that would decide lies inside an interval, or there is no interval.

References:
    | On Lazy Training in Differentiable Programming (Chizat et al., 2019)
    | https://arxiv.org/abs/1812.07956
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from analysis.estimates import Estimate, estimate, number, select
from core.records import Record

UNKNOWN = Estimate(math.nan)
HALF = 0.5  # as much explained as left
_COMPARED = ["run", "split", "value", "low", "high"]


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What the intervals say about one run (or one pair of runs) on one split.

    Attributes:
        run: Label of the run; "A - B" for a comparison.
        env: Environment, `all` where pooled.
        split: `iid`, `ood`, or `given` where the split is unknown.
        word: The verdict.
        value: The number judged: R2 of the features at alpha = 1, a difference of two of them, or
            a kernel distance.
        low: Lower end of its 95 % interval.
        high: Upper end.
        sentence: Why, with every number that decided.
        neighbours: What the value has to be read against, by name.
        lazy_radius: alpha* on the same images, beside R2; NaN elsewhere.
        is_control: Whether the run started from scratch.
    """

    run: str
    env: str
    split: str
    word: str
    value: float
    low: float
    high: float
    sentence: str
    neighbours: Mapping[str, Estimate]
    lazy_radius: Estimate = UNKNOWN
    is_control: bool = False

    @property
    def estimate(self) -> Estimate:
        """The number judged, with its interval."""
        return Estimate(self.value, self.low, self.high)


def linearity_verdicts(record: Record) -> list[Verdict]:
    """One verdict per run and split, in the order of the record; the rule heads this module."""
    rows = select(record.values, "explained_displacement", at=1.0, layer="features", env="all")[
        ["run", "split"]
    ]
    return [_verdict(record, run, split) for run, split in rows.itertuples(index=False)]


def comparison_verdicts(record: Record) -> list[Verdict]:
    """Paired differences of R2 between runs: `more linear` where the interval lies above 0."""
    metric = "explained_displacement_difference"
    rows = select(record.values, metric, at=1.0, layer="features", env="all")
    return [_comparison(record, *row) for row in rows[_COMPARED].itertuples(index=False)]


def controls(record: Record) -> list[str]:
    """Labels of the runs trained from scratch."""
    return [run["run"] for run in record.provenance["runs"] if run.get("from_scratch")]


def verdict_word(r2: Estimate, radius: Estimate, control: Mapping[str, Estimate]) -> str:
    """The rule; see the head of this module.

    Example:
        >>> verdict_word(Estimate(0.9, 0.8, 0.95), Estimate(2, 1.5, 3), {})
        'near-linear'
        >>> verdict_word(Estimate(0.1, -0.1, 0.3), Estimate(2, 1.5, 3), {})
        'inconclusive'
    """
    if r2.high < 0:
        return "non-linear"
    above_controls = all(r2.low > other.high for other in control.values())
    if r2.low > HALF and above_controls and radius.low > 1:
        return "near-linear"
    below_a_control = any(r2.high < other.low for other in control.values())
    if r2.low > 0 and (r2.high < HALF or radius.high < 1 or below_a_control):
        return "weakly non-linear"
    return "inconclusive"


def compared(boundary: str, judged: Estimate, other: Estimate) -> str:
    """On which side of another number a number lies, where the intervals tell.

    Example:
        >>> compared("0", Estimate(0.3, 0.2, 0.4), Estimate(0.0, 0.0, 0.0))
        'above 0'
    """
    if judged.low > other.high:
        return f"above {boundary}"
    if judged.high < other.low:
        return f"below {boundary}"
    if not (judged.has_interval and other.has_interval):
        return f"without an interval to tell it from {boundary}"
    return f"not told apart from {boundary}"


def _verdict(record: Record, run: str, split: str) -> Verdict:
    r2 = _explained(record, run, split) or UNKNOWN
    radius = _pooled(record, "lazy_radius", run, split) or UNKNOWN
    control, nulls = _controls_beside(record, run, split), _nulls(record, run, split)
    return Verdict(
        run=run,
        env="all",
        split=split,
        word=verdict_word(r2, radius, control),
        value=r2.value,
        low=r2.low,
        high=r2.high,
        sentence=_sentence(r2, radius, control, nulls) + _untrained(record, run),
        neighbours=_neighbours(control, nulls),
        lazy_radius=radius,
        is_control=run in controls(record),
    )


def _explained(record: Record, run: str, split: str) -> Estimate | None:
    return _pooled(record, "explained_displacement", run, split, at=1.0)


def _pooled(
    record: Record, metric: str, run: str, split: str, at: float | None = None
) -> Estimate | None:
    """A number of the representation, pooled over the environments of the split."""
    where = {"run": run, "env": "all", "split": split, "layer": "features"}
    return estimate(record.values, metric, at=at, **where)


def _controls_beside(record: Record, run: str, split: str) -> dict[str, Estimate]:
    """R2 of every control on the same split; a control is not its own neighbour."""
    names = [] if run in controls(record) else controls(record)
    found = {name: _explained(record, name, split) for name in names}
    return {name: r2 for name, r2 in found.items() if r2 is not None}


def _nulls(record: Record, run: str, split: str) -> dict[str, Estimate]:
    return {
        kind: _pooled(record, f"{kind}_explained_displacement", run, split) or UNKNOWN
        for kind in ("random", "permuted")
    }


def _neighbours(
    control: Mapping[str, Estimate], nulls: Mapping[str, Estimate]
) -> dict[str, Estimate]:
    return {
        "exactly linear": Estimate(1.0, 1.0, 1.0),
        "nothing moved": Estimate(0.0, 0.0, 0.0),
        **{f"control {name}": r2 for name, r2 in control.items()},
        **{f"{kind} displacement": r2 for kind, r2 in nulls.items()},
    }


def _sentence(
    r2: Estimate,
    radius: Estimate,
    control: Mapping[str, Estimate],
    nulls: Mapping[str, Estimate],
) -> str:
    half = Estimate(HALF, HALF, HALF)
    clauses = [compared("0 (nothing moved)", r2, Estimate(0.0, 0.0, 0.0))]
    clauses += [compared("1/2 (as much explained as left)", r2, half)] if r2.low > 0 else []
    clauses += [compared(f"control {n} ({other})", r2, other) for n, other in control.items()]
    beside = ", ".join(f"{kind} {number(null.value)}" for kind, null in nulls.items())
    return (
        f"R² {r2} {' and '.join(clauses)}; lazy radius {radius} "
        f"{compared('1', radius, Estimate(1.0, 1.0, 1.0))}. "
        f"Neighbours: exactly linear 1, {beside}."
    )


def _untrained(record: Record, run: str) -> str:
    """A further sentence where the accuracy is not clearly above chance, else nothing.

    Judged on images like those of the training: `iid`, or `given` where the split is unknown.
    """
    chance = 1 / len(record.provenance["classes"])
    for split in ("iid", "given"):
        where = {"run": run, "env": "all", "split": split}
        accuracy = estimate(record.values, "weight_accuracy", at=1.0, **where)
        if accuracy is not None and not accuracy.low > chance:
            return (
                f" Accuracy on {split} images is {accuracy}, not clearly above chance "
                f"({number(chance)}): {run} is untrained and says nothing about dropout."
            )
    return ""


def _comparison(
    record: Record, run: str, split: str, value: float, low: float, high: float
) -> Verdict:
    word = "more linear" if low > 0 else "less linear" if high < 0 else "inconclusive"
    side = {"more linear": "above 0", "less linear": "below 0"}.get(word, "not told apart from 0")
    pair = run.split(" - ")
    return Verdict(
        run=run,
        env="all",
        split=split,
        word=word,
        value=value,
        low=low,
        high=high,
        sentence=f"Difference of R² {Estimate(value, low, high)}, {side}."
        + "".join(_untrained(record, name) for name in pair),
        neighbours={"no difference": Estimate(0.0, 0.0, 0.0)},
    )
