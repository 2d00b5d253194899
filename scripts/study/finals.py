"""Models over all runs of an environment and rate: ensemble and average, of all and of some.

Out of distribution every run counts. Images held out of the training environments were trained on
by runs with another hold-out, so that i.i.d. accuracy is that of the runs which held the images
out, split by split, and the mean over splits.

Shapes: M runs, N images of an environment, C classes.
"""

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float

from core.errors import InputError
from core.records import Metric, Record, provenance, tidy
from finetuning.averaging import average
from finetuning.ensembles import subsets
from finetuning.members import Member
from scripts.study.trajectory import Evaluator

PROBE = "finals"
ENSEMBLE, AVERAGE = "ensemble_final", "average_final"
ENSEMBLE_SUBSET, AVERAGE_SUBSET = "ensemble_subset", "average_subset"
METRICS = {
    name: Metric(title=f"accuracy of {what}", direction="higher", low=0, high=1, coordinate="runs")
    for name, what in (
        (ENSEMBLE, "the mean logits of all runs"),
        (AVERAGE, "the mean weights of all runs"),
        (ENSEMBLE_SUBSET, "the mean logits of some runs"),
        (AVERAGE_SUBSET, "the mean weights of some runs"),
    )
}
Logits = Float[np.ndarray, "N C"]


@dataclass(frozen=True)
class Kept:
    """One run with its logits.

    Attributes:
        member: The run.
        logits: Of its final weights on the images that it is evaluated on, by environment.
    """

    member: Member
    logits: dict[str, Logits]

    @classmethod
    def read(cls, run: str, folder: Path) -> "Kept":
        """From a run's folder and from what `trajectory.measure` found of it."""
        return cls(Member.read(run), Record.read(folder).arrays)

    @property
    def split(self) -> int:
        """Seed of its hold-out."""
        assert self.member.config.split_seed is not None
        return self.member.config.split_seed


def measure(runs: Sequence[str], folders: Sequence[Path], draws: int) -> Record:
    """Final models of runs that differ in cell and seed alone.

    Args:
        runs: Their folders as they lie now; a study may have moved since they were measured.
        folders: What `trajectory.measure` found of each.
        draws: Subsets of each size; averages, each of which is evaluated, have powers of two.

    Raises:
        InputError: If the runs hold out several environments, or there are fewer than two.
    """
    if len(runs) < 2:
        raise InputError(f"there are {len(runs)} runs to average; at least two were expected")
    members = [Kept.read(*both) for both in zip(runs, folders, strict=True)]
    evaluators = {m.split: Evaluator(m.member) for m in members}
    rows = [*_ensembles(members, evaluators, draws), *_averages(members, evaluators, draws)]
    (env,) = members[0].member.config.test_env
    places = ("iid", "all"), ("ood", env)
    return Record(
        probe=PROBE,
        config={"checkpoints": [str(m.member.path) for m in members], "draws": draws},
        values=tidy(
            {"probe": PROBE, "run": name, "metric": metric, "seed": draw, "at": size}
            | {"split": split, "env": where, "value": value}
            for metric, size, draw, accuracies in rows
            for (split, where), value in zip(places, accuracies, strict=True)
            for name in [f"{metric}-{env}-r{members[0].member.config.drop_rate:g}"]
        ),
        metrics=METRICS,
        provenance=provenance(),
    )


Found = tuple[str, int, int, tuple[float, float]]  # metric, size, draw, i.i.d. and o.o.d.


def _ensembles(
    members: Sequence[Kept], evaluators: dict[int, Evaluator], draws: int
) -> Iterator[Found]:
    whole = len(members)
    yield ENSEMBLE, whole, 0, _ensemble(members, evaluators)
    for size in range(1, whole):
        for draw, chosen in enumerate(subsets(whole, size, most=draws)):
            some = [members[i] for i in chosen]
            yield ENSEMBLE_SUBSET, size, draw, _ensemble(some, evaluators)


def _ensemble(members: Sequence[Kept], evaluators: dict[int, Evaluator]) -> tuple[float, float]:
    """I.i.d. and o.o.d. accuracy of mean logits."""
    iid = []
    for split in sorted({m.split for m in members}):
        having = [m for m in members if m.split == split]
        iid.append(_accuracy(having, evaluators[split], evaluators[split].setup.train))
    (env,) = members[0].member.config.test_env
    return statistics.fmean(iid), _accuracy(members, evaluators[members[0].split], [env])


def _accuracy(members: Sequence[Kept], evaluator: Evaluator, envs: Sequence[str] | dict) -> float:
    """Environments count alike, as in the accuracy of a run."""
    right = [
        np.mean([m.logits[env] for m in members], axis=0).argmax(1) == evaluator.labels(env)
        for env in envs
    ]
    return statistics.fmean(float(r.mean()) for r in right)


def _averages(
    members: Sequence[Kept], evaluators: dict[int, Evaluator], draws: int
) -> Iterator[Found]:
    whole, size = len(members), 2
    yield AVERAGE, whole, 0, _average(members, evaluators)
    while size < whole:
        for draw, chosen in enumerate(subsets(whole, size, most=draws)):
            some = [members[i] for i in chosen]
            yield AVERAGE_SUBSET, size, draw, _average(some, evaluators)
        size *= 2


def _average(members: Sequence[Kept], evaluators: dict[int, Evaluator]) -> tuple[float, float]:
    """Of the network at mean weights: of all runs o.o.d., of those of a split i.i.d."""
    iid = []
    for split in sorted({m.split for m in members}):
        having = [m for m in members if m.split == split]
        iid.append(_evaluated(having, evaluators[split], tuple(evaluators[split].setup.train)))
    first = evaluators[members[0].split]
    ood = _evaluated(members, first, members[0].member.config.test_env)
    return statistics.fmean(iid), ood


def _evaluated(members: Sequence[Kept], evaluator: Evaluator, envs: tuple[str, ...]) -> float:
    logits = evaluator.logits(average(m.member.state("final") for m in members), envs)
    return statistics.fmean(float(r.mean()) for r in evaluator.correct(logits).values())
