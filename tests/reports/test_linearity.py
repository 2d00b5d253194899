"""Tests for reports/linearity.py, end to end: a synthetic record becomes a PDF."""

import io
import math
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pypdf
import pytest

from analysis.verdicts import linearity_verdicts
from core.command_line import run
from core.errors import InputError
from core.records import Record
from reports.figures import LEFT_OUT
from reports.linearity import ReportConfig, report, verdict_table, write_report
from tests.reports.synthetic import (
    linearity_record,
    replace_rows,
    without_intervals,
    without_moved_blocks,
)


def foreign() -> Record:
    """One checkpoint of somebody else's, images of an unknown split."""
    return linearity_record(runs=("model",), envs=("photos",), split="given")


def written(record: Record, folder: Path) -> Path:
    folder.mkdir()
    record.write(folder)
    return write_report(record, folder, folder / "report.pdf")


@pytest.fixture(scope="module")
def pdf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(linearity_record(), tmp_path_factory.mktemp("reports") / "default")


def text(path: Path) -> str:
    pages = [page.extract_text() for page in pypdf.PdfReader(path).pages]
    return " ".join(" ".join(pages).split())


def test_every_page_has_text_and_the_document_is_tagged(pdf: Path) -> None:
    reader = pypdf.PdfReader(pdf)
    assert all(len(page.extract_text()) > 300 for page in reader.pages)
    assert reader.metadata is not None and reader.metadata.title
    assert "/StructTreeRoot" in reader.root_object


def test_the_record_travels_inside(pdf: Path) -> None:
    attached = pypdf.PdfReader(pdf).attachments
    assert sorted(attached) == ["record.json", "values.parquet"]
    values = pd.read_parquet(io.BytesIO(attached["values.parquet"][0]))
    pd.testing.assert_frame_equal(values, pd.read_parquet(pdf.parent / "values.parquet"))


def test_terminal_and_page_tell_the_same(pdf: Path) -> None:
    record, page = linearity_record(), text(pdf)
    lines = verdict_table(record).splitlines()
    assert all(len(line) <= 100 and line.isascii() for line in lines)
    for verdict, line in zip(linearity_verdicts(record), lines[1:], strict=False):
        label = f"{verdict.run} (control)" if verdict.is_control else verdict.run
        assert line.split("  ")[0] == label
        assert f" {verdict.word} " in line
        assert f"{label}, {verdict.split}: {verdict.word}. R² {verdict.estimate}" in page


def test_long_names_give_way_in_the_terminal() -> None:
    record = linearity_record(runs=tuple(f"{'very-' * 20}long-{i}-s{i}" for i in range(3)))
    assert max(map(len, verdict_table(record).splitlines())) <= 100


def test_one_run_in_one_environment(tmp_path: Path) -> None:
    page = text(written(foreign(), tmp_path / "one"))
    assert "model, given: near-linear." in page
    assert "paired over the same images" not in page


@pytest.mark.slow
def test_eight_runs_in_six_environments(tmp_path: Path) -> None:
    runs = tuple(f"dropout0.9-s{i}" for i in range(7))
    envs = tuple(f"environment_{i}" for i in range(6))
    blocks = tuple(f"stages.{i // 3}.blocks.{i % 3}" for i in range(12))
    record = linearity_record(runs=(*runs, "scratch-s0"), envs=envs, blocks=blocks, lowest=-300)
    page = text(written(record, tmp_path / "eight"))
    assert all(name in page for name in (*runs, *envs, "scratch-s0"))


def test_missing_intervals_are_said(tmp_path: Path) -> None:
    record = without_intervals(foreign())
    assert "without an interval to tell it from 0" in text(written(record, tmp_path / "bare"))
    assert "[-]" in verdict_table(record)


def test_a_run_whose_features_did_not_move_has_no_figure_of_blocks(tmp_path: Path) -> None:
    page = text(written(without_moved_blocks(foreign()), tmp_path / "classifier"))
    assert "No block moved" in page
    assert "Block by block" in page
    assert "Weights from the input (top)" not in page
    assert "No block moved" not in text(written(foreign(), tmp_path / "moved"))


def test_a_curve_that_ends_early_says_why(tmp_path: Path) -> None:
    nothing = {"value": math.nan, "low": math.nan, "high": math.nan}
    record = replace_rows(foreign(), nothing, "explained_displacement", at=1.5)
    assert text(written(record, tmp_path / "ends")).count(LEFT_OUT) == 1
    assert LEFT_OUT not in text(written(foreign(), tmp_path / "whole"))


def test_a_record_of_another_probe_is_refused(tmp_path: Path) -> None:
    base = linearity_record()
    other = Record(probe="ntk", config={}, values=base.values, metrics={})
    with pytest.raises(InputError, match="a record of the probe 'ntk'"):
        write_report(other, tmp_path, tmp_path / "report.pdf")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"runs": None}, "says runs: None, where a list belongs"),
        ({"runs": [{"sha256": "0"}]}, "says runs"),
        ({"num_draws": "two"}, "says num_draws: 'two'"),
        ({"classes": 7}, "says classes: 7"),
    ],
)
def test_a_provenance_that_somebody_edited_is_a_sentence(
    changed: dict[str, object], message: str, tmp_path: Path
) -> None:
    record = linearity_record()
    provenance = record.provenance | changed
    with pytest.raises(InputError, match=message):
        written(replace(record, provenance=provenance), tmp_path / "edited")
    lacking = {name: value for name, value in provenance.items() if name not in changed}
    with pytest.raises(InputError, match=f"lacks {next(iter(changed))}"):
        written(replace(record, provenance=lacking), tmp_path / "lacking")


def test_the_command_makes_the_same_file_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first, output = written(foreign(), tmp_path / "record"), tmp_path / "again.pdf"
    flags = ["--record", str(first.parent), "--output", str(output)]
    monkeypatch.setattr("sys.argv", ["reports.linearity", *flags])
    run(report, ReportConfig)
    assert output.read_bytes() == first.read_bytes()
    assert capsys.readouterr().out == f"{verdict_table(foreign())}\n"

    with pytest.raises(SystemExit) as stopped:
        run(report, ReportConfig)
    assert stopped.value.code == 2
    assert "already exists" in capsys.readouterr().err
