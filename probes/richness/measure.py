"""Every measure of richness of every checkpoint, as one record."""

from core.records import Record
from probes.feature_probe import FeatureProbe
from probes.redundancy.metrics import METRICS as REDUNDANCY
from probes.richness.comparisons import NULL_SIMILARITY
from probes.richness.config import RichnessConfig
from probes.richness.families import all_stages
from probes.richness.metrics import METRICS as RICHNESS
from probes.richness.nulls import NULL_METRICS
from probes.similarity.metrics import METRICS as SIMILARITY

METRICS = RICHNESS | REDUNDANCY | SIMILARITY | NULL_METRICS | NULL_SIMILARITY


def _intervals(config: RichnessConfig) -> str:
    return (
        f"moments and similarities: delete-group jackknife over examples, {config.groups} "
        "groups, normal; accuracies: bootstrap over test examples and subsets of units"
    )


PROBE = FeatureProbe("richness", METRICS, all_stages, _intervals)


def measure(config: RichnessConfig) -> Record:
    """Measure every checkpoint; see `FeatureProbe.measure`."""
    return PROBE.measure(config)
