"""The runs frame of a study: every run, models made of several, and what was measured."""

import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from analysis.creation_verdict import DIFFERENCE, NULL, R2
from analysis.dropout_ridge_verdict import difference_of
from analysis.intervals import Row
from analysis.run_folders import runs_of_folders
from analysis.runs import ACCURACIES, check_runs
from core.layers import FEATURES
from core.records import Record
from scripts.study import finals, trajectory
from scripts.study.config import StudyConfig
from scripts.study.plan import Planned, in_first_cell, network_runs
from scripts.study.probing import CREATION, LINEARITY, LOSS, RATE, RICHNESS, run_name
from scripts.study.timing import seconds_of
from scripts.study_jobs import Job, read, runs_of

ALL = "all"
RATE_DIFFERENCE = "rate_accuracy_difference"
Values = Mapping[str, float]  # by the name of the run


def runs_frame(
    config: StudyConfig, planned: Sequence[Planned], jobs: Sequence[Job]
) -> pd.DataFrame:
    """A checked runs frame of finished runs and of what these jobs have measured."""
    runs = runs_of_folders(one.config.output for one in planned)
    measured = _with_measures(_with_ranks(runs, config), config, planned, jobs)
    rows = [
        *_trajectories(measured, read(jobs, trajectory.PROBE)),
        *_finals(measured, read(jobs, finals.PROBE)),
    ]
    return check_runs(pd.concat([measured, pd.DataFrame(rows)], ignore_index=True))


def _with_ranks(runs: pd.DataFrame, config: StudyConfig) -> pd.DataFrame:
    """How rich the pretraining was, as a rank, and the seconds of runs that were timed alone."""
    ranks = {config.pretrained: 1.0, str(config.poorer_weights): 0.0}
    seconds = seconds_of(Path(config.output))
    return runs.assign(
        pretraining=_column(runs, ranks, "pretrained"), seconds=_column(runs, seconds)
    )


def _column(runs: pd.DataFrame, values: Values, by: str = "run") -> pd.Series:
    return pd.Series([values.get(key, np.nan) for key in runs[by]], runs.index)


def _with_measures(
    runs: pd.DataFrame, config: StudyConfig, planned: Sequence[Planned], jobs: Sequence[Job]
) -> pd.DataFrame:
    """Measures beside the best step, whose weights they are of."""
    linearity, creation, along, rich = (
        read(jobs, kind).values() for kind in (LINEARITY, CREATION, trajectory.PROBE, RICHNESS)
    )
    columns: dict[str, Values] = {
        "explained_displacement": _of_runs(linearity, "explained_displacement", FEATURES),
        "interpolation_gap_max": _of_runs(linearity, "interpolation_gap_max"),
        trajectory.BARRIER: _of_runs(along, trajectory.BARRIER),
        **{name: _of_runs(creation, name, ALL) for name in (R2, NULL, DIFFERENCE)},
        **_richness(rich),
        RATE_DIFFERENCE: _rate_differences(config, planned, read(jobs, RATE)),
    }
    at_best = runs["selection"] == "best"
    found = {name: _column(runs, values).where(at_best) for name, values in columns.items()}
    return runs.assign(**found)


def _of_runs(records: Iterable[Record], metric: str, layer: str = "") -> dict[str, float]:
    """A metric out of distribution, by run; on a path, at its end."""
    found = {}
    for record in records:
        v = record.values
        kept = (v["metric"] == metric) & (v["split"] == "ood") & (v["env"] == ALL)
        kept &= (v["layer"].fillna("") == layer) & (v["at"].isna() | (v["at"] >= 1))
        found |= dict(zip(v.loc[kept, "run"], v.loc[kept, "value"], strict=True))
    return found


def _richness(records: Iterable[Record]) -> dict[str, Values]:
    """Measures of every run; what other seeds add to it is their mean."""
    found: dict[str, dict[str, list[float]]] = {}
    for record in records:
        own = record.values.dropna(subset=["value"])
        for run, metric, value in own[["run", "metric", "value"]].itertuples(index=False):
            first = run.split(" | ")[0]
            found.setdefault(metric, {}).setdefault(first, []).append(value)
    return {
        metric: {run: statistics.fmean(values) for run, values in by_run.items()}
        for metric, by_run in found.items()
    }


def _rate_differences(
    config: StudyConfig, planned: Sequence[Planned], records: Mapping[str, Record]
) -> Values:
    """The closed form less dropout, of runs at the rate on the same pretrained features.

    Where it has no interval, SGD has not converged and the difference says nothing.
    """
    runs = in_first_cell(config, network_runs(planned, "main"))
    curves = {(r.test_env, r.seed): records.get(run_name(r)) for r in runs if r.drop_rate == 0}
    found = {}
    for run in runs:
        record = curves.get((run.test_env, run.seed))
        if record is not None:
            v = record.values
            kept = (v["metric"] == difference_of(LOSS)) & (v["split"] == "ood")
            kept &= (v["env"] == ALL) & (v["layer"] == FEATURES) & v["low"].notna()
            at_rate = v.loc[kept & (v["at"] == run.drop_rate), "value"]
            found |= {run_name(run): value for value in at_rate}
    return found


def _trajectories(runs: pd.DataFrame, records: Mapping[str, Record]) -> Iterator[Row]:
    """Ensemble and average along every run, as runs beside its last step."""
    last = _last_steps(runs)
    methods = {
        "ensemble_trajectory": trajectory.ENSEMBLE,
        "average_trajectory": trajectory.AVERAGE,
    }
    for name, record in records.items():
        size = len(record.provenance["checkpoints"])
        for method, metric in methods.items():
            own = {"run": f"{name}-{method}", "method": method, "ensemble_size": size}
            yield last[name] | own | {s: _mean(record, metric, s) for s in ACCURACIES}


def _finals(runs: pd.DataFrame, records: Mapping[str, Record]) -> Iterator[Row]:
    """Models over all runs, or some, of an environment and rate."""
    last = _last_steps(runs)
    of_all = {"cell": "all", "lr": np.nan, "weight_decay": np.nan}
    for record in records.values():
        base = last[runs_of(record)[0]] | of_all
        places = record.values[["run", "metric", "seed", "at"]].drop_duplicates()
        for run, method, draw, size in places.itertuples(index=False):
            own = {"run": f"{run}-n{size:g}-d{draw}", "method": method, "seed": draw}
            own["ensemble_size"] = int(size)
            some = {"at": size, "seed": draw}
            yield base | own | {s: _mean(record, method, s, **some) for s in ACCURACIES}


def _mean(record: Record, metric: str, split: str, **others: object) -> float:
    """Environments count alike, as in the accuracy of a run."""
    kept = record.values
    for name, value in {"metric": metric, "split": split, **others}.items():
        kept = kept[kept[name] == value]
    return statistics.fmean(kept["value"])


def _last_steps(runs: pd.DataFrame) -> dict[str, Row]:
    """The last step of every run, by its name; it was timed, and what is made of it was not."""
    last = runs[runs["selection"] == "final"].assign(seconds=np.nan)
    return {row["run"]: row for row in last.to_dict("records")}
