"""Checkpoints with their examples in groups, and pairs of them, for probes of features."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from probes.feature_groups import Group, Where, at_equal_sizes, groups_of, halves, whole
from probes.feature_sets import FeatureSet

TRAIN = "train"


class Task(NamedTuple):
    """Examples to train probes on, and others to test them on."""

    where: Where
    train: Group
    test: Group


@dataclass(frozen=True, eq=False)
class Subject:
    """One checkpoint with its examples in groups of the sizes that all checkpoints have."""

    source: FeatureSet
    groups: dict[Where, Group]

    @property
    def run(self) -> str:
        """Its label."""
        return self.source.run

    @property
    def layers(self) -> tuple[str, ...]:
        """The layers that it has features of."""
        return tuple(next(iter(self.groups.values())).features)

    @property
    def columns(self) -> dict[str, Any]:
        """What its rows say of it."""
        source = self.source
        digest = source.checkpoint[:12]
        return {"run": self.run, "model": source.model, "checkpoint": digest, "seed": source.seed}

    def held_out(self) -> Iterator[tuple[Where, Group]]:
        """All groups but those that were trained on."""
        yield from ((where, g) for where, g in self.groups.items() if where.split != TRAIN)

    def tasks(self, seed: int) -> Iterator[Task]:
        """What probes are trained and tested on, split by split.

        Where nothing is known to have been trained on, a random half of the examples is.
        """
        train = whole(self.groups, TRAIN)
        for split in dict.fromkeys(where.split for where in self.groups):
            found = whole(self.groups, split)
            if split != TRAIN and found is not None:
                where, group = found
                yield Task(where, *((train[1], group) if train else halves(group, seed=seed)))


def subjects_of(
    sets: Sequence[FeatureSet], *, seed: int, whole_training: bool = False
) -> list[Subject]:
    """All checkpoints, at equal sizes; with `whole_training` but for what each was trained on."""
    groups = [groups_of(s) for s in sets]
    equal = at_equal_sizes(groups, seed=seed)
    if whole_training:
        trained = [{w: g for w, g in own.items() if w.split == TRAIN} for own in groups]
        equal = [other | own for other, own in zip(equal, trained, strict=True)]
    return [Subject(s, found) for s, found in zip(sets, equal, strict=True)]


def pairs_of(subjects: Sequence[Subject]) -> Iterator[tuple[Subject, Subject]]:
    """Two checkpoints that share a layer and a group of examples."""
    for first, second in itertools.combinations(subjects, 2):
        if set(first.layers) & set(second.layers) and first.groups.keys() & second.groups.keys():
            yield first, second


def pair_name(first: str, second: str) -> str:
    """How a pair is called in the column `run`.

    Example:
        >>> pair_name("erm/init", "erm")
        'erm/init | erm'
    """
    return f"{first} | {second}"
