"""Do linear models decide as well as the network? Tangent, model (1), kernel against it, paired.

Every counterpart is compared with the ordinary run of the same environment, seed, split and
dropout rate, i.i.d. and o.o.d., at its best i.i.d. accuracy (the paper's Figure 9) and after its
last step (its Figure 10). Kernel regression has no steps and no dropout, and is compared with the
ordinary run after its last step at every rate.

Claim C13, that the linear model (1) matches the network, is decided by two one-sided tests
against a margin declared beforehand, of three differences: o.o.d. at the best i.i.d. accuracy,
and o.o.d. and i.i.d. after the last step.

supported
    All three are equivalent; all have to pass, so that their number needs no correction.
contradicted
    The 95 % interval of one lies wholly outside the margin.
inconclusive
    Neither.

The differences of the tangent model and of kernel regression are no claim of the paper; their
words are those of the same tests.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from analysis.bootstrap import Mean, hierarchical_mean
from analysis.equivalence import MARGIN, Equivalence, equivalence
from analysis.estimates import number
from analysis.pairing import KEYS, paired
from analysis.verdicts import Verdict

ORDINARY = ("erm", "dropout")
SELECTIONS = {
    "tangent": ("best", "final"),
    "linear": ("best", "final"),
    "kernel": ("final",),
}
TITLES = {"tangent": "tangent model", "linear": "model (1)", "kernel": "kernel regression"}
CHOSEN = {"best": "at its best i.i.d. accuracy", "final": "after its last step"}
DECIDE = (("best", "ood"), ("final", "ood"), ("final", "iid"))  # of claim C13
_ONE_CELL = "the cell at hand"  # a model (1) chooses its own learning rate and weight decay


@dataclass(frozen=True, kw_only=True)
class Contrast:
    """A counterpart less the ordinary network.

    Attributes:
        method: One of `SELECTIONS`.
        selection: `best` or `final`.
        drop_rate: Of both.
        split: `iid` or `ood`.
        mean: The mean difference over environments and seeds, with its error.
        test: Whether it lies within the margin.
        runs: Rows of the runs frame that it rests on.
    """

    method: str
    selection: str
    drop_rate: float
    split: str
    mean: Mean
    test: Equivalence
    runs: tuple[int, ...]


def contrasts(runs: pd.DataFrame, *, margin: float = MARGIN) -> list[Contrast]:
    """Every counterpart that there is, at every rate, i.i.d. and o.o.d.

    Args:
        runs: A checked runs frame with ordinary runs and counterparts.
        margin: Difference in accuracy that counts as none.

    Raises:
        InputError: If a counterpart has no ordinary run with the same settings, or the margin is
            not positive.
    """
    runs = runs.assign(cell=_ONE_CELL)
    return [
        _contrast(runs, method, selection, rate, split, margin)
        for method, selections in SELECTIONS.items()
        for rate in sorted(runs.loc[runs["method"] == method, "drop_rate"].unique())
        for selection in selections
        for split in ("iid", "ood")
    ]


def _contrast(
    runs: pd.DataFrame, method: str, selection: str, rate: float, split: str, margin: float
) -> Contrast:
    alike = runs.loc[(runs["drop_rate"] == rate) & (runs["selection"] == selection), :]
    pairs = paired(
        alike.loc[alike["method"] == method, :],
        alike.loc[alike["method"].isin(ORDINARY), :],
        split,
        on=KEYS,
        names=(TITLES[method], "the ordinary network"),
    )
    mean = hierarchical_mean(pairs.frame)
    return Contrast(
        method=method,
        selection=selection,
        drop_rate=float(rate),
        split=split,
        mean=mean,
        test=equivalence(mean, margin=margin),
        runs=tuple(pairs.rows),
    )


def linear_model_verdicts(found: Sequence[Contrast]) -> list[Verdict]:
    """The verdict on claim C13 at every dropout rate that model (1) has.

    The value of a verdict is the difference that is furthest from 0.
    """
    of_model = [contrast for contrast in found if contrast.method == "linear"]
    rates = dict.fromkeys(contrast.drop_rate for contrast in of_model)
    return [_verdict([c for c in of_model if c.drop_rate == rate]) for rate in rates]


def linear_model_word(tests: Sequence[Equivalence]) -> str:
    """The rule; see the head of this module.

    Example:
        >>> near = equivalence(Mean(value=0.001, stderr=0.001, degrees=9, num=10))
        >>> far = equivalence(Mean(value=-0.04, stderr=0.001, degrees=9, num=10))
        >>> wide = equivalence(Mean(value=0.001, stderr=0.01, degrees=9, num=10))
        >>> [linear_model_word([near, test]) for test in (near, far, wide)]
        ['supported', 'contradicted', 'inconclusive']
    """
    if any(test.different for test in tests):
        return "contradicted"
    return "supported" if all(test.equivalent for test in tests) else "inconclusive"


def _verdict(of_rate: Sequence[Contrast]) -> Verdict:
    deciding = [c for c in of_rate if (c.selection, c.split) in DECIDE]
    worst = max(deciding, key=lambda contrast: abs(contrast.mean.value))
    value = worst.mean.estimate
    return Verdict(
        run=f"C13: model (1) matches the network, dropout {worst.drop_rate:g}",
        env="all",
        split="iid and ood",
        word=linear_model_word([contrast.test for contrast in deciding]),
        value=value.value,
        low=value.low,
        high=value.high,
        sentence=_sentence(deciding),
        neighbours={},
    )


def _sentence(deciding: Sequence[Contrast]) -> str:
    first = deciding[0]
    parts = [f"{c.split} {CHOSEN[c.selection]} {c.mean.estimate}" for c in deciding]
    reason = f" Of the intervals: {first.mean.reason}." if first.mean.reason else ""
    return (
        f"Accuracy of model (1) less that of the network, {first.mean.num} pairs in "
        f"{len(first.mean.by_env)} environments: {'; '.join(parts)}; margin "
        f"{number(first.test.margin)}.{reason}"
    )
