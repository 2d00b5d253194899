"""Tests for analysis/runs.py."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from analysis.runs import COLUMNS, check_runs, has_measure, measures, read_runs
from core.errors import InputError
from tests.analysis.study_data import accuracies, grid


def study() -> pd.DataFrame:
    return accuracies(grid(cells=("a", "b")), ood=0.5)


def test_columns_that_are_left_out_have_their_defaults() -> None:
    runs = check_runs(study())
    assert set(COLUMNS) <= set(runs.columns)
    row = runs.iloc[3]
    assert (row["noise"], row["head_lr_factor"], row["selection"]) == ("dropout", 1.0, "final")
    assert (row["placement"], row["ensemble_size"]) == ("head", 1)
    assert pd.isna(row["steps"]) and not row["from_scratch"]
    assert runs["run"].tolist() == [str(number) for number in range(len(runs))]


def test_names_of_runs_are_kept_and_rows_numbered() -> None:
    frame = study().assign(run="folder").sample(frac=1, random_state=0)
    runs = check_runs(frame)
    assert set(runs["run"]) == {"folder"} and runs.index.tolist() == list(range(len(runs)))


def test_missing_entries_of_an_optional_column_have_its_default() -> None:
    frame = study().assign(head_lr_factor=10.0)
    frame.loc[2, "head_lr_factor"] = float("nan")
    assert check_runs(frame)["head_lr_factor"].tolist()[:4] == [10.0, 10.0, 1.0, 10.0]


Change = Callable[[pd.DataFrame], pd.DataFrame]
WRONG: list[tuple[Change, str]] = [
    (lambda f: f.iloc[:0], "the runs hold no rows; one row an evaluated model"),
    (lambda f: f.drop(columns=["env", "iid"]), "the runs hold no column env, iid; one row"),
    (lambda f: f.assign(ood=f["ood"] * 100), "has ood 50.*divide percentages by 100"),
    (lambda f: f.assign(seed=0.5), "column seed of the runs holds 0.5; seed of the fine-tuning"),
    (lambda f: f.assign(drop_rate="much"), "column drop_rate of the runs holds 'much'; rate of"),
    (lambda f: f.assign(iid=float("nan")), "row 0 of the runs has no iid;.*runs that failed"),
    (lambda f: f.assign(seed=float("inf")), "column seed of the runs holds inf; seed of the"),
    (lambda f: f.assign(seconds=0.0), "row 0 of the runs has seconds 0; a wall time above 0"),
    (
        lambda f: f.assign(nc1=[0.5, "n/a", *[None] * (len(f) - 2)]),
        "column nc1 of the runs holds 'n/a' beside numbers; a number or nothing was expected",
    ),
    (lambda f: pd.concat([f, f.iloc[:1]]), "row 16 of the runs repeats an earlier run \\(method"),
]


@pytest.mark.parametrize(("change", "message"), WRONG)
def test_what_is_no_runs_frame_is_refused(change: Change, message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_runs(change(study()))


@pytest.mark.parametrize("name", ["runs.parquet", "runs.jsonl"])
def test_a_frame_comes_back_exactly(name: str, tmp_path: Path) -> None:
    runs = check_runs(study())
    if name.endswith("parquet"):
        runs.to_parquet(tmp_path / name)
    else:
        runs.to_json(tmp_path / name, orient="records", lines=True, double_precision=15)
    for path in (tmp_path, tmp_path / name):
        pd.testing.assert_frame_equal(read_runs(path), runs, rtol=1e-14)


@pytest.mark.parametrize("name", ["runs.parquet", "runs.jsonl"])
def test_a_damaged_file_is_said(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"PAR1 no table at all")
    with pytest.raises(InputError, match=f"{name}' cannot be read as a table .*write the runs"):
        read_runs(tmp_path)


def test_a_folder_without_runs_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no runs.parquet or runs.jsonl; a runs frame"):
        read_runs(tmp_path)


def test_measures_are_the_numbers_beyond_the_declared_columns() -> None:
    runs = check_runs(study().assign(nc1=0.5, note="x", done=True, barrier=float("nan")))
    assert measures(runs) == ["nc1", "barrier"]
    assert has_measure(runs, "nc1") and not has_measure(runs, "nc1", "barrier")
    assert not has_measure(runs, "absent")


def test_numbers_among_missing_entries_are_a_measure_and_text_is_none() -> None:
    some = pd.Series([0.5, None, pd.NA] + [1] * 13, dtype=object)
    runs = check_runs(study().assign(nc1=some, cdnv="n/a", seconds=[1.0] + [None] * 15))
    assert runs["nc1"].dtype == "float64" and runs["nc1"].isna().tolist()[:4] == [0, 1, 1, 0]
    assert measures(runs) == ["nc1"] and not has_measure(runs, "cdnv")
    assert runs["cdnv"].tolist() == ["n/a"] * 16 and has_measure(runs, "seconds")
