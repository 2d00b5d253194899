"""The probes of the study: linearity of every group of runs, feature creation, the rate curve."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import joblib
import torch

from core.records import Record, new_folder
from probes import linearity
from probes.feature_creation import measure as feature_creation
from probes.feature_creation.config import FeatureCreationConfig
from probes.linearity_config import LinearityConfig
from probes.options import RecordOptions
from probes.partial import PartialResults
from probes.rate_curve import measure as rate_curve
from probes.rate_curve.config import RateCurveConfig
from scripts.linear_study.config import LinearStudyConfig
from scripts.linear_study.plan import GRID, Trained

ALL_IMAGES = 2**31
# Of the rate curve: random tangent features of each output, dropout rates.
TANGENT, RATES = 32, (0.0, 0.5, 0.9, 0.99)

CREATION, CREATION_GRID, RATE = "creation", "creation-grid", "rate_curve"

Measure = Callable[[Any], Record]


def probe_all(config: LinearStudyConfig, trained: Sequence[Trained]) -> dict[str, Record]:
    """Every record by its name, measured now, by several processes, or by an earlier call.

    The records of linearity have the names of the groups of runs.
    """
    compared = [one.run.output for one in trained if _is_plain(config, one)]
    in_grid = [one.run.output for one in trained if one.group == GRID]
    jobs: dict[str, tuple[Measure, RecordOptions]] = {
        group: (linearity.measure, _linearity(config, trained, group))
        for group in dict.fromkeys(one.group for one in trained)
    }
    jobs[CREATION] = (feature_creation.measure, _creation(config, CREATION, compared))
    if in_grid:
        jobs[CREATION_GRID] = (feature_creation.measure, _creation(config, CREATION_GRID, in_grid))
    jobs[RATE] = (rate_curve.measure, _rate(config, compared[0]))
    num = joblib.effective_n_jobs(joblib.Parallel().n_jobs)
    joblib.Parallel()(
        joblib.delayed(_measured)(options, num, measure) for measure, options in jobs.values()
    )
    return {name: Record.read(str(options.output)) for name, (_, options) in jobs.items()}


def _is_plain(config: LinearStudyConfig, one: Trained) -> bool:
    return one.group != GRID and one.run.drop_rate == min(config.drop_rates)


def _creation(config: LinearStudyConfig, name: str, runs: Sequence[str]) -> FeatureCreationConfig:
    return FeatureCreationConfig(
        checkpoints=tuple(runs),
        output=str(Path(config.output) / "records" / name),
        samples=config.samples,
        cache=config.cache,
        device=config.device,
        workers=config.workers,
    )


def _rate(config: LinearStudyConfig, run: str) -> RateCurveConfig:
    """On Phi of the pretrained network, adapted by model (1), and on its tangent features."""
    return RateCurveConfig(
        checkpoints=(run,),
        adapted=f"{run}-linear",
        tangent=TANGENT,
        rates=RATES,
        output=str(Path(config.output) / "records" / RATE),
        samples=config.samples,
        cache=config.cache,
        device=config.device,
        workers=config.workers,
    )


def _linearity(
    config: LinearStudyConfig, trained: Sequence[Trained], group: str
) -> LinearityConfig:
    """R2 at the fine-tuned weights and the training space; the rest of the probe at its least."""
    members = [one for one in trained if one.group == group]
    twins = [twin.output for one in members for twin in one.twins]
    return LinearityConfig(
        finetuned=tuple(one.run.output for one in members),
        twins=tuple(twins) or ("none",),
        output=str(Path(config.output) / "linearity" / group.replace(" ", "-")),
        samples=config.samples or ALL_IMAGES,
        detail_samples=8,
        alphas=(1.0,),
        draws=1,
        kernel_samples=0,
        kernel_train=0 if group == GRID else config.kernel_train,
        memory=config.memory,
        device=config.device,
        workers=config.workers,
    )


def _measured(options: RecordOptions, jobs: int, measure: Measure = linearity.measure) -> None:
    output = Path(str(options.output))
    if output.exists():
        return
    if jobs > 1:  # a process of its own
        torch.set_num_threads(max(1, joblib.cpu_count() // jobs))
    record = measure(options)
    with new_folder(output) as folder:
        record.write(folder)
    PartialResults.beside(output).remove()
