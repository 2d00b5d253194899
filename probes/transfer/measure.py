"""Every measure of transfer of every checkpoint, as one record."""

from core.records import Record
from probes.feature_probe import FeatureProbe
from probes.transfer.config import TransferConfig
from probes.transfer.families import all_stages
from probes.transfer.metrics import METRICS


def _intervals(config: TransferConfig) -> str:
    return (
        "accuracies: Wilson over test examples; differences: bootstrap over pairs; few-shot: "
        f"bootstrap over test examples and {config.repeats} draws; scores: delete-group "
        f"jackknife, {config.groups} groups"
    )


PROBE = FeatureProbe("transfer", METRICS, all_stages, _intervals)


def measure(config: TransferConfig) -> Record:
    """Measure every checkpoint; see `FeatureProbe.measure`."""
    return PROBE.measure(config)
