"""Every measure of transfer of every checkpoint, as one record.

Each stage is kept when it is done, so that a killed probe goes on from there. A measure that is
undefined on some examples has no value, and the record says why.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from core.records import Record, provenance, tidy
from probes.feature_options import with_defaults
from probes.feature_sets import FeatureSet
from probes.feature_sources import load_features
from probes.partial import PartialResults
from probes.stages import identity, run_stages
from probes.subjects import subjects_of
from probes.transfer.config import TransferConfig
from probes.transfer.families import all_stages
from probes.transfer.metrics import METRICS

PROBE = "transfer"


def measure(config: TransferConfig) -> Record:
    """Measure every checkpoint; nothing but cached features stays on disk when it succeeds.

    Raises:
        InputError: If files, checkpoints, images and options do not fit each other.
    """
    config = with_defaults(config, PROBE)
    partial = PartialResults.beside(Path(config.output or ""))
    record = measure_with(config, partial)
    partial.remove()
    return record


def measure_with(config: TransferConfig, partial: PartialResults) -> Record:
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
    )


def _provenance(
    config: TransferConfig,
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
            "accuracies: Wilson over test examples; differences: bootstrap over pairs; few-shot: "
            f"Student over {config.repeats} draws; scores: delete-group jackknife, "
            f"{config.groups} groups"
        ),
        seconds=round(seconds, 1),
    )
