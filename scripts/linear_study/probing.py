"""The probes of the study: linearity of every group of runs, feature creation, the rate curve."""

from collections.abc import Sequence

from core.errors import InputError
from core.records import Record
from finetuning.sweep import Backend
from probes import linearity
from probes.feature_creation import measure as feature_creation
from probes.feature_creation.config import FeatureCreationConfig
from probes.linearity_config import LinearityConfig
from probes.rate_curve import measure as rate_curve
from probes.rate_curve.config import RateCurveConfig
from scripts.linear_study.config import LinearStudyConfig
from scripts.linear_study.plan import GRID, Trained
from scripts.study_jobs import Job, folder_of, made

ALL_IMAGES = 2**31
# Of the rate curve: random tangent features of each output, dropout rates, runs of SGD.
TANGENT, RATES, REPEATS = 32, (0.0, 0.5, 0.9, 0.99), 2

LINEARITY, CREATION, CREATION_GRID, RATE = "linearity", "creation", "creation-grid", "rate_curve"


def probe_all(
    config: LinearStudyConfig, trained: Sequence[Trained], backend: Backend
) -> dict[str, Record]:
    """Every record by its name, measured now, by several processes, or by an earlier call.

    The records of linearity have the names of the groups of runs.

    Raises:
        InputError: If one cannot be made.
    """
    compared = [one.run.output for one in trained if _is_plain(config, one)]
    in_grid = [one.run.output for one in trained if one.group == GRID]
    # Those that take long come first, so that none is left alone at the end.
    jobs = {RATE: _rate(config, compared[0]), CREATION: _creation(config, CREATION, compared)}
    if in_grid:
        jobs[CREATION_GRID] = _creation(config, CREATION_GRID, in_grid)
    groups = dict.fromkeys(one.group for one in trained)
    jobs |= {group: _linearity(config, trained, group) for group in groups}
    for name, reason in made(list(jobs.values()), backend).items():
        raise InputError(f"a measurement of the study failed: {name}: {reason}")
    return {name: Record.read(job.folder) for name, job in jobs.items()}


def _is_plain(config: LinearStudyConfig, one: Trained) -> bool:
    return one.group != GRID and one.run.drop_rate == min(config.drop_rates)


def _creation(config: LinearStudyConfig, name: str, runs: Sequence[str]) -> Job:
    folder = folder_of(config.output, CREATION, name)
    options = FeatureCreationConfig(
        checkpoints=tuple(runs),
        output=str(folder),
        samples=config.samples,
        cache=config.cache,
        device=config.device,
        workers=config.workers,
    )
    return Job(folder, feature_creation.measure, (options,), options.checkpoints)


def _rate(config: LinearStudyConfig, run: str) -> Job:
    """On Phi of the pretrained network, adapted by model (1), and on its tangent features."""
    folder = folder_of(config.output, RATE, RATE)
    options = RateCurveConfig(
        checkpoints=(run,),
        adapted=f"{run}-linear",
        tangent=TANGENT,
        rates=RATES,
        repeats=REPEATS,
        output=str(folder),
        samples=config.samples,
        cache=config.cache,
        device=config.device,
        workers=config.workers,
    )
    return Job(folder, rate_curve.measure, (options,), options.checkpoints)


def _linearity(config: LinearStudyConfig, trained: Sequence[Trained], group: str) -> Job:
    """R2 at the fine-tuned weights and the training space; the rest of the probe at its least."""
    members = [one for one in trained if one.group == group]
    twins = [twin.output for one in members for twin in one.twins]
    folder = folder_of(config.output, LINEARITY, group.replace(" ", "-"))
    options = LinearityConfig(
        finetuned=tuple(one.run.output for one in members),
        twins=tuple(twins) or ("none",),
        output=str(folder),
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
    return Job(folder, linearity.measure, (options,), options.finetuned)
