"""Tests for scripts/study/probing.py: what a protocol asks of the probes is enough."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from analysis.dropout_ridge_verdict import CONVERGED
from finetuning.train import train
from scripts.study.config import StudyConfig
from scripts.study.plan import in_first_cell, network_runs, plan
from scripts.study.probing import RATE, probes


@pytest.mark.slow
def test_the_layers_that_smoke_trains_with_dropout_converge(tmp_path: Path) -> None:
    """Otherwise C17 would have no interval."""
    torch.set_default_dtype(torch.float32)  # as the command runs
    config = StudyConfig(output=str(tmp_path), cache=str(tmp_path / "cache"), device="cpu")
    planned = plan(config, ("photo",))
    (job, *_) = [job for job in probes(config, planned) if job.kind == RATE]
    (run, *_) = in_first_cell(config, network_runs(planned, "main"))
    assert job.checkpoints == (run.output,)
    train(replace(run, steps=1, checkpoint_every=None, average=()))  # only its start counts

    values = job.measure(*job.options).values.set_index("metric")["value"]
    assert 0 < values["squared_excess_loss"] < CONVERGED
    assert abs(values["squared_settling"]) < CONVERGED
