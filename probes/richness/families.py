"""The stages of the richness probe, family by family."""

from collections.abc import Iterator, Sequence

import torch

from analysis.intervals import Row
from core.layers import FEATURES
from probes.feature_groups import Group, Where, whole
from probes.partial import Arrays
from probes.richness.class_structure import Classifier
from probes.richness.comparisons import (
    concatenation_rows,
    layer_map,
    redundancy_rows,
    similarity_rows,
)
from probes.richness.config import RichnessConfig
from probes.richness.evaluate import FAMILIES
from probes.richness.intervals import measures_with_intervals
from probes.richness.nulls import class_null, spectral_null
from probes.richness.spectrum import Moments
from probes.stages import Stage
from probes.subjects import TRAIN, Subject, Task, pair_name, pairs_of

Pair = tuple[Group, Group]


def all_stages(subjects: Sequence[Subject], config: RichnessConfig) -> list[Stage]:
    """Everything that the options ask for."""
    stages: list[Stage] = []
    for subject in subjects:
        for layer in subject.layers:
            stages += [
                _moments(subject, layer, where, config)
                for where in subject.groups
                if set(FAMILIES) & set(config.measures)
            ]
            if "redundancy" in config.measures:
                stages += [
                    _redundancy(subject, layer, t, config) for t in subject.tasks(config.seed)
                ]
    for first, second in pairs_of(subjects):
        if "similarity" in config.measures:
            stages += _similarity(first, second, config)
        if "redundancy" in config.measures:
            stages += _concatenation(first, second, config)
            stages += _concatenation(second, first, config)
    return stages


def stage_name(*parts: str) -> str:
    """A name of a stage, or of an array that it keeps."""
    return "|".join(parts)


def _moments(subject: Subject, layer: str, where: Where, config: RichnessConfig) -> Stage:
    """Measures of the spectrum, the classes, sparsity and decorrelation, with their nulls."""
    group = subject.groups[where]
    name = stage_name(subject.run, layer, *where)

    def compute(arrays: Arrays) -> Iterator[Row]:
        x = torch.as_tensor(group.features[layer])
        moments = Moments.of(x)
        rows, reasons = measures_with_intervals(
            moments,
            group.labels,
            _classifier(subject) if layer == FEATURES else None,
            families=[family for family in FAMILIES if family in config.measures],
            seed=config.seed,
            num_groups=config.groups,
        )
        if "spectral" in config.measures:
            null, spectra = spectral_null(x, config.draws, seed=config.seed)
            rows |= null
            own = moments.eigenvalues()
            arrays[stage_name(name, "spectrum")] = own / own.sum()
            arrays[stage_name(name, "null_spectrum")] = spectra
        if "class" in config.measures and "cdnv" not in reasons:
            rows |= class_null(x, group.labels, config.draws, seed=config.seed)
        for metric, row in rows.items():
            yield {"metric": metric, **row, "reason": reasons.get(metric)}

    return Stage(name, _columns(subject, layer, where), compute)


def _redundancy(subject: Subject, layer: str, task: Task, config: RichnessConfig) -> Stage:
    def compute(_: Arrays) -> Iterator[Row]:
        classifier = _classifier(subject)
        return redundancy_rows(task.train, task.test, layer, classifier, config)

    name = stage_name(subject.run, layer, *task.where, "redundancy")
    return Stage(name, _columns(subject, layer, task.where), compute)


def _similarity(first: Subject, second: Subject, config: RichnessConfig) -> Iterator[Stage]:
    """Layer by layer, and for several layers the map of each with each."""
    shared = [layer for layer in first.layers if layer in second.layers]
    for where, groups in _held_out(first, second):
        labels = {"run": pair_name(first.run, second.run), **where._asdict()}
        name = stage_name(labels["run"], *where, "similarity")
        for layer in shared:

            def compute(_: Arrays, layer: str = layer, groups: Pair = groups) -> Iterator[Row]:
                return similarity_rows(*groups, layer, config)

            yield Stage(f"{name}|{layer}", labels | {"layer": layer}, compute)
        if len(shared) > 1:

            def fill(arrays: Arrays, name: str = name, groups: Pair = groups) -> Iterator[Row]:
                arrays[stage_name(name, "map")] = layer_map(*groups)
                return iter(())

            yield Stage(f"{name}|map", labels, fill)


def _concatenation(first: Subject, second: Subject, config: RichnessConfig) -> Iterator[Stage]:
    """What the second adds to the first."""
    tasks = {task.where: task for task in second.tasks(config.seed)}
    for task in first.tasks(config.seed):
        other = tasks.get(task.where)
        if other is None or FEATURES not in first.layers or FEATURES not in second.layers:
            continue
        labels = {"run": pair_name(first.run, second.run), "layer": FEATURES}

        def compute(_: Arrays, task: Task = task, other: Task = other) -> Iterator[Row]:
            trains, tests = (task.train, other.train), (task.test, other.test)
            return concatenation_rows(trains, tests, FEATURES, config.seed)

        name = stage_name(labels["run"], *task.where, "concatenation")
        yield Stage(name, labels | task.where._asdict(), compute)


def _held_out(first: Subject, second: Subject) -> Iterator[tuple[Where, Pair]]:
    """The largest group of every split that both have, but for what was trained on."""
    for split in dict.fromkeys(where.split for where in first.groups):
        a, b = whole(first.groups, split), whole(second.groups, split)
        if split != TRAIN and a is not None and b is not None and a[0] == b[0]:
            yield a[0], (a[1], b[1])


def _classifier(subject: Subject) -> Classifier | None:
    """Its own classifier, where that has the classes of the images."""
    weight = subject.source.weight
    return None if weight is None else Classifier(weight, subject.source.bias)


def _columns(subject: Subject, layer: str, where: Where) -> Row:
    return subject.columns | {"layer": layer} | where._asdict()
