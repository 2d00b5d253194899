"""The measures of richness that the ledger asks for, of runs that differ in their seed alone.

`probes.richness` and `probes.transfer` measure much more, and take longer; these are the same
functions on the same features. All look at images of the environment held out: a probe on a random
tenth of the units, trained on the training environments; NC1 and CDNV; a probe trained on the held
out environment itself; and what another seed adds to the first.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from analysis.intervals import Row
from core.layers import FEATURES
from core.records import Record
from probes.feature_options import FeatureOptions
from probes.feature_probe import FeatureProbe
from probes.partial import Arrays
from probes.redundancy import diffused_redundancy
from probes.redundancy.metrics import METRICS as REDUNDANCY
from probes.richness.comparisons import concatenation_rows
from probes.richness.intervals import measures_with_intervals
from probes.richness.metrics import METRICS as RICHNESS
from probes.stages import Stage, attempted
from probes.subjects import Subject, Task, pair_name, pairs_of
from probes.transfer.metrics import METRICS as TRANSFER
from probes.transfer.transfer_gap import source_and_target_probes

SPLIT = "ood"
TENTH = 0.1  # of the units, as the ledger's measure has it
SUBSETS, GROUPS, FOLDS = 3, 10, 2
SUBSET, TARGET, GAIN = "subset_accuracy", "target_probe_accuracy", "concatenation_gain"
COLLAPSE = ("nc1", "cdnv")
ALL_METRICS = REDUNDANCY | RICHNESS | TRANSFER
METRICS = {name: ALL_METRICS[name] for name in (SUBSET, *COLLAPSE, TARGET, GAIN)}


@dataclass(frozen=True, kw_only=True)
class BriefRichnessConfig(FeatureOptions):
    """Options of the probe."""

    with_init: bool = False
    """The network before fine-tuning is the same for all."""


def all_stages(subjects: Sequence[Subject], config: BriefRichnessConfig) -> list[Stage]:
    """One of each run, and one of each ordered pair."""
    tasks = {subject.run: _task(subject, config.seed) for subject in subjects}
    stages = [_own(subject, tasks[subject.run], config) for subject in subjects]
    for first, second in pairs_of(subjects):
        for one, other in ((first, second), (second, first)):
            stages.append(_gain(one.run, other.run, tasks[one.run], tasks[other.run], config))
    return stages


def _task(subject: Subject, seed: int) -> Task:
    return next(task for task in subject.tasks(seed) if task.where.split == SPLIT)


def _own(subject: Subject, task: Task, config: BriefRichnessConfig) -> Stage:
    def compute(_: Arrays) -> Iterator[Row]:
        data = (*_matrix(task.train), *_matrix(task.test))
        subset = lambda: _subset(data, config.seed)
        yield attempted(SUBSET, subset) | {"at": TENTH}
        gap = lambda: source_and_target_probes(*data, folds=FOLDS, seed=config.seed)
        yield attempted(TARGET, lambda: gap().rows(seed=config.seed)[TARGET])
        rows, reasons = measures_with_intervals(
            *_matrix(task.test), families=["class"], seed=config.seed, num_groups=GROUPS
        )
        for name in COLLAPSE:
            yield {"metric": name, **rows[name], "reason": reasons.get(name)}

    labels = subject.columns | {"layer": FEATURES} | task.where._asdict()
    return Stage(f"{subject.run}|own", labels, compute)


def _subset(data: tuple, seed: int) -> Row:
    options = {"fractions": (TENTH, 1.0), "subsets": SUBSETS, "controls": False, "seed": seed}
    return next(r for r in diffused_redundancy(*data, **options).rows if r["metric"] == SUBSET)


def _gain(first: str, second: str, one: Task, other: Task, config: BriefRichnessConfig) -> Stage:
    def compute(_: Arrays) -> Iterator[Row]:
        trains, tests = (one.train, other.train), (one.test, other.test)
        rows = concatenation_rows(trains, tests, FEATURES, config.seed)
        yield from (row for row in rows if row["metric"] == GAIN)

    labels = {"run": pair_name(first, second), "layer": FEATURES} | one.where._asdict()
    return Stage(f"{first}|{second}|gain", labels, compute)


def _matrix(group) -> tuple:  # ruff: ignore[missing-type-function-argument]
    return group.features[FEATURES], group.labels


def _intervals(_: BriefRichnessConfig) -> str:
    return (
        "accuracies: bootstrap over test examples and subsets of units, or Wilson; NC1 and CDNV: "
        f"delete-group jackknife over examples, {GROUPS} groups, normal"
    )


PROBE = FeatureProbe("study_richness", METRICS, all_stages, _intervals)


def measure(config: BriefRichnessConfig) -> Record:
    """Measure every run; see `FeatureProbe.measure`."""
    return PROBE.measure(config)
