"""Tests for finetuning/sweep/backends.py: processes that die, and how many threads compute."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import joblib
import pytest

from core.errors import InputError
from finetuning.sweep.backends import Joblib
from finetuning.sweep.names import RunConfig
from finetuning.sweep.running import LOCKS, Outcome
from finetuning.sweep.schedule import sweep
from tests.finetuning.tiny import tiny_config

ROOT = Path(__file__).parents[3]
CLOCK = os.sysconf("SC_CLK_TCK")


def test_threads_are_refused(data: Path, tmp_path: Path) -> None:
    with joblib.parallel_config("threading", n_jobs=2):
        with pytest.raises(InputError, match="shares a process between runs"):
            sweep([tiny_config(data, tmp_path / "run")], tmp_path)


def test_no_more_processes_than_cores() -> None:
    with joblib.parallel_config("loky", n_jobs=10 * joblib.cpu_count()):
        assert Joblib().jobs == joblib.cpu_count()
    with joblib.parallel_config("loky", n_jobs=1):
        assert Joblib().jobs == 1


@pytest.mark.slow
def test_a_process_that_dies_takes_no_other_run_with_it(data: Path, tmp_path: Path) -> None:
    configs = [tiny_config(data, tmp_path / f"{seed}", seed=seed) for seed in range(5)]
    fatal = tiny_config(data, tmp_path / "fatal", seed=9)
    (tmp_path / LOCKS).mkdir()
    with joblib.parallel_config("loky", n_jobs=2):
        outcomes = list(Deadly().outcomes([configs[0], fatal, *configs[1:]], tmp_path))

    by_name = {outcome.folder.name: outcome for outcome in outcomes}
    assert len(outcomes) == len(by_name) == 6
    assert "its process died twice" in by_name.pop("fatal").failure
    assert "SIGKILL" in next(o.failure for o in outcomes if o.failure)
    assert not any(outcome.failure for outcome in by_name.values())
    assert all((outcome.folder / "final.safetensors").is_file() for outcome in by_name.values())
