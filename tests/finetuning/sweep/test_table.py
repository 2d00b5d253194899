"""Tests for finetuning/sweep/table.py: the index of a folder of runs, and their accuracies."""

import shutil
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
from finetuning.sweep.table import FRAME, INDEX, check_tables, write_frame, write_index
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


def foreign_frame() -> pd.DataFrame:
    row = {"run": "ink-main-c0", "dataset": "digits", "method": "erm", "drop_rate": 0.0}
    return pd.DataFrame([row | {"env": "ink", "cell": "a", "seed": 0, "iid": 0.9, "ood": 0.5}])


HEADER = b"run,command,status,seconds,failure\n"
OTHERS = {
    "another table": (INDEX, b"run,seed\nmine,0\n", "is no index of a sweep's runs"),
    "other runs": (INDEX, HEADER + b"mine,train,finished,,\n", "is no index of a sweep's runs"),
    "no table": (INDEX, b"", "cannot be read as an index of runs"),
    "a picture": (FRAME, b"PNG", "cannot be read as a table"),
    "a study's": (FRAME, None, "holds runs that no sweep has named"),
}


@pytest.mark.parametrize("name, found, message", OTHERS.values(), ids=list(OTHERS))
def test_tables_of_others_are_refused_and_left(
    name: str, found: bytes | None, message: str, tmp_path: Path
) -> None:
    if found is None:
        foreign_frame().to_parquet(tmp_path / name)
    else:
        (tmp_path / name).write_bytes(found)
    before = (tmp_path / name).read_bytes()
    with pytest.raises(InputError, match=message):
        check_tables(tmp_path)
    assert (tmp_path / name).read_bytes() == before


def test_runs_whose_folders_were_removed_are_in_no_table(data: Path, tmp_path: Path) -> None:
    configs = grid(data, tmp_path, seed=[0, 1])
    write_index(configs, {o.folder: o for o in sweep(configs, tmp_path)}, tmp_path / INDEX)
    write_frame(tmp_path)
    check_tables(tmp_path)  # a sweep's own
    gone, kept = (Path(config.output) for config in configs)
    shutil.rmtree(gone)

    write_index(configs[1:], {}, tmp_path / INDEX)  # as a grid does that has the second alone
    write_frame(tmp_path)

    assert list(index(tmp_path).index) == [kept.name]
    assert set(read_runs(tmp_path / FRAME)["run"]) == {kept.name}


def test_a_fit_that_two_linear_models_share_is_there_once(data: Path, tmp_path: Path) -> None:
    options = {"data": str(data), "pretrained": "none", "test_env": "photo", "steps": 2}
    options |= {"device": "cpu", "cache": str(tmp_path / "cache"), "lr": 0.1}
    vary = {"weight_decay": [0.1, [0.1, 0.2]]}
    configs = configurations([Grid(command="linear", options=options, vary=vary)], tmp_path)
    write_index(configs, {o.folder: o for o in sweep(configs, tmp_path)}, tmp_path / INDEX)
    write_frame(tmp_path)

    runs = read_runs(tmp_path / FRAME).query("selection == 'best'")
    assert list(runs["weight_decay"]) == [0.1, 0.2]
    assert list(runs["run"]) == [Path(config.output).name for config in configs]
    assert list(runs["seconds"].isna()) == [False, True]  # of two fits, known as a whole


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
