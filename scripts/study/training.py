"""The runs of a study, environment by environment, and what is measured along them."""

import logging
from collections.abc import Sequence
from pathlib import Path

from core.errors import InputError
from finetuning.sweep import Backend, Outcome, RunConfig, is_finished, sweep
from finetuning.sweep.forecast import Forecast
from finetuning.sweep.running import ELSEWHERE, wait_for_one
from scripts.study.config import StudyConfig
from scripts.study.plan import Planned, by_environment, timed_pairs
from scripts.study.probing import trajectories
from scripts.study.timing import timed_alone
from scripts.study.trajectory import remove_checkpoints
from scripts.study_jobs import made

log = logging.getLogger(__name__)


def trained(
    config: StudyConfig, planned: Sequence[Planned], backend: Backend
) -> tuple[list[Planned], dict[str, str]]:
    """All runs, and what is measured along them; those that are finished, and why others fail."""
    output = Path(config.output)
    waiting = [one.config for one in planned if not is_finished(one.config)]
    forecast = Forecast(waiting, backend.jobs)
    outcomes = timed_alone(timed_pairs(config, planned), output, backend, forecast)
    along: dict[str, str] = {}
    for group in by_environment(planned):  # whose checkpoints go before the next one's come
        swept = all_swept([one.config for one in group], output, backend, forecast)
        unfinished = {str(outcome.folder) for outcome in swept if outcome.failure}
        finished = [one for one in group if one.config.output not in unfinished]
        along |= along_runs(config, finished, backend)
        outcomes += swept
    finished, failed = sorted_out(planned, outcomes)
    return finished, failed | along


def all_swept(
    configs: Sequence[RunConfig], root: Path, backend: Backend, forecast: Forecast
) -> list[Outcome]:
    """One outcome a run; those that the last processes of a killed study are at are waited for."""
    outcomes = sweep(configs, root, backend, forecast=forecast)
    elsewhere = {outcome.folder for outcome in outcomes if outcome.failure == ELSEWHERE}
    if not elsewhere:
        return outcomes
    left = [config for config in configs if Path(config.output) in elsewhere]
    log.info("waiting for %d runs that processes of an earlier call are at", len(left))
    wait_for_one(left, root)
    ended = {outcome.folder: outcome for outcome in all_swept(left, root, backend, forecast)}
    return [ended.get(outcome.folder, outcome) for outcome in outcomes]


def along_runs(
    config: StudyConfig, finished: Sequence[Planned], backend: Backend
) -> dict[str, str]:
    """What checkpoints along a run are together, and why that is missing of some.

    The checkpoints go once they are measured: they are most of a study's bytes.
    """
    jobs = trajectories(config, finished)
    failed = made(jobs, backend)
    if not config.keep_checkpoints:
        measured = [job for job in jobs if job.name not in failed]
        removed = sum(remove_checkpoints(Path(run)) for job in measured for run in job.checkpoints)
        if removed:
            log.info("%d checkpoints along runs are measured and removed", removed)
    return failed


def sorted_out(
    planned: Sequence[Planned], outcomes: Sequence[Outcome]
) -> tuple[list[Planned], dict[str, str]]:
    """The runs that are finished, and why the others are not; the last outcome of each counts.

    Raises:
        InputError: If none is.
    """
    last = {str(outcome.folder): outcome.failure for outcome in outcomes}
    failed = {folder: failure for folder, failure in last.items() if failure}
    finished = [one for one in planned if one.config.output not in failed]
    if not finished:
        raise InputError(f"every run of the study failed, such as: {next(iter(failed.values()))}")
    for folder, reason in failed.items():
        log.warning("'%s' has failed: %s", folder, reason)
    return finished, {Path(folder).name: reason for folder, reason in failed.items()}
