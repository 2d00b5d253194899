"""Tests for core/records.py."""

import json
import platform
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pandas.testing import assert_frame_equal

from core.errors import InputError
from core.records import (
    COLUMNS,
    PACKAGES,
    Metric,
    Record,
    check_new,
    collect,
    free_name,
    new_folder,
    provenance,
    tidy,
)


def a_record() -> Record:
    rows = [
        {"run": "erm", "metric": "accuracy", "value": 0.5, "at": 0.25},
        {"run": "b", "seed": 3},
    ]
    metrics = {"accuracy": Metric(title="accuracy", direction="higher", low=0, high=1)}
    return Record(
        probe="p",
        config={"seed": 1},
        values=tidy(rows),
        metrics=metrics,
        provenance=provenance(device="cpu"),
        arrays={"a|b": np.arange(3.0)},
    )


def written(folder: Path) -> Path:
    with new_folder(folder) as inside:
        a_record().write(inside)
    return folder


def test_round_trip(tmp_path: Path) -> None:
    record, read = a_record(), Record.read(written(tmp_path / "r"))

    assert_frame_equal(read.values, record.values)
    assert list(read.values.columns) == list(COLUMNS)
    assert read.metrics == record.metrics
    assert read.provenance["versions"]["torch"]
    np.testing.assert_array_equal(read.arrays["a|b"], record.arrays["a|b"])


def test_all_files_of_a_record_have_the_same_permissions(tmp_path: Path) -> None:
    files = list(written(tmp_path / "r").iterdir())

    assert len(files) == 3
    assert len({file.stat().st_mode for file in files}) == 1


def test_nothing_is_left_when_writing_fails(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), new_folder(tmp_path / "r") as inside:
        (inside / "half").write_text("half")
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_an_existing_folder_is_never_overwritten(tmp_path: Path) -> None:
    folder = written(tmp_path / "r")
    before = (folder / "record.json").read_bytes()
    with pytest.raises(InputError, match="already exists"), new_folder(folder):
        pass
    assert (folder / "record.json").read_bytes() == before


def test_below_a_file_nothing_can_be_created(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is a file"):
        check_new(tmp_path / "file" / "deep" / "r")


def test_another_schema_is_refused(tmp_path: Path) -> None:
    folder = written(tmp_path / "r")
    document = json.loads((folder / "record.json").read_text()) | {"schema_version": 99}
    (folder / "record.json").write_text(json.dumps(document))
    with pytest.raises(InputError, match="schema 99"):
        Record.read(folder)
    with pytest.raises(InputError, match=r"no record\.json"):
        Record.read(tmp_path)


def test_collect_keeps_the_order(tmp_path: Path) -> None:
    frame = collect([written(tmp_path / "1"), written(tmp_path / "2")])
    assert frame["run"].tolist() == ["erm", "b", "erm", "b"]


def test_unknown_columns_are_refused() -> None:
    with pytest.raises(ValueError, match="unknown columns"):
        tidy([{"colour": "red"}])


def test_free_names_are_numbered(tmp_path: Path) -> None:
    assert free_name(tmp_path / "r") == tmp_path / "r"
    (tmp_path / "r").mkdir()
    (tmp_path / "r-2").mkdir()
    assert free_name(tmp_path / "r") == tmp_path / "r-3"


def test_a_folder_that_appears_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="already exists"), new_folder(tmp_path / "r") as inside:
        (inside / "ours").write_text("ours")
        (tmp_path / "r").mkdir()
        (tmp_path / "r" / "theirs").write_text("theirs")

    assert [path.name for path in tmp_path.iterdir()] == ["r"]
    assert (tmp_path / "r" / "theirs").read_text() == "theirs"


def test_a_folder_appears_only_when_it_is_complete(tmp_path: Path) -> None:
    with new_folder(tmp_path / "deep" / "r") as inside:
        (inside / "file").write_text("x")
        assert not (tmp_path / "deep" / "r").exists()

    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["r"]
    assert (tmp_path / "deep" / "r" / "file").read_text() == "x"


def test_rows_become_the_declared_columns() -> None:
    frame = tidy([{"value": 1, "seed": 2, "env": "art"}, {"low": 0.5}])

    assert list(frame.columns) == list(COLUMNS)
    assert {name: str(dtype) for name, dtype in frame.dtypes.items()} == COLUMNS
    assert frame["seed"].isna().tolist() == [False, True]
    assert tidy([]).empty and list(tidy([]).columns) == list(COLUMNS)


def test_a_record_without_arrays_has_no_file_for_them(tmp_path: Path) -> None:
    record = replace(a_record(), arrays={})
    with new_folder(tmp_path / "r") as inside:
        record.write(inside)

    assert {path.name for path in (tmp_path / "r").iterdir()} == {"record.json", "values.parquet"}
    assert Record.read(tmp_path / "r").arrays == {}


def test_the_provenance_names_versions_commit_and_facts() -> None:
    found = provenance(device="cpu", seconds=1.5)

    assert found["versions"]["numpy"] == np.__version__
    assert set(found["versions"]) == set(PACKAGES)
    assert found["python"] == platform.python_version()
    assert "commit" in found
    assert (found["device"], found["seconds"]) == ("cpu", 1.5)
    assert json.loads(json.dumps(found)) == found
