"""The training-space section of a record, made of synthetic numbers; only its shape is real."""

from typing import Any

import pandas as pd

from core.records import Metric, Record, tidy
from reports.training_space import METHODS, ORDINARY
from tests.reports.synthetic import interval


def with_training(
    record: Record,
    runs: tuple[str, ...],
    methods: tuple[str, ...] = tuple(METHODS),
    features: int | None = None,
) -> Record:
    """The same record with counterparts of some runs; `features` where kernels are sketched."""
    places = record.values[record.values["env"].notna()][["run", "env", "split"]]
    places = places[places["run"].isin(runs)].drop_duplicates()
    rows = [
        {"run": run, "env": env, "split": split, "num_examples": 200} | row
        for run, env, split in places.itertuples(index=False)
        for row in _rows(methods, 0.1 * runs.index(run) + (0.3 if split == "ood" else 0.0))
    ]
    new = tidy({"probe": record.probe, "model": "glyphnet", **row} for row in rows)
    metrics = {row["metric"]: Metric(title=row["metric"], direction="higher") for row in rows}
    made = {
        "samples": 128,
        "intervals": "Wilson",
        "runs": {run: _facts(methods, features) for run in runs},
    }
    return Record(
        probe=record.probe,
        config=record.config,
        values=pd.concat([record.values, new], ignore_index=True),
        metrics=record.metrics | metrics,
        provenance=record.provenance | {"training_space": made},
        arrays=record.arrays,
    )


def _rows(methods: tuple[str, ...], fall: float) -> list[dict[str, Any]]:
    rows = []
    for i, method in enumerate(methods):
        rows.append(interval(f"{method}_accuracy", 0.95 - fall - 0.02 * i))
        if method != ORDINARY:
            rows.append(interval(f"{method}_accuracy_difference", -0.02 * i))
            rows.append(interval(f"{method}_agreement", 0.9 - 0.01 * i))
    if {"kernel", "tangent"} <= set(methods):
        rows.append(interval("kernel_to_tangent_accuracy_difference", -0.05))
        rows.append(interval("kernel_to_tangent_agreement", 0.8))
    return rows


def _facts(methods: tuple[str, ...], features: int | None) -> dict[str, Any]:
    facts: dict[str, Any] = {}
    if "tangent" in methods:
        facts |= {"tangent": "runs/digits/tangent", "tangent_sha256": "c" * 64}
    if "kernel" in methods:
        sketch = {} if features is None else {"features": features}
        kind = "exact" if features is None else "sketched"
        facts["kernel"] = {
            "kind": kind,
            **sketch,
            "images": {"ink": 22, "photo": 21},
            "ridge": 0.1,
        }
    return facts
