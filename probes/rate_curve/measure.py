"""The rate curve of every pretrained network, representation and loss, as one record."""

from collections.abc import Iterator, Sequence

from analysis.intervals import Row
from core.records import Record
from probes.dropout_head import Loss
from probes.feature_groups import ALL
from probes.feature_probe import FeatureProbe
from probes.partial import Arrays
from probes.rate_curve.config import RateCurveConfig
from probes.rate_curve.curve import rate_rows
from probes.rate_curve.representations import load
from probes.rate_curve.rows import METRICS, Examples
from probes.stages import Stage
from probes.subjects import Subject
from probes.transfer.families import source_of


def all_stages(subjects: Sequence[Subject], config: RateCurveConfig) -> list[Stage]:
    """One of each network, representation, loss and rate."""
    return [
        _stage(subject, layer, loss, rate, config)
        for subject in subjects
        for layer in subject.layers
        for loss in config.losses
        for rate in config.rates
    ]


def _stage(
    subject: Subject, layer: str, loss: Loss, rate: float, config: RateCurveConfig
) -> Stage:
    def compute(_: Arrays) -> Iterator[Row]:
        source = source_of(subject, config.seed)
        several = {where.env for where in source.tests} != {ALL}
        tests = {
            where.env: Examples(group.features[layer], group.labels, where.split)
            for where, group in source.tests.items()
            if where.env != ALL or not several
        }
        yield from rate_rows(
            source.train.features[layer],
            source.train.labels,
            tests,
            rate,
            loss=loss,
            decay=config.decay,
            steps=config.steps,
            repeats=config.repeats,
            seed=config.seed,
        )

    name = f"{subject.run}|{layer}|{loss}|{rate:g}"
    return Stage(name, subject.columns | {"layer": layer}, compute)


def _intervals(config: RateCurveConfig) -> str:
    return (
        "accuracies: Wilson over test examples; differences: Agresti and Min over paired test "
        f"examples; by dropout widened by Student's t over {config.repeats} repeats; loss of the "
        "cross-entropy: normal over dropout masks"
    )


PROBE = FeatureProbe("rate_curve", METRICS, all_stages, _intervals, load)


def measure(config: RateCurveConfig) -> Record:
    """Measure every network; see `FeatureProbe.measure`."""
    return PROBE.measure(config)
