"""Made-up records of the probes `rate_curve` and `feature_creation`."""

from collections.abc import Sequence
from typing import Any

from analysis.creation_verdict import AFTER, BEFORE, CKA, DIFFERENCE, MEDIAN, NULL, R2
from analysis.dropout_ridge_verdict import (
    WAYS,
    accuracy_of,
    difference_of,
    excess_of,
    settling_of,
)
from core.records import Record, tidy
from probes.feature_creation import METRICS as CREATION
from probes.rate_curve import METRICS as RATES

DATA = {
    "data": "digits",
    "classes": ["0", "1", "2"],
    "image_shape": [3, 32, 32],
    "intervals": "made up",
    "versions": {"lazyrich": "0"},
}


def _row(of: dict[str, Any], metric: str, value: float, half: float | None = 0.02) -> dict:
    ends = {} if half is None else {"low": value - half, "high": value + half}
    return of | {"metric": metric, "value": value, **ends, "num_examples": 50}


def rate_record(
    layers: Sequence[str] = ("features",),
    losses: Sequence[str] = ("squared", "cross_entropy"),
    unsolved: float = 0.99,
) -> Record:
    """The closed form equals dropout but at the highest rate, where nothing has converged."""
    rows, run = [], {"run": "erm/init", "model": "tiny"}
    for layer in layers:
        for loss in losses:
            for rate in (0.0, 0.5, 0.9, 0.99):
                of = run | {"layer": layer, "at": rate, "env": "all"}
                rows += [
                    _row(of | {"split": "train"}, m(loss), 1e-4) for m in (excess_of, settling_of)
                ]
                for split in ("iid", "ood"):
                    place = of | {"split": split}
                    half = None if rate == unsolved else 0.001
                    rows.append(_row(place, difference_of(loss), 0.0, half))
                    rows += [_row(place, accuracy_of(loss, way), 0.9 - rate / 5) for way in WAYS]
    sizes = {"stacked": 3 * ("stacked" in layers), "tangent": 64 * ("tangent" in layers)}
    config = {"decay": 1e-3, "steps": 100, "repeats": 3, **sizes}
    reasons = {
        f"erm/init|{layer}|{loss}|{unsolved:g}|{difference_of(loss)}": "SGD has not converged"
        for layer in layers
        for loss in losses
    }
    facts = {"run": "erm/init", "checkpoint": "init.safetensors", "from_scratch": False}
    return Record(
        probe="rate_curve",
        config=config,
        values=tidy(rows),
        metrics=RATES,
        provenance={**DATA, "runs": [facts], "undefined": reasons},
    )


def creation_record(
    runs: Sequence[str] = ("erm", "dropout", "long"),
    scratch: Sequence[str] = (),
    rates: Sequence[float] = (1e-3, 1e-2, 1e-1),
) -> Record:
    """R2 falls with the learning rate; the last run knows more than its pretrained network."""
    rows, entries = [], []
    for i, run in enumerate(runs):
        for split in ("iid", "ood"):
            for layer in ("all", "features"):
                of = {"run": run, "model": "tiny", "layer": layer, "env": "all", "split": split}
                known = 0.8 - 0.1 * i - (0.2 if layer == "features" else 0)
                last = run == runs[-1]
                numbers = {R2: known, MEDIAN: known - 0.1, CKA: known, BEFORE: 0.7, AFTER: 0.75}
                rows += [_row(of, metric, value) for metric, value in numbers.items()]
                rows += [_row(of, NULL, -0.01), _row(of, DIFFERENCE, -0.1 if last else 0.05)]
        recipe = {"lr": rates[i], "steps": 100, "train_size": 50, "seed": 0, "drop_rate": 0.0}
        recipe["images"] = {"ink/train": 40 + i, "ink/iid": 50}
        for name in (f"{run}/init", run):
            entries.append({"run": name, **recipe, "from_scratch": run in scratch})
    return Record(
        probe="feature_creation",
        config={"folds": 5, "permutations": 20},
        values=tidy(rows),
        metrics=CREATION,
        provenance={**DATA, "runs": entries, "undefined": {}},
    )
