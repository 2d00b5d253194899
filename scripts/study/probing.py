"""Which records a study makes of its runs.

Single runs are probed at the weights with the best i.i.d. accuracy, whose accuracy it is that the
ledger compares; out of distribution, on the environment that the run held out.
"""

from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from finetuning.config import TrainConfig
from probes import linearity
from probes.feature_creation import measure as feature_creation
from probes.feature_creation.config import FeatureCreationConfig
from probes.linearity_config import LinearityConfig
from probes.rate_curve import measure as rate_curve
from probes.rate_curve.config import RateCurveConfig
from scripts.study import finals, richness, trajectory
from scripts.study.config import StudyConfig
from scripts.study.plan import ENDS, Planned, in_first_cell, network_runs
from scripts.study.richness import BriefRichnessConfig
from scripts.study_jobs import Job, folder_of

LINEARITY, RICHNESS, CREATION, RATE = "linearity", "richness", "creation", "rate_curve"
ALL_IMAGES = 2**31
ALPHAS = (0.25, 0.5, 0.75, 1.0)
LOSS, CURVE_REPEATS = "squared", 2  # the loss whose closed form is exact

Runs = Sequence[TrainConfig]


def trajectories(config: StudyConfig, planned: Sequence[Planned]) -> list[Job]:
    """Ensemble, average and barrier of every run that kept checkpoints."""
    kind = trajectory.PROBE
    return [
        Job(folder_of(config.output, kind, one.name), trajectory.measure, (run,), (run,))
        for one in planned
        if one.trajectory
        for run in [one.config.output]
    ]


def final_models(config: StudyConfig, planned: Sequence[Planned]) -> list[Job]:
    """Ensembles and averages over all runs of an environment and rate that have a trajectory."""
    kind = trajectory.PROBE
    kept = lambda run: folder_of(config.output, kind, run_name(run))
    having = [run for run in network_runs(planned, "main") if kept(run).exists()]
    jobs = []
    for (envs, rate), runs in _grouped(having, "test_env", "drop_rate"):
        folder = folder_of(config.output, finals.PROBE, f"{'+'.join(envs)}-r{rate:g}")
        folders = [kept(run) for run in runs]
        outputs = tuple(run.output for run in runs)
        jobs.append(Job(folder, finals.measure, (outputs, folders, config.scale.draws), outputs))
    return jobs


def probes(config: StudyConfig, planned: Sequence[Planned]) -> list[Job]:
    """Linearity, richness, feature creation and the rate curve."""
    main = network_runs(planned, "main")
    first = [run for run in in_first_cell(config, main) if run.drop_rate == 0]
    small = [run for run in network_runs(planned, "size") if run.drop_rate == 0]
    return [
        *_rates(config, first),
        *_creation(config, [*first, *small]),
        *_richness(config, [run for run in main if run.drop_rate in ENDS]),
        *_linearity(config, main),
    ]


def _linearity(config: StudyConfig, runs: Runs) -> Iterator[Job]:
    """R2 at the fine-tuned weights, and the gap of interpolations; the rest at its least."""
    for run in runs:
        folder = folder_of(config.output, LINEARITY, run_name(run))
        options = LinearityConfig(
            finetuned=(run.output,),
            twins=("none",),
            envs=run.test_env,
            detail_samples=1,
            alphas=ALPHAS,
            draws=1,
            kernel_samples=0,
            kernel_train=0,
            memory=config.memory,
            **_shared(config, folder, config.scale.samples or ALL_IMAGES),
        )
        yield Job(folder, linearity.measure, (options,), options.finetuned)


def _richness(config: StudyConfig, runs: Runs) -> Iterator[Job]:
    """Runs that differ in their seed alone, together."""
    keys = ("test_env", "lr", "weight_decay", "drop_rate")
    for _, group in _grouped(runs, *keys):
        folder = folder_of(config.output, RICHNESS, name_of_seeds(group[0]))
        options = BriefRichnessConfig(
            checkpoints=tuple(run.output for run in group),
            cache=config.cache,
            **_shared(config, folder, config.scale.rich_samples),
        )
        yield Job(folder, richness.measure, (options,), options.checkpoints)


def _creation(config: StudyConfig, runs: Runs) -> Iterator[Job]:
    for run in runs:
        folder = folder_of(config.output, CREATION, run_name(run))
        options = FeatureCreationConfig(
            checkpoints=(run.output,),
            permutations=config.scale.permutations,
            cache=config.cache,
            **_shared(config, folder, config.scale.samples),
        )
        yield Job(folder, feature_creation.measure, (options,), options.checkpoints)


def _rates(config: StudyConfig, runs: Runs) -> Iterator[Job]:
    """On the pretrained features of every environment and seed."""
    for run in runs:
        folder = folder_of(config.output, RATE, run_name(run))
        options = RateCurveConfig(
            checkpoints=(run.output,),
            rates=config.scale.curve_rates,
            losses=(LOSS,),
            steps=config.scale.curve_steps,
            repeats=CURVE_REPEATS,
            cache=config.cache,
            **_shared(config, folder, config.scale.samples),
        )
        yield Job(folder, rate_curve.measure, (options,), options.checkpoints)


def _shared(config: StudyConfig, folder: Path, samples: int) -> dict[str, Any]:
    """Options of every probe."""
    return {
        "output": str(folder),
        "weights": "best",
        "samples": samples,
        "device": config.device,
        "workers": config.workers,
    }


def _grouped(runs: Runs, *names: str) -> Iterator[tuple[tuple[Any, ...], list[TrainConfig]]]:
    """Runs that agree in these options, by their values."""
    key = lambda run: tuple(getattr(run, name) for name in names)
    yield from ((values, list(group)) for values, group in groupby(sorted(runs, key=key), key))


def run_name(run: TrainConfig) -> str:
    """What the folder of a run, and what is measured of it, is called."""
    return Path(run.output).name


def name_of_seeds(run: TrainConfig) -> str:
    """What is measured of a run and those that differ in their seed alone is called.

    Example:
        >>> name_of_seeds(TrainConfig(output="runs/study/runs/ink-main-c0-r0-s3", seed=3))
        'ink-main-c0-r0'
    """
    return run_name(run).removesuffix(f"-s{run.seed}")
