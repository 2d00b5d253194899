"""The stages of the transfer probe, family by family."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy.special import softmax

from analysis.intervals import Row, proportion_interval
from analysis.jackknife import jackknife, jackknife_groups
from core.layers import FEATURES
from probes.feature_groups import Group, Where, halves, whole
from probes.partial import Arrays
from probes.stages import Stage, attempted
from probes.subjects import TRAIN, Subject
from probes.transfer.config import TransferConfig
from probes.transfer.few_shot import few_shot
from probes.transfer.h_score import h_score
from probes.transfer.knn import NEIGHBOURS, knn_predictions
from probes.transfer.layer_probes import ALL, concatenated
from probes.transfer.leep import leep, n_leep, nce
from probes.transfer.logistic import LinearProbe
from probes.transfer.logme import logme
from probes.transfer.selection import dinov2_probe
from probes.transfer.transfer_gap import paired_difference, source_and_target_probes
from probes.transfer.transrate import transrate

GIVEN = "given"  # the split of environments that are not known to be for training or testing
Score = Callable[[np.ndarray, np.ndarray], float]

SCORES: Mapping[str, Score] = {
    "logme": logme,
    "h_score": h_score,
    "n_leep": n_leep,
    "transrate": transrate,
}
HEAD_SCORES: Mapping[str, Score] = {
    "leep": leep,
    "nce": lambda probabilities, labels: nce(probabilities.argmax(1), labels),
}


def all_stages(subjects: Sequence[Subject], config: TransferConfig) -> list[Stage]:
    """Everything that the options ask for."""
    stages: list[Stage] = []
    for subject in subjects:
        source = source_of(subject, config.seed)
        if "probe" in config.measures:
            stages.append(_probes(subject, source, config))
        for layer in subject.layers:
            if "knn" in config.measures:
                stages.append(_neighbours(subject, source, layer))
            for where, group in subject.held_out():
                if "few_shot" in config.measures:
                    stages.append(_few_shot(subject, layer, where, group, config))
                if "gap" in config.measures and where.split == "ood":
                    stages.append(_gap(subject, source, layer, where, config))
                if "scores" in config.measures:
                    stages.append(_scores(subject, layer, where, group, config))
    return stages


class Source(NamedTuple):
    """Examples to train on, and those to test on, which are others."""

    train: Group
    tests: dict[Where, Group]


def source_of(subject: Subject, seed: int) -> Source:
    """What was trained on.

    Where nothing is known to have been, a half of the examples of the environments that are not
    for testing; their other half is tested on, as are the test environments.
    """
    train = whole(subject.groups, TRAIN)
    if train is not None:
        return Source(train[1], dict(subject.held_out()))
    splits = [where.split for where in subject.groups]
    split = GIVEN if GIVEN in splits else splits[0]
    known = whole(subject.groups, split)
    assert known is not None
    first, second = halves(known[1], seed=seed)
    tests = {where: group for where, group in subject.groups.items() if where.split != split}
    for where in subject.groups:
        if where.split == split:
            inside = np.flatnonzero((second.envs == where.env) | (where == known[0]))
            tests[where] = second.take(inside)
    return Source(first, tests)


def _probes(subject: Subject, source: Source, config: TransferConfig) -> Stage:
    """A probe of every layer and, of several, one of all side by side."""

    def compute(_: Arrays) -> Iterator[Row]:
        chosen = [[layer] for layer in subject.layers]
        chosen += [list(subject.layers)] if len(chosen) > 1 else []
        right: dict[tuple[str, Where], np.ndarray] = {}
        for layers in chosen:
            name = layers[0] if len(layers) == 1 else ALL
            probe = _fitted(source.train, layers, config.seed)
            converged = "" if probe.converged else "the probe stopped before its tolerance"
            yield {"layer": name, "metric": "probe_c", "value": probe.C, "reason": converged}
            for where, group in source.tests.items():
                right[name, where] = (
                    probe.predict(concatenated(group.features, layers)) == group.labels
                )
                accuracy = proportion_interval(right[name, where].astype(float))
                yield {"layer": name, **where._asdict(), "metric": "probe_accuracy", **accuracy}
        if len(chosen) > 1 and FEATURES in subject.layers:
            for where in source.tests:
                ours, other = (right[n, where].astype(float) for n in (ALL, FEATURES))
                gain = paired_difference(ours, other, seed=config.seed)
                yield {"layer": ALL, **where._asdict(), "metric": "layer_gain", **gain}
        for where, group in source.tests.items():
            chance = {"value": np.bincount(group.labels).max() / len(group)}
            size = {"num_examples": len(group)}
            yield {**where._asdict(), "metric": "chance_accuracy", **chance, **size}

    return Stage(f"{subject.run}|probes", subject.columns, compute)


def _fitted(train: Group, layers: list[str], seed: int) -> LinearProbe:
    blocks = [train.features[layer].shape[1] for layer in layers]
    return dinov2_probe(
        concatenated(train.features, layers), train.labels, blocks=blocks, seed=seed
    ).probe


def _neighbours(subject: Subject, source: Source, layer: str) -> Stage:
    def compute(_: Arrays) -> Iterator[Row]:
        train = source.train
        enough = [k for k in NEIGHBOURS if k <= len(train)]
        for where, group in source.tests.items():
            predicted = knn_predictions(
                train.features[layer], train.labels, group.features[layer], neighbours=enough
            )
            for k, classes in predicted.items():
                accuracy = proportion_interval((classes == group.labels).astype(float))
                yield {**where._asdict(), "metric": "knn_accuracy", "at": float(k), **accuracy}

    return Stage(f"{subject.run}|{layer}|knn", subject.columns | {"layer": layer}, compute)


def _few_shot(
    subject: Subject, layer: str, where: Where, group: Group, config: TransferConfig
) -> Stage:
    """Few examples from one half of an environment, tested on its other half."""

    def compute(_: Arrays) -> Iterator[Row]:
        train, test = halves(group, seed=config.seed)
        data = (train.features[layer], train.labels, test.features[layer], test.labels)
        seeds = range(config.seed, config.seed + config.repeats)
        for shots in config.shots:
            mean = lambda num=shots: few_shot(*data, shots=[num], seeds=seeds)[0].row(
                seed=config.seed
            )
            yield {"at": float(shots), **attempted("few_shot_accuracy", mean)}

    return _stage(subject, layer, where, "few_shot", compute)


def _gap(
    subject: Subject, source: Source, layer: str, where: Where, config: TransferConfig
) -> Stage:
    """Does the head fail out of distribution, or are the features lost?"""

    def compute(_: Arrays) -> Iterator[Row]:
        target = source.tests[where]
        gap = source_and_target_probes(
            *(source.train.features[layer], source.train.labels),
            *(target.features[layer], target.labels),
            folds=config.folds,
            seed=config.seed,
        )
        yield from ({"metric": name, **row} for name, row in gap.rows(seed=config.seed).items())

    return _stage(subject, layer, where, "gap", compute)


def _scores(
    subject: Subject, layer: str, where: Where, group: Group, config: TransferConfig
) -> Stage:
    """Transferability scores with jackknife intervals."""

    def compute(_: Arrays) -> Iterator[Row]:
        groups = jackknife_groups(group.labels, seed=config.seed, num_groups=config.groups)
        inputs = [(SCORES, group.features[layer])]
        probabilities = _probabilities(subject, group) if layer == FEATURES else None
        inputs += [] if probabilities is None else [(HEAD_SCORES, probabilities)]
        for scores, x in inputs:
            for name, score in scores.items():
                value = lambda kept, f=score, x=x: {"": f(x[kept], group.labels[kept])}
                yield attempted(name, lambda value=value: jackknife(value, groups)[""])
                null = lambda f=score, x=x: permuted(f, x, group.labels, config)
                yield attempted(f"null_{name}", null)

    return _stage(subject, layer, where, "scores", compute)


def permuted(score: Score, x: np.ndarray, labels: np.ndarray, config: TransferConfig) -> Row:
    """Mean and range of a score with permuted labels: what it gives for nothing at this size."""
    generator = np.random.default_rng(config.seed)
    drawn = np.array([score(x, generator.permutation(labels)) for _ in range(config.draws)])
    row: Row = {"value": float(drawn.mean()), "stderr": float(drawn.std(ddof=1))}
    return row | {"low": drawn.min(), "high": drawn.max(), "num_examples": len(labels)}


def _probabilities(subject: Subject, group: Group) -> np.ndarray | None:
    """What the checkpoint's own classifier says of the examples."""
    weight, bias = subject.source.weight, subject.source.bias
    if weight is None:
        return None
    logits = group.features[FEATURES].astype(np.float64) @ weight.T.astype(np.float64)
    return softmax(logits if bias is None else logits + bias, axis=1)


def _stage(
    subject: Subject,
    layer: str,
    where: Where,
    family: str,
    compute: Callable[[Arrays], Iterator[Row]],
) -> Stage:
    name = "|".join((subject.run, layer, *where, family))
    return Stage(name, subject.columns | {"layer": layer} | where._asdict(), compute)
