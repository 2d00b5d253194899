"""Tests for `python -m finetuning.sweep`: from a grid to tables, wrong input, and kills."""

import os
import random
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path

import pandas as pd
import pytest

from analysis.runs import read_runs
from core.command_line import run
from finetuning.sweep import clusters
from finetuning.sweep.__main__ import _command
from finetuning.sweep.backends import Here
from finetuning.sweep.config import SweepConfig
from finetuning.sweep.table import FRAME, INDEX
from finetuning.train import train
from tests.finetuning.tiny import assert_same_runs, tiny_config

ROOT = Path(__file__).parents[3]


def write_grid(path: Path, data: Path, vary: str, **options: object) -> Path:
    own = {"data": data, "pretrained": "none", "steps": 6, "eval_every": 2, "batch_size": 2}
    own |= {"test_env": "photo", "lr": 0.01, "device": "cpu"} | options
    shared = ", ".join(f"{n}: {value}" for n, value in own.items() if f"{n}:" not in vary)
    path.write_text(f"options: {{{shared}}}\nvary: {{{vary}}}\n")
    return path


def command(*words: object, monkeypatch: pytest.MonkeyPatch) -> int:
    """Runs the command and its runs in this process, and returns its exit status."""
    monkeypatch.setattr(clusters, "Processes", lambda jobs: nullcontext(Here()))
    monkeypatch.setattr(sys, "argv", ["sweep", "--jobs", "1", *map(str, words)])
    try:
        run(_command, SweepConfig)
    except SystemExit as exit_:
        assert isinstance(exit_.code, int)
        return exit_.code
    return 0


def test_a_grid_becomes_folders_and_tables(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grid = write_grid(tmp_path / "grid.yaml", data, "drop_rate: [0, 0.5], seed: [3]")
    root = tmp_path / "runs"
    assert command("--grid", grid, "--output", root, monkeypatch=monkeypatch) == 0

    index = pd.read_csv(root / INDEX)
    assert list(index["status"]) == ["finished"] * 2 and list(index["drop_rate"]) == [0.0, 0.5]
    runs = read_runs(root / FRAME)
    assert list(runs["method"]) == ["erm", "erm", "dropout", "dropout"]
    assert list(runs["run"].unique()) == list(index["run"])
    train(tiny_config(data, tmp_path / "alone", drop_rate=0.5, seed=3))
    assert_same_runs(tmp_path / "alone", root / index["run"][1])

    before = (root / INDEX).read_bytes()
    assert command("--grid", grid, "--output", root, monkeypatch=monkeypatch) == 0
    assert (root / INDEX).read_bytes() == before


def test_a_failed_run_is_told_at_the_end(
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    grid = write_grid(tmp_path / "grid.yaml", data, "test_env: [moon, art]")
    root = tmp_path / "runs"
    assert command("--grid", grid, "--output", root, monkeypatch=monkeypatch) == 1

    index = pd.read_csv(root / INDEX)
    assert list(index["status"]) == ["failed", "finished"]
    assert "'moon' is not in" in index["failure"][0]
    assert "'moon' is not in" in caplog.text
    assert list(read_runs(root / FRAME)["env"]) == ["art"] * 2


def test_a_dry_run_lists_the_runs_and_writes_nothing(
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    grid = write_grid(tmp_path / "grid.yaml", data, "drop_rate: [0, 0.5]")
    words = ("--grid", grid, "--output", tmp_path / "runs", "--dry_run")
    assert command(*words, monkeypatch=monkeypatch) == 0
    first, second, total = capsys.readouterr().out.splitlines()
    assert first.endswith(" waiting train drop_rate=0.0")
    assert second.endswith(" waiting train drop_rate=0.5")
    assert total == "2 runs"
    assert not (tmp_path / "runs").exists()


WRONG = {
    "grid": (["--grid", "nowhere.yaml"], "'nowhere.yaml' cannot be read as YAML"),
    "jobs": (["--jobs", "-1"], "--jobs is -1; at least 0 was expected"),
    "scheduler": (["--scheduler", "a:1"], "--scheduler was given with --backend loky"),
    "both": (["--scheduler", "a:1", "--backend", "dask"], "--scheduler and --jobs were both"),
    "slurm": (["--slurm", "{timeout_min: 5}"], "--slurm was given with --backend loky"),
    "output": (["--output", __file__], "is a file; choose another --output"),
}


@pytest.mark.parametrize("words, expected", WRONG.values(), ids=list(WRONG))
def test_wrong_input_ends_with_one_sentence_before_any_run(
    words: list[str],
    expected: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert command(*words, monkeypatch=monkeypatch) == 2
    error = capsys.readouterr().err
    assert error.count("error: ") == 1 and expected in error
    assert not list(tmp_path.iterdir())


def start(grid: Path, root: Path, jobs: int) -> subprocess.Popen:
    words = ["--grid", str(grid), "--output", str(root), "--jobs", str(jobs)]
    return subprocess.Popen(
        [sys.executable, "-m", "finetuning.sweep", *words],
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"},
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


@pytest.mark.slow
def test_two_sweeps_on_one_folder_share_the_runs(data: Path, tmp_path: Path) -> None:
    grid = write_grid(tmp_path / "grid.yaml", data, "seed: [0, 1, 2, 3, 4, 5]", steps=40)
    root = tmp_path / "runs"
    with start(grid, root, 1) as first, start(grid, root, 1) as second:
        said = [process.communicate(timeout=300)[1] for process in (first, second)]
    assert first.returncode == second.returncode == 0, said

    index = pd.read_csv(root / INDEX)
    assert list(index["status"]) == ["finished"] * 6
    # Nobody found a run that another had begun, and nobody began one again.
    begun = [line for text in said for line in text.splitlines() if "resuming" in line]
    assert not begun, said


def num_evaluations(root: Path) -> int:
    return sum(path.read_text().count("\n") for path in root.glob("*/metrics.jsonl"))


@pytest.mark.slow
def test_kills_at_any_moment_lose_at_most_the_runs_in_flight(data: Path, tmp_path: Path) -> None:
    options = {"steps": 60, "eval_every": 3}
    grid = write_grid(tmp_path / "grid.yaml", data, "seed: [0, 1, 2, 3]", **options)
    root, draws = tmp_path / "runs", random.Random(0)
    for _ in range(10):
        finished = {path: path.stat().st_mtime_ns for path in root.glob("*/final.safetensors")}
        until = num_evaluations(root) + draws.randint(0, 5)
        process = start(grid, root, jobs=2)
        time.sleep(draws.uniform(0, 2))
        while process.poll() is None and num_evaluations(root) < until:
            time.sleep(draws.uniform(0, 0.1))
        assert process.poll() is None, process.communicate()[1]
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        assert {path: path.stat().st_mtime_ns for path in finished} == finished
        assert num_evaluations(root) >= until
    last = start(grid, root, jobs=2)
    said = last.communicate(timeout=600)[1]
    assert last.returncode == 0, said

    index = pd.read_csv(root / INDEX)
    assert list(index["status"]) == ["finished"] * 4
    for seed, name in enumerate(index["run"]):
        train(tiny_config(data, tmp_path / "whole" / name, seed=seed, **options))
        assert_same_runs(tmp_path / "whole" / name, root / name)
