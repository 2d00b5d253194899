"""Tests for reports/feature_creation.py and its figures, on made-up records."""

from dataclasses import replace
from pathlib import Path

import pytest

from analysis.creation_verdict import R2
from core.command_line import run
from core.errors import InputError
from core.records import Record
from reports.feature_creation import (
    ReportConfig,
    axes_of,
    drawings,
    report,
    tables_of,
    verdict_lines,
    write_report,
)
from tests.reports.synthetic_rates import creation_record, rate_record
from tests.reports.test_rate_curve import text


def written(record: Record, folder: Path) -> Path:
    record.write(folder)
    return write_report(record, folder, folder / "report.pdf")


def test_figures_of_each_split_and_of_what_the_runs_differ_in() -> None:
    found = drawings(creation_record())
    assert [d.part for d in found["creation"]] == ["iid", "ood"]
    (paths,) = found["creation_recipes"]
    assert "R2 over learning rate." in paths.alt
    assert "erm ood 0.800" in paths.alt
    assert all(d.svg.startswith(b"<?xml") for group in found.values() for d in group)


def test_runs_that_differ_in_nothing_have_no_slope() -> None:
    record = creation_record(rates=(0.1, 0.1, 0.1))
    assert axes_of(record) == []
    assert drawings(record)["creation_recipes"] == []
    assert tables_of(record)["creation_slopes"]["rows"] == []


def test_a_run_from_scratch_makes_no_axis() -> None:
    record = creation_record(("erm", "scratch"), scratch=("scratch",))
    assert axes_of(record) == []
    assert "scratch (control)" in "\n".join(verdict_lines(record))


def test_tables_have_a_row_per_run_and_split() -> None:
    tables = tables_of(creation_record())
    for name in ("creation", "creation_probes"):
        assert [row[:2] for row in tables[name]["rows"]] == [
            [run, split] for run in ("erm", "dropout", "long") for split in ("iid", "ood")
        ]
    assert tables["creation"]["rows"][0][2:4] == ["0.800 ± 0.020", "\u22120.010 ± 0.020"]
    slopes = tables["creation_slopes"]["rows"]
    assert [row[:2] + row[3:] for row in slopes] == [
        ["learning rate", "iid", "3"],
        ["learning rate", "ood", "3"],
    ]
    assert slopes[0][2].startswith("\u22120.100")


def test_verdicts_are_printed() -> None:
    lines = verdict_lines(creation_record())
    assert len(lines) == 1 + 6
    assert sum("supported" in line for line in lines) == 4
    assert sum("contradicted" in line for line in lines) == 2


@pytest.mark.parametrize("rates", [(1e-3, 1e-2, 1e-1), (0.1, 0.1, 0.1)])
def test_the_pdf_has_verdicts_figures_and_methods(
    rates: tuple[float, ...], tmp_path: Path
) -> None:
    found = text(written(creation_record(rates=rates), tmp_path))
    assert "Does fine-tuning create features?" in found
    assert "erm, iid: supported" in found
    assert "Predicting fine-tuned features" in found
    assert ("Change of R² per factor of ten" in found) == (rates[0] != rates[1])


def test_what_was_not_measured_is_said_with_its_reason(tmp_path: Path) -> None:
    """Of one run neither probes nor R2 out of distribution; of both no probes."""
    whole = creation_record(("erm", "dropout"))
    kept = (whole.values["metric"] == R2) & (whole.values["split"] == "iid")
    reasons = {f"{run}|probes": "class 2 has one example" for run in ("erm", "dropout")}
    reasons |= {f"{run}|ood": "there are 2 examples" for run in ("erm", "dropout")}
    provenance = whole.provenance | {"undefined": reasons}
    record = replace(whole, values=whole.values.loc[kept, :], provenance=provenance)
    assert [d.part for d in drawings(record)["creation"]] == ["iid"]
    lines = verdict_lines(record)
    assert sum("inconclusive" in line for line in lines) == 4
    assert "not measured: erm, ood; dropout, ood: there are 2 examples" in lines
    found = text(written(record, tmp_path))
    assert "dropout, ood: inconclusive" in found
    assert "class 2 has one example. Of all of probes" in found


def test_the_command_writes_the_pdf_from_the_record_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    creation_record().write(tmp_path)
    flags = ["--record", str(tmp_path), "--output", str(tmp_path / "again.pdf")]
    monkeypatch.setattr("sys.argv", ["reports.feature_creation", *flags])
    run(report, ReportConfig)
    assert (tmp_path / "again.pdf").exists()
    assert "features were there" in capsys.readouterr().out


def test_records_of_another_probe_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="'rate_curve'; one of 'feature_creation' was expected"):
        written(rate_record(), tmp_path)
