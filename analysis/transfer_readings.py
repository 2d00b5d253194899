"""Does the head fail out of distribution, or are the features lost? Readings by intervals.

On the examples of an environment that was not trained on, a probe trained on the source stands
beside one trained on the environment itself:

head fails
    The interval of their paired difference lies above 0: a better head would gain there without
    touching the features.
features lost
    The interval of the probe trained there lies below that of the source probe on the i.i.d.
    examples: even a head made for the environment does not reach what is reached at home. The
    probe there has fewer examples to learn from, so that this is an upper bound of the loss.
both
    Both hold.
nothing shown
    Neither does, by these examples.

References:
    | Domain-Adjusted Regression (Rosenfeld et al., 2022), https://arxiv.org/abs/2202.06856
"""

from dataclasses import dataclass

from analysis.estimates import Estimate, estimate, select
from analysis.richness_verdicts import checkpoints, layer_of, look_up
from core.records import Record

GAP = "transfer_gap"
HEAD, FEATURES, BOTH, NOTHING = "head fails", "features lost", "both", "nothing shown"
_MEANING = {
    HEAD: "a better head would gain there without touching the features",
    FEATURES: "a head made for the environment does not reach the accuracy at home either",
    BOTH: "a better head would gain there, and still not reach the accuracy at home",
    NOTHING: "these examples show neither a failing head nor lost features",
}


@dataclass(frozen=True)
class Reading:
    """What the two probes say of one checkpoint in one environment."""

    run: str
    env: str
    split: str
    word: str
    source: Estimate
    target: Estimate
    gap: Estimate
    iid: Estimate | None

    @property
    def meaning(self) -> str:
        """The word in a sentence."""
        return _MEANING[self.word]


def reading_word(gap: Estimate, target: Estimate, iid: Estimate | None) -> str:
    """The rule; see the head of this module.

    Example:
        >>> reading_word(Estimate(0.1, 0.05, 0.2), Estimate(0.9, 0.85, 0.95), None)
        'head fails'
    """
    head = gap.low > 0
    lost = iid is not None and target.high < iid.low
    return BOTH if head and lost else HEAD if head else FEATURES if lost else NOTHING


def transfer_readings(record: Record) -> list[Reading]:
    """One reading per checkpoint and environment that has a gap, in the order of the record."""
    rows = select(record.values, GAP, layer=layer_of(record))
    found = {(run, env, split) for run, env, split in rows[["run", "env", "split"]].to_numpy()}
    ordered = dict.fromkeys(map(tuple, rows[["env", "split"]].to_numpy().tolist()))
    return [
        _reading(record, run, env, split)
        for run in checkpoints(record)
        for env, split in ordered
        if (run, env, split) in found
    ]


def _reading(record: Record, run: str, env: str, split: str) -> Reading:
    where = {"run": run, "env": env, "split": split, "layer": layer_of(record)}
    unknown = Estimate(float("nan"))
    source, target, gap = (
        estimate(record.values, metric, at=None, **where) or unknown
        for metric in ("source_probe_accuracy", "target_probe_accuracy", GAP)
    )
    iid = look_up(record, run, "iid", "probe_accuracy")
    return Reading(run, env, split, reading_word(gap, target, iid), source, target, gap, iid)
