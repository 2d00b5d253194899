"""Tests for reports/rate_curve.py: a made-up record becomes figures, a table and a PDF."""

from pathlib import Path

import pypdf
import pytest

from analysis.estimates import DASH
from core.command_line import run
from core.errors import InputError
from core.records import Record
from reports.rate_curve import (
    ReportConfig,
    drawings,
    facts,
    report,
    tables_of,
    verdict_lines,
    write_report,
)
from tests.reports.synthetic_rates import creation_record, rate_record


def text(path: Path) -> str:
    pages = [page.extract_text() for page in pypdf.PdfReader(path).pages]
    return " ".join(" ".join(pages).split())


def written(record: Record, folder: Path) -> Path:
    record.write(folder)
    return write_report(record, folder, folder / "report.pdf")


def test_one_figure_per_representation_says_its_differences() -> None:
    (alone,) = drawings(rate_record())["rate"]
    assert alone.svg.startswith(b"<?xml") and alone.part == ""
    assert "cross-entropy ood at rate 0.99: 0.000" in alone.alt
    both = drawings(rate_record(layers=("features", "tangent")))["rate"]
    assert [d.part for d in both] == ["erm/init, features", "erm/init, tangent"]


def test_figures_are_reproducible() -> None:
    first, again = (drawings(rate_record())["rate"][0].svg for _ in range(2))
    assert first == again


def test_the_table_has_a_row_per_loss_split_and_rate() -> None:
    table = tables_of(rate_record())["rate"]
    assert len(table["rows"]) == 2 * 2 * 4
    assert table["header"][:3] == ["Loss", "Split", "Rate"]
    unsolved = [row[-1] for row in table["rows"] if row[2] == "0.99"]
    assert unsolved == 4 * [f"0.000 [{DASH}]"]
    solved = [row[-1] for row in table["rows"] if row[2] == "0.5"]
    assert solved == 4 * ["0.000 ± 0.0010"]


def test_a_record_of_one_loss_is_enough() -> None:
    record = rate_record(losses=("squared",))
    assert facts(record)["losses"] == ["squared"]
    assert len(tables_of(record)["rate"]["rows"]) == 8


def test_verdicts_are_printed() -> None:
    lines = verdict_lines(rate_record(unsolved=2.0))
    assert len(lines) == 1 + 4
    assert all("supported" in line for line in lines[1:])
    assert all("inconclusive" in line for line in verdict_lines(rate_record())[1:])


def test_the_pdf_has_verdicts_figure_reasons_and_methods(tmp_path: Path) -> None:
    found = text(written(rate_record(), tmp_path))
    for part in (
        "Is dropout a ridge penalty?",
        "erm/init, squared, iid: inconclusive",
        "not converged at 0.99",
        "SGD has not converged",
        "Three linear layers",
    ):
        assert part in found
    assert "random features" not in found and "residual blocks" not in found


def test_layers_made_for_the_curve_are_defined_with_their_numbers(tmp_path: Path) -> None:
    layers = ("features", "stacked", "tangent")
    found = text(written(rate_record(layers, losses=("squared",)), tmp_path))
    assert "outputs of the last 3 residual blocks side by side" in found
    assert "64 random features of each output" in found
    assert "docs/sketch_error.md" in found


def test_the_command_writes_the_pdf_from_the_record_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    rate_record().write(tmp_path)
    flags = ["--record", str(tmp_path), "--output", str(tmp_path / "again.pdf")]
    monkeypatch.setattr("sys.argv", ["reports.rate_curve", *flags])
    run(report, ReportConfig)
    assert (tmp_path / "again.pdf").exists()
    assert "dropout is ridge" in capsys.readouterr().out


def test_records_of_another_probe_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="'feature_creation'; one of 'rate_curve' was expected"):
        written(creation_record(), tmp_path)
