"""What the study found, in one record and one frame of runs."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from analysis.dropout_ridge_verdict import ALL
from analysis.run_folders import runs_of_folders
from analysis.runs import check_runs
from core.records import Metric, Record, provenance
from scripts.linear_study.config import LinearStudyConfig
from scripts.linear_study.plan import GRID, Trained, configs

PROBE, LINEARITY = "linear_study", "linearity"
KERNEL = "kernel_accuracy"
_SHARED = ("data", "data_fingerprint", "classes", "image_shape", "transform")


def runs_frame(trained: Sequence[Trained], records: Mapping[str, Record]) -> pd.DataFrame:
    """Every run of the comparison, and kernel regression as a run beside each ordinary one."""
    compared = [one for one in trained if one.group != GRID]
    runs = runs_of_folders(run.output for run in configs(compared))
    kernels = [
        row
        for one in compared
        for row in _kernel(runs, Path(one.run.output).name, records[one.group])
    ]
    return check_runs(pd.concat([runs, pd.DataFrame(kernels)]))


def _kernel(runs: pd.DataFrame, run: str, record: Record) -> list[dict[str, Any]]:
    """Kernel regression at the start of a run; environments count alike, as in the others."""
    values = record.values
    of_run = (values["run"] == run) & (values["metric"] == KERNEL) & (values["env"] != "all")
    means = values.loc[of_run].groupby("split")["value"].mean()
    ordinary = runs.loc[(runs["run"] == run) & (runs["selection"] == "final")].iloc[0].to_dict()
    own = {"run": f"{run}-kernel", "method": "kernel", "iid": means["iid"], "ood": means["ood"]}
    return [ordinary | own]


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
            seconds=round(seconds, 1),
        ),
    )


def _file(entry: Mapping[str, Any]) -> dict[str, Any]:
    kept = ("run", "sha256", "from_scratch")
    return {name: entry[name] for name in kept}
