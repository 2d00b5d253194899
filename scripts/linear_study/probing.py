"""The probes of the study: one record of linearity for every group of runs."""

import logging
from collections.abc import Sequence
from pathlib import Path

import joblib
import torch

from core.records import Record, new_folder
from probes.linearity import measure
from probes.linearity_config import LinearityConfig
from probes.partial import PartialResults
from scripts.linear_study.config import LinearStudyConfig
from scripts.linear_study.plan import GRID, Trained

ALL_IMAGES = 2**31

log = logging.getLogger(__name__)


def linearity_records(config: LinearStudyConfig, trained: Sequence[Trained]) -> dict[str, Record]:
    """The record of every group, measured now, by several processes, or by an earlier call."""
    groups = dict.fromkeys(one.group for one in trained)
    options = [
        _options(config, group, [t for t in trained if t.group == group]) for group in groups
    ]
    jobs = joblib.effective_n_jobs(joblib.Parallel().n_jobs)
    joblib.Parallel()(joblib.delayed(_measured)(one, jobs) for one in options)
    return {group: Record.read(str(o.output)) for group, o in zip(groups, options, strict=True)}


def _options(config: LinearStudyConfig, group: str, trained: Sequence[Trained]) -> LinearityConfig:
    """R2 at the fine-tuned weights and the training space; the rest of the probe at its least."""
    twins = [twin.output for one in trained for twin in one.twins]
    return LinearityConfig(
        finetuned=tuple(one.run.output for one in trained),
        twins=tuple(twins) or ("none",),
        output=str(Path(config.output) / "linearity" / group),
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


def _measured(options: LinearityConfig, jobs: int) -> None:
    output = Path(str(options.output))
    if output.exists():
        return
    if jobs > 1:  # a process of its own
        torch.set_num_threads(max(1, joblib.cpu_count() // jobs))
    record = measure(options)
    with new_folder(output) as folder:
        record.write(folder)
    PartialResults.beside(output).remove()
