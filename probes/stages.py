"""Stages of a probe: each kept when it is done, and undefined measures left out with a reason."""

import json
import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from tqdm import tqdm

from analysis.intervals import Row
from core.errors import InputError
from probes.feature_options import FeatureOptions
from probes.feature_sets import FeatureSet
from probes.partial import Arrays, PartialResults

# Options that change where and how fast, not what.
NOT_COMPARED = ("output", "cache", "workers", "batch_size")
ROWS, REASON = "rows", "reason"  # what a kept stage holds beside its arrays

log = logging.getLogger(__name__)


@dataclass
class Found:
    """What stages found.

    Attributes:
        rows: Numbers, each with its metric and whose it is.
        arrays: What is worth keeping beside them, by name.
        reasons: Why a measure is undefined, by its stage, layer, position and metric.
    """

    rows: list[Row] = field(default_factory=list)
    arrays: Arrays = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)

    def add(self, stage: str, rows: list[Row], reason: str) -> None:
        """Take the rows of a stage, and why it has no more of them."""
        if reason:
            self.reasons[stage] = reason
            log.warning("%s: %s", stage, reason)
        for row in rows:
            if why := row.pop("reason", None):
                self.reasons["|".join((stage, *_place(row, stage)))] = why
            self.rows.append(row)


@dataclass(frozen=True)
class Stage:
    """A family of measures of some examples.

    Attributes:
        name: A name that no other stage has.
        labels: Columns that all of its rows share.
        compute: Its rows, one after the other; what it puts into its argument is kept as well. A
            row without a value says why under `reason`.
    """

    name: str
    labels: Row
    compute: Callable[[Arrays], Iterator[Row]]

    def run(self) -> Arrays:
        """Everything as arrays, which is how finished stages are kept."""
        rows: list[Row] = []
        arrays: Arrays = {}
        reason = ""
        try:
            for row in self.compute(arrays):
                rows.append(self.labels | row)
        except InputError as error:
            reason = str(error)
        return arrays | {ROWS: _packed(rows), REASON: _packed(reason)}


def identity(options: FeatureOptions, sets: Sequence[FeatureSet]) -> dict[str, object]:
    """All that the stages of a probe of features depend on."""
    asked = {k: v for k, v in asdict(options).items() if k not in NOT_COMPARED}
    return {"options": asked, "sets": [(s.run, s.checkpoint, s.data_facts) for s in sets]}


def run_stages(
    stages: Sequence[Stage], partial: PartialResults, identity: Mapping[str, object], title: str
) -> Found:
    """All stages in turn, those that an earlier process finished from `partial`.

    Args:
        stages: To be run.
        partial: Where finished stages are kept.
        identity: All that the stages depend on.
        title: What the progress bar says.

    Raises:
        InputError: If no stage found anything, with the reason of the first; nothing is kept.
    """
    found = Found()
    for stage in tqdm(stages, desc=title, unit="stage"):
        arrays = dict(partial.load_or_compute({"stage": stage.name, **identity}, stage.run))
        found.add(stage.name, _unpacked(arrays.pop(ROWS)), _unpacked(arrays.pop(REASON)))
        found.arrays |= arrays
    if not found.rows:
        partial.remove()
        raise InputError(next(iter(found.reasons.values()), "there is nothing to measure"))
    return found


def _place(row: Row, stage: str) -> list[str]:
    """What tells a row from others of its stage, its metric last."""
    names = [str(row[name]) for name in ("layer", "at") if row.get(name) is not None]
    return [*(name for name in names if name not in stage.split("|")), row["metric"]]


def attempted(metric: str, compute: Callable[[], Row]) -> Row:
    """The row of a metric, or one without a value that says why it has none."""
    try:
        return {"metric": metric, **compute()}
    except InputError as error:
        return {"metric": metric, "value": math.nan, "reason": str(error)}


def _packed(value: object) -> np.ndarray:
    return np.frombuffer(json.dumps(value, default=float).encode(), np.uint8)


def _unpacked(array: np.ndarray) -> Any:  # ruff: ignore[any-type] - whatever was packed
    return json.loads(array.tobytes())
