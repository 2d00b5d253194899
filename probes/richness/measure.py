"""Every measure of richness of every checkpoint, as one record.

Each stage (measures of one checkpoint, layer and group of examples) is kept when it is done, so
that a killed probe goes on from there. A measure that is undefined on some examples has no value,
and the record says why.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from core.records import Metric, Record, provenance, tidy
from probes.feature_options import with_defaults
from probes.feature_sets import FeatureSet
from probes.feature_sources import load_features
from probes.partial import PartialResults
from probes.redundancy.metrics import METRICS as REDUNDANCY
from probes.richness.comparisons import NULL_SIMILARITY
from probes.richness.config import RichnessConfig
from probes.richness.families import all_stages
from probes.richness.metrics import METRICS as RICHNESS
from probes.richness.nulls import NULL_METRICS
from probes.similarity.metrics import METRICS as SIMILARITY
from probes.stages import identity, run_stages
from probes.subjects import subjects_of

METRICS: dict[str, Metric] = RICHNESS | REDUNDANCY | SIMILARITY | NULL_METRICS | NULL_SIMILARITY
PROBE = "richness"


def measure(config: RichnessConfig) -> Record:
    """Measure every checkpoint; nothing but cached features stays on disk when it succeeds.

    Raises:
        InputError: If files, checkpoints, images and options do not fit each other.
    """
    config = with_defaults(config, PROBE)
    partial = PartialResults.beside(Path(config.output or ""))
    record = measure_with(config, partial)
    partial.remove()
    return record


def measure_with(config: RichnessConfig, partial: PartialResults) -> Record:
    """`measure` that keeps finished stages in `partial` and leaves them there."""
    began = time.perf_counter()
    sets = load_features(config)
    stages = all_stages(subjects_of(sets, seed=config.seed), config)
    found = run_stages(stages, partial, identity(config, sets), PROBE)
    return Record(
        probe=PROBE,
        config=asdict(config),
        values=tidy({"probe": PROBE, **row} for row in found.rows),
        metrics=METRICS,
        provenance=_provenance(config, sets, found.reasons, time.perf_counter() - began),
        arrays=found.arrays,
    )


def _provenance(
    config: RichnessConfig,
    sets: Sequence[FeatureSet],
    undefined: Mapping[str, str],
    seconds: float,
) -> dict[str, Any]:
    return provenance(
        runs=[s.facts for s in sets],
        **sets[0].data_facts,
        undefined=dict(undefined),
        dtype=config.dtype,
        seed=config.seed,
        intervals=(
            f"moments and similarities: delete-group jackknife over examples, {config.groups} "
            "groups, normal; accuracies: bootstrap over test examples and subsets of units"
        ),
        seconds=round(seconds, 1),
    )
