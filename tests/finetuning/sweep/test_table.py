"""Tests for finetuning/sweep/table.py: the index of a folder of runs, and their accuracies."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pytest

from analysis.runs import read_runs
from core.errors import InputError
from finetuning.sweep.grid import Grid, configurations
from finetuning.sweep.names import RunConfig
from finetuning.sweep.running import ELSEWHERE, Outcome
from finetuning.sweep.schedule import sweep
from finetuning.sweep.table import FRAME, INDEX, write_frame, write_index
from tests.finetuning.tiny import tiny_config


def grid(data: Path, root: Path, **vary: Sequence[object]) -> list[RunConfig]:
    tiny = vars(tiny_config(data, root))
    names = ("test_env", "pretrained", "steps", "eval_every", "batch_size", "lr", "device", "data")
    options = {name: tiny[name] for name in names if name not in vary}
    return configurations([Grid(options=options, vary=vary)], root)


def index(root: Path) -> pd.DataFrame:
    return pd.read_csv(root / INDEX, dtype=str, keep_default_na=False).set_index("run")


def test_the_index_says_how_every_run_stands(data: Path, tmp_path: Path) -> None:
    configs = grid(data, tmp_path, seed=[0, 1, 2, 3])
    done, failed, elsewhere, waiting = (Path(config.output) for config in configs)
    outcomes = {outcome.folder: outcome for outcome in sweep(configs[:1], tmp_path)}
    outcomes[failed] = Outcome(failed, 1.0, "out of luck")
    outcomes[elsewhere] = Outcome(elsewhere, 0.0, ELSEWHERE)

    write_index(configs, outcomes, tmp_path / INDEX)

    found = index(tmp_path)
    names = [path.name for path in (done, failed, elsewhere, waiting)]
    assert list(found.index) == names
    assert list(found["status"]) == ["finished", "failed", "elsewhere", "waiting"]
    assert list(found["failure"]) == ["", "out of luck", "", ""]
    assert float(found.loc[done.name, "seconds"]) == pytest.approx(outcomes[done].seconds, abs=0.1)
    assert list(found["seed"]) == ["0", "1", "2", "3"]
    assert set(found["test_env"]) == {"photo"} and set(found["weight_decay"]) == {"0.0001"}

    write_index(configs, {}, tmp_path / INDEX)  # as a later process that does nothing
    assert list(index(tmp_path)["status"]) == ["finished", "failed", "waiting", "waiting"]
    assert index(tmp_path).loc[done.name, "seconds"] == found.loc[done.name, "seconds"]


def test_runs_of_another_grid_stay_in_the_index(data: Path, tmp_path: Path) -> None:
    first, second = grid(data, tmp_path, seed=[0, 1]), grid(data, tmp_path, seed=[1, 2])
    write_index(first, {}, tmp_path / INDEX)
    write_index(second, {}, tmp_path / INDEX)
    assert list(index(tmp_path)["seed"]) == ["0", "1", "2"]


def test_a_damaged_index_is_refused(data: Path, tmp_path: Path) -> None:
    (tmp_path / INDEX).write_text("seed,status\n0,waiting\n")
    with pytest.raises(InputError, match="cannot be read as an index of runs"):
        write_index(grid(data, tmp_path, seed=[0]), {}, tmp_path / INDEX)


def test_cells_of_the_frame_are_told_apart_by_whatever_varies(data: Path, tmp_path: Path) -> None:
    configs = grid(data, tmp_path, batch_size=[2, 3], seed=[0])
    write_index(configs, {o.folder: o for o in sweep(configs, tmp_path)}, tmp_path / INDEX)
    write_frame(tmp_path)

    runs = read_runs(tmp_path / FRAME).query("selection == 'final'")
    assert list(runs["cell"]) == [
        "lr 0.01, decay 0.0001, batch_size 2",
        "lr 0.01, decay 0.0001, batch_size 3",
    ]
    assert list(runs["run"]) == [Path(config.output).name for config in configs]
    assert (runs["seconds"] > 0).all()


def test_runs_without_an_environment_held_out_are_not_in_the_frame(
    data: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    configs = grid(data, tmp_path, test_env=["none"])
    write_index(configs, {o.folder: o for o in sweep(configs, tmp_path)}, tmp_path / INDEX)
    with caplog.at_level("INFO"):
        write_frame(tmp_path)
    assert "1 runs held no environment out" in caplog.text
    assert not (tmp_path / FRAME).exists()
