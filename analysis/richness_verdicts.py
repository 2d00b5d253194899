"""Which of two checkpoints is richer, measure by measure, decided by intervals.

A measure says of the first checkpoint, beside the second,

richer
    Its interval lies on the better side of the other's, the side that the metric declares.
poorer
    It lies on the other side.
undecided
    The intervals overlap, or one of them is missing or without width: a count that no group of
    examples changes, such as that of dead units, has a jackknife error of 0 and not a sure value.

Only measures with a declared direction vote. Many measures are variants of one idea: of those one
votes, centred where the mean would hide everything else and free of the features' scale, so that
an idea does not count twice. All measures together say

richer
    Some measure says richer and none poorer.
poorer
    Some measure says poorer and none richer.
mixed
    Both occur.
undecided
    No measure decides.

Checkpoints are compared on the same environments only; where a split of theirs holds others, as
of runs that held out different environments, there is no comparison. Every interval is that of
one checkpoint, and asking that intervals do not overlap is conservative, even for independent
examples. Nothing corrects for the number of measures.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from analysis.estimates import Estimate, ordered, select
from core.records import Metric, Record

PENULTIMATE = "features"  # the layer that the classifier reads
ALL = "all"  # every environment of a split together
SPLITS = ("train", "iid", "ood", "given")
INIT = "/init"  # ends the label of a run's network before its fine-tuning
RICHER, POORER, UNDECIDED, MIXED = "richer", "poorer", "undecided", "mixed"


@dataclass(frozen=True)
class Measure:
    """A number by which checkpoints are compared."""

    name: str
    family: str
    metric: str
    at: float | None = None


MEASURES = (
    Measure("effective rank", "spectrum", "effective_rank_centred"),
    Measure("participation ratio", "spectrum", "participation_ratio_unbiased"),
    Measure("stable rank", "spectrum", "stable_rank_centred"),
    Measure("components for 95 %", "spectrum", "explained_variance_dims_95"),
    Measure("RankMe", "spectrum", "rankme"),
    Measure("coding rate", "spectrum", "coding_rate_unit"),
    Measure("correlation", "decorrelation", "correlation"),
    Measure("spread on the sphere", "decorrelation", "normalised_std"),
    Measure("uniformity", "decorrelation", "uniformity"),
    Measure("dead units", "sparsity", "dead_share"),
    Measure("subset accuracy", "redundancy", "subset_accuracy_area"),
    Measure("diffused redundancy", "redundancy", "diffused_redundancy"),
    Measure("NC1", "classes", "nc1"),
)
TRANSFER_MEASURES = (
    Measure("linear probe", "transfer", "probe_accuracy"),
    Measure("nearest neighbours", "transfer", "knn_accuracy", 20.0),
    Measure("few shots", "transfer", "few_shot_accuracy", 4.0),
    Measure("LogME", "transfer", "logme"),
    Measure("LEEP", "transfer", "leep"),
    Measure("N-LEEP", "transfer", "n_leep"),
    Measure("H-score", "transfer", "h_score"),
    Measure("TransRate", "transfer", "transrate"),
)


@dataclass(frozen=True)
class Vote:
    """What one measure says of the first checkpoint beside the second."""

    measure: Measure
    word: str
    first: Estimate
    second: Estimate


@dataclass(frozen=True)
class Comparison:
    """What all measures say of one checkpoint beside another, on the examples of one split."""

    first: str
    second: str
    split: str
    votes: tuple[Vote, ...]

    @property
    def word(self) -> str:
        """All measures together; see the head of this module."""
        return summary([vote.word for vote in self.votes])

    def saying(self, word: str) -> list[Vote]:
        """The votes for a word."""
        return [vote for vote in self.votes if vote.word == word]


def summary(words: Sequence[str]) -> str:
    """The rule for all measures together; see the head of this module.

    Example:
        >>> summary(["richer", "undecided"]), summary(["richer", "poorer"]), summary([])
        ('richer', 'mixed', 'undecided')
    """
    said = {RICHER, POORER} & set(words)
    return MIXED if len(said) == 2 else said.pop() if said else UNDECIDED


def vote(first: Estimate, second: Estimate, metric: Metric) -> str:
    """The rule for one measure with a direction; see the head of this module.

    Raises:
        ValueError: If the metric declares no direction.

    Example:
        >>> rank = Metric(title="rank", direction="higher")
        >>> vote(Estimate(5, 4, 6), Estimate(2, 1, 3), rank)
        'richer'
        >>> vote(Estimate(5, 4, 6), Estimate(3, 2, 4), rank), vote(Estimate(5), Estimate(2), rank)
        ('undecided', 'undecided')
    """
    if metric.direction is None:
        raise ValueError(f"'{metric.title}' declares no direction; it has no vote")
    better, worse = (first, second) if metric.direction == "higher" else (second, first)
    if not (first.has_width and second.has_width):
        return UNDECIDED
    if better.low > worse.high:
        return RICHER
    return POORER if better.high < worse.low else UNDECIDED


def voting(record: Record, measures: Sequence[Measure] = MEASURES) -> list[Measure]:
    """Those of the measures that the record has and that declare a direction."""
    found = set(record.values["metric"])
    return [
        measure
        for measure in measures
        if measure.metric in found and record.metrics[measure.metric].direction is not None
    ]


def checkpoints(record: Record) -> list[str]:
    """Labels of all checkpoints, in the order of the record."""
    return [entry["run"] for entry in record.provenance["runs"]]


def is_init(run: str) -> bool:
    """Whether it is a network before fine-tuning."""
    return run.endswith(INIT)


def layer_of(record: Record) -> str:
    """The layer that is judged: the penultimate one, or else the first that was measured."""
    layers = ordered(record.values, "layer")
    return PENULTIMATE if PENULTIMATE in layers else layers[0]


def places(record: Record, run: str) -> dict[str, str]:
    """Of each split the environment to look at: all together, or the only one."""
    values = record.values.loc[record.values["run"] == run, ["split", "env"]]
    found = list(map(tuple, values.dropna().drop_duplicates().to_numpy().tolist()))
    envs = {split: [env for of, env in found if of == split] for split in SPLITS}
    return {split: ALL if ALL in of else of[0] for split, of in envs.items() if of}


def split_names(record: Record) -> list[str]:
    """Splits that any checkpoint has, those seen in training first."""
    found = {split for run in checkpoints(record) for split in places(record, run)}
    return [split for split in SPLITS if split in found]


def same_environments(record: Record, first: str, second: str, split: str) -> bool:
    """Whether a split of two checkpoints holds the same environments."""
    of = [ordered(record.values, "env", run=run, split=split) for run in (first, second)]
    return set(of[0]) == set(of[1]) != set()


def look_up(
    record: Record, run: str, split: str, metric: str, at: float | None = None
) -> Estimate | None:
    """A number of a checkpoint on all examples of a split, at the layer that is judged.

    None where it was not measured or is undefined.
    """
    where = {"run": run, "layer": layer_of(record), "split": split}
    rows = select(record.values, metric, at=at, **where)
    envs, numbers = rows["env"].tolist(), rows[["value", "low", "high"]].to_numpy(float)
    if not envs:
        return None
    found = Estimate(*numbers[envs.index(ALL) if ALL in envs else 0].tolist())
    return None if math.isnan(found.value) else found


def against_init(record: Record) -> list[Comparison]:
    """Every fine-tuned checkpoint beside its own network before fine-tuning, split by split."""
    runs = checkpoints(record)
    pairs = [(run, f"{run}{INIT}") for run in runs if f"{run}{INIT}" in runs]
    return _comparisons(record, pairs)


def between_runs(record: Record) -> list[Comparison]:
    """Every fine-tuned checkpoint beside those after it, split by split."""
    tuned = [run for run in checkpoints(record) if not is_init(run)]
    return _comparisons(record, list(combinations(tuned, 2)))


def _comparisons(record: Record, pairs: Sequence[tuple[str, str]]) -> list[Comparison]:
    measures, splits = voting(record), split_names(record)
    runs = dict.fromkeys(run for pair in pairs for run in pair)
    known = {
        (run, split, measure): look_up(record, run, split, measure.metric, measure.at)
        for run in runs
        for split in splits
        for measure in measures
    }
    found = [
        Comparison(
            first, second, split, tuple(_votes(record, measures, known, first, second, split))
        )
        for first, second in pairs
        for split in splits
        if same_environments(record, first, second, split)
    ]
    return [comparison for comparison in found if comparison.votes]


def _votes(
    record: Record,
    measures: Sequence[Measure],
    known: Mapping[tuple[str, str, Measure], Estimate | None],
    first: str,
    second: str,
    split: str,
) -> Iterator[Vote]:
    """Of the measures that both checkpoints have."""
    for measure in measures:
        a, b = known[first, split, measure], known[second, split, measure]
        if a is not None and b is not None:
            yield Vote(measure, vote(a, b, record.metrics[measure.metric]), a, b)
