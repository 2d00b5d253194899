"""Tests for reports/training_space.py: the section in the report of the probe linearity."""

from pathlib import Path

import pypdf
import pytest

from analysis.estimates import DASH
from core.records import Record
from reports import training_space
from reports.linearity import verdict_table, write_report
from reports.training_space import METHODS, ROWS
from tests.reports.synthetic import linearity_record
from tests.reports.synthetic_training import with_training

RUNS = ("erm-s0", "dropout0.9-s0")


def small() -> Record:
    """Two runs with counterparts and a control without, in two environments."""
    return linearity_record(runs=(*RUNS, "scratch-s0"), envs=("ink", "photo"))


def text(record: Record, folder: Path) -> str:
    folder.mkdir()
    record.write(folder)
    pdf = write_report(record, folder, folder / "report.pdf")
    return " ".join(" ".join(p.extract_text() for p in pypdf.PdfReader(pdf).pages).split())


def test_a_record_without_counterparts_has_no_section(tmp_path: Path) -> None:
    record = small()
    assert training_space.facts(record) is None
    assert training_space.drawings(record) == training_space.tables_of(record) == {}
    assert training_space.lines(record) == []
    assert "Trained in its place" not in text(record, tmp_path / "r")


def test_the_page_has_numbers_methods_and_sources(tmp_path: Path) -> None:
    page = text(with_training(small(), RUNS), tmp_path / "r")
    assert "Trained in its place" in page
    assert "dropout0.9-s0 ood model (1), best" in page
    assert "on 43 of the run's own training images" in page.replace("\u2019", "'")
    assert "Simple improved confidence intervals for comparing matched proportions" in page
    assert "runs/digits/tangent" in page.replace("\u200b", "")
    assert "random features" not in page


def test_the_page_tells_only_of_what_was_compared(tmp_path: Path) -> None:
    record = with_training(small(), RUNS[:1], ("ordinary", "kernel"), features=512)
    page = text(record, tmp_path / "kernel")
    assert "512 random features" in page
    assert "Transplanted" not in page
    assert "of the last residual blocks" not in page
    record = with_training(small(), RUNS[:1], ("ordinary", "tangent", "transplanted"))
    page = text(record, tmp_path / "tangent")
    assert "Transplanted" in page
    assert "ridge regression" not in page


def test_tables_have_a_row_per_run_split_and_method() -> None:
    record = with_training(small(), RUNS)
    tables = training_space.tables_of(record)
    rows = tables["training"]["rows"]
    assert [row[:3] for row in rows] == [
        [run, split, name] for run in RUNS for split in ("iid", "ood") for name in ROWS.values()
    ]
    assert rows[0][3:] == ["0.950 ± 0.030", DASH, DASH]
    assert rows[1][3:] == ["0.930 ± 0.030", "\u22120.020 ± 0.030", "0.890 ± 0.030"]
    assert rows[6][2:] == ["kernel, to tangent", DASH, "\u22120.050 ± 0.030", "0.800 ± 0.030"]
    single = tables["training_environments"]
    assert [row[:3] for row in single["rows"]] == [
        [run, env, split] for run in RUNS for env, split in (("ink", "iid"), ("photo", "ood"))
    ]
    assert single["header"][3:5] == ["Ordinary ↑", "Tangent ↑"]


def test_a_run_without_one_of_the_twins_has_a_dash() -> None:
    record = with_training(small(), RUNS)
    gone = (record.values["run"] == RUNS[0]) & record.values["metric"].str.startswith("tangent")
    fewer = Record(
        **{n: getattr(record, n) for n in ("probe", "config", "metrics", "provenance", "arrays")},
        values=record.values[~gone.fillna(False).astype(bool)],
    )
    tables = training_space.tables_of(fewer)
    assert [RUNS[0], "iid", "tangent"] not in [row[:3] for row in tables["training"]["rows"]]
    assert tables["training_environments"]["rows"][0][4] == DASH
    assert training_space.methods_of(fewer) == list(METHODS)  # the other run has it


def test_the_terminal_tells_the_same() -> None:
    record = with_training(small(), RUNS)
    lines = verdict_table(record).splitlines()
    assert all(len(line) <= 100 and line.isascii() for line in lines)
    found = [line.split() for line in lines if line.startswith("erm-s0") and " kernel " in line]
    assert found[0][:4] == ["erm-s0", "iid", "kernel", "0.850"]


@pytest.mark.parametrize("num", [1, 7])
def test_figures_go_on_where_there_are_many_runs(num: int) -> None:
    runs = tuple(f"run-s{i}" for i in range(num))
    drawings = training_space.drawings(with_training(linearity_record(runs=runs), runs))[
        "training"
    ]
    assert len(drawings) == (1 if num == 1 else 2)
    assert [bool(drawing.part) for drawing in drawings] == [num > 1] * len(drawings)
    for run in runs:
        assert sum(f"{run} ood kernel" in drawing.alt for drawing in drawings) == 1
    assert all(drawing.svg.startswith(b"<?xml") for drawing in drawings)
