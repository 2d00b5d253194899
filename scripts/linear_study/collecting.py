"""What the study found, in one record and one frame of runs."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from analysis.creation_verdict import DIFFERENCE, NULL, R2
from analysis.dropout_ridge_verdict import ALL
from analysis.linear_counterparts import ON_KERNEL_IMAGES
from analysis.run_folders import runs_of_folders
from analysis.runs import ACCURACIES, check_runs
from core.records import Metric, Record, provenance
from scripts.linear_study.config import LinearStudyConfig
from scripts.linear_study.plan import GRID, Trained, configs
from scripts.linear_study.probing import CREATION, LINEARITY

PROBE = "linear_study"
_SHARED = ("data", "data_fingerprint", "classes", "image_shape", "transform")


def runs_frame(trained: Sequence[Trained], records: Mapping[str, Record]) -> pd.DataFrame:
    """Every run of the comparison, and kernel regression as a run beside each ordinary one."""
    compared = [one for one in trained if one.group != GRID]
    runs = runs_of_folders(run.output for run in configs(compared))
    further = [row for one in compared for row in _further(runs, one, records[one.group])]
    runs = check_runs(pd.concat([runs, pd.DataFrame(further)]))
    for metric in (R2, NULL, DIFFERENCE):
        values = _measures(records[CREATION], metric)
        runs[metric] = [values.get(run, np.nan) for run in runs["run"]]
    return runs


def _further(runs: pd.DataFrame, one: Trained, record: Record) -> list[dict[str, Any]]:
    """Kernel regression at the start of a run, and the run on the same images."""
    name = Path(one.run.output).name
    (own,) = runs.query("run == @name and selection == 'final'").to_dict("records")
    methods = {"kernel": "kernel", ON_KERNEL_IMAGES: "ordinary"}
    return [
        own | {"run": f"{name}-{method}", "method": method, **_accuracies(record, name, measured)}
        for method, measured in methods.items()
    ]


def _accuracies(record: Record, run: str, method: str) -> dict[str, float]:
    """Of a method in training space; environments count alike, as in the metrics of runs."""
    values = record.values
    of = (values["run"] == run) & (values["metric"] == f"{method}_accuracy")
    means = values.loc[of & (values["env"] != ALL)].groupby("split")["value"].mean()
    return {split: float(means[split]) for split in ACCURACIES}


def _measures(record: Record, metric: str) -> dict[str, float]:
    """What was measured of every run out of distribution, from all layers."""
    values = record.values
    of = (values["metric"] == metric) & (values["split"] == "ood")
    of &= (values["layer"] == ALL) & (values["env"] == ALL)
    return dict(zip(values.loc[of, "run"], values.loc[of, "value"], strict=True))


def grid_frame(trained: Sequence[Trained]) -> pd.DataFrame | None:
    """The runs of the grid; None where there is none."""
    members = [one for one in trained if one.group == GRID]
    if not members:
        return None
    return runs_of_folders(run.output for run in configs(members))


def study_record(
    config: LinearStudyConfig, records: Mapping[str, Record], seconds: float
) -> Record:
    """The numbers of all groups of runs as one record."""
    groups = [record for record in records.values() if record.probe == LINEARITY]
    metrics: dict[str, Metric] = {}
    for record in groups:
        metrics |= record.metrics
    first = groups[0].provenance
    return Record(
        probe=PROBE,
        config=asdict(config),
        values=pd.concat([record.values for record in groups], ignore_index=True),
        metrics=metrics,
        provenance=provenance(
            runs=[_file(entry) for record in groups for entry in record.provenance["runs"]],
            **{name: first[name] for name in _SHARED},
            seconds_of_last_call=round(seconds, 1),
        ),
    )


def _file(entry: Mapping[str, Any]) -> dict[str, Any]:
    kept = ("run", "sha256", "from_scratch")
    return {name: entry[name] for name in kept}
