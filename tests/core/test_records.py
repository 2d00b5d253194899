"""Tests for core/records.py."""

import json
import platform
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pandas.testing import assert_frame_equal

from core.errors import InputError
from core.records import (
    COLUMNS,
    PACKAGES,
    Metric,
    Record,
    collect,
    new_folder,
    provenance,
    tidy,
)

KEYS = ("schema_version", "probe", "config", "metrics", "provenance")


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


DOCUMENT = {
    "truncated": lambda d: json.dumps(d)[:50],
    "empty": lambda _: "",
    "a list": lambda _: "[1]",
    **{f"no {k}": lambda d, k=k: json.dumps({n: v for n, v in d.items() if n != k}) for k in KEYS},
    **{f"{k} 5.5": lambda d, k=k: json.dumps(d | {k: 5.5}) for k in KEYS},
    "metric": lambda d: json.dumps(d | {"metrics": {"a": {"colour": "red"}}}),
}


@pytest.mark.parametrize("damage", DOCUMENT)
def test_a_damaged_document_is_one_sentence_with_the_file(damage: str, tmp_path: Path) -> None:
    file = written(tmp_path / "r") / "record.json"
    file.write_text(DOCUMENT[damage](json.loads(file.read_text())))
    assert_refused(file)


TABLES = {
    "truncated": lambda p: p.write_bytes(p.read_bytes()[:1000]),
    "empty": lambda p: p.write_bytes(b""),
    "gone": lambda p: p.unlink(),
    "no value": lambda p: pd.read_parquet(p).drop(columns="value").to_parquet(p),
    "words": lambda p: pd.read_parquet(p).assign(value="x").to_parquet(p),
    "half seeds": lambda p: pd.read_parquet(p).assign(seed=0.5).to_parquet(p),
}


@pytest.mark.parametrize("damage", TABLES)
def test_damaged_values_are_one_sentence_with_the_file(damage: str, tmp_path: Path) -> None:
    file = written(tmp_path / "r") / "values.parquet"
    TABLES[damage](file)
    assert_refused(file)


@pytest.mark.parametrize("content", [b"", b"hello", b"\x09" + bytes(7) + b'{"a": 1}'])
def test_damaged_arrays_are_one_sentence_with_the_file(content: bytes, tmp_path: Path) -> None:
    file = written(tmp_path / "r") / "arrays.safetensors"
    file.write_bytes(content)
    assert_refused(file)


def assert_refused(file: Path) -> None:
    with pytest.raises(InputError, match=rf"{file.name}' .*restore the file") as error:
        Record.read(file.parent)
    assert "\n" not in str(error.value)
