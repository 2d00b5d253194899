"""A section of the linearity probe: what it adds to the record."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from analysis.intervals import Row
from core.records import Metric


@dataclass(frozen=True)
class Section:
    """What one part of the probe adds to a record; nothing where it was left out.

    Attributes:
        rows: Values with intervals.
        arrays: What they were computed from, by name.
        metrics: What the values mean.
        facts: How they were made, for the provenance.
    """

    rows: list[Row] = field(default_factory=list)
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    metrics: dict[str, Metric] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)
