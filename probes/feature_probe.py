"""A probe of features: what it measures of which checkpoints, as one record.

Each stage (measures of one checkpoint, layer and group of examples) is kept when it is done, so
that a killed probe goes on from there. A measure that is undefined on some examples has no value,
and the record says why.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Generic

from core.device import full_precision
from core.records import Metric, Record, provenance, tidy
from probes.feature_options import Options, with_defaults
from probes.feature_sets import FeatureSet
from probes.feature_sources import load_features
from probes.partial import PartialResults
from probes.stages import Found, Stage, identity, run_stages
from probes.subjects import Subject, subjects_of


@dataclass(frozen=True)
class FeatureProbe(Generic[Options]):
    """A probe by its parts.

    Attributes:
        name: What its records and folders are called.
        metrics: What it may measure.
        stages: The stages that the options ask for.
        intervals: How its intervals are made, for the record.
        load: Reads the features, where `load_features` alone does not do.
        whole_training: Whether images that a run was trained on are not cut to the number that
            the other runs have: where a run is only compared with itself before.
    """

    name: str
    metrics: Mapping[str, Metric]
    stages: Callable[[Sequence[Subject], Options], list[Stage]]
    intervals: Callable[[Options], str]
    load: Callable[[Options], list[FeatureSet]] | None = None
    whole_training: bool = False

    def measure(self, config: Options) -> Record:
        """Measure every checkpoint; only cached features stay on disk when it succeeds.

        Raises:
            InputError: If files, checkpoints, images and options do not fit each other.
        """
        config = with_defaults(config, self.name)
        partial = PartialResults.beside(Path(config.output or ""))
        record = self.measure_with(config, partial)
        partial.remove()
        return record

    @full_precision()
    def measure_with(self, config: Options, partial: PartialResults) -> Record:
        """`measure` that keeps finished stages in `partial` and leaves them there."""
        began = time.perf_counter()
        sets = (self.load or load_features)(config)
        subjects = subjects_of(sets, seed=config.seed, whole_training=self.whole_training)
        stages = self.stages(subjects, config)
        found = run_stages(stages, partial, identity(config, sets), self.name)
        return Record(
            probe=self.name,
            config=asdict(config),
            values=tidy({"probe": self.name, **row} for row in found.rows),
            metrics=dict(self.metrics),
            provenance=self._provenance(config, sets, found, time.perf_counter() - began),
            arrays=found.arrays,
        )

    def _provenance(
        self, config: Options, sets: Sequence[FeatureSet], found: Found, seconds: float
    ) -> dict[str, Any]:
        return provenance(
            runs=[s.facts for s in sets],
            **sets[0].data_facts,
            undefined=found.reasons,
            dtype=config.dtype,
            seed=config.seed,
            intervals=self.intervals(config),
            seconds=round(seconds, 1),
        )
