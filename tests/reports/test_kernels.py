"""Tests for reports/kernels.py and its figures: a synthetic record becomes a PDF."""

import re
from pathlib import Path

import numpy as np
import pypdf
import pytest
from sklearn.metrics.pairwise import cosine_similarity

from analysis.estimates import DASH
from core.command_line import run
from core.errors import InputError
from core.records import Record
from reports import kernel_drift, kernel_maps, kernel_spectra, kernels
from reports.kernel_maps import boundaries, cosines
from reports.kernels import ReportConfig, report, verdict_lines, write_report
from reports.linearity import verdict_table
from reports.linearity import write_report as write_linearity_report
from tests.reports.synthetic import linearity_record, without_intervals
from tests.reports.synthetic_kernels import BLOCKS, kernel_record, with_kernels

MOVING = ("erm-s0", "dropout0.9-s0")


def one() -> Record:
    return kernel_record(runs=("model",), envs=("photos",), split="given")


def small() -> Record:
    """A fine-tuning with checkpoints along the way and a control, in two environments."""
    return kernel_record(("erm-s0",), runs=("erm-s0", "scratch-s0"), envs=("ink", "photo"))


def written(record: Record, folder: Path) -> Path:
    folder.mkdir()
    record.write(folder)
    write = write_report if record.probe == "ntk" else write_linearity_report
    return write(record, folder, folder / "report.pdf")


def text(path: Path) -> str:
    pages = [page.extract_text() for page in pypdf.PdfReader(path).pages]
    return " ".join(" ".join(pages).split())


@pytest.fixture(scope="module")
def pdf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(small(), tmp_path_factory.mktemp("reports") / "kernels")


def test_cosines_do_not_depend_on_the_size_of_gradients() -> None:
    rng = np.random.default_rng(0)
    features, size = rng.normal(size=(4, 6)), rng.uniform(1, 9, size=4)
    kernel = features @ features.T
    np.testing.assert_allclose(cosines(kernel), cosine_similarity(features))
    np.testing.assert_allclose(cosines(kernel * np.outer(size, size)), cosines(kernel))
    assert np.isnan(cosines(np.diag([1.0, 0.0]))[1]).all()


def test_boundaries_enclose_equal_entries() -> None:
    assert boundaries(np.array([0, 0, 0])) == [0, 3]
    assert boundaries(np.array([2, 1, 1, 2])) == [0, 1, 3, 4]


@pytest.mark.parametrize("record", [one(), without_intervals(one())])
def test_every_figure_can_be_drawn(record: Record) -> None:
    groups = kernels.drawings(record)
    assert {name: len(group) for name, group in groups.items()} == {
        "drift": 1,
        "maps": 1,
        "spectra": 1,
        "velocity": 0,
    }
    drawings = [drawing for group in groups.values() for drawing in group]
    assert all(d.svg.startswith(b"<?xml") and len(d.alt) > 40 for d in drawings)


def test_figures_are_reproducible() -> None:
    record = kernel_record(("model",), runs=("model",), envs=("photos", "art"))
    assert kernels.drawings(record) == kernels.drawings(record)


def test_heat_maps_have_at_most_four_rows_a_figure() -> None:
    drawings = kernel_maps.heat_maps(kernel_record())
    assert [drawing.part for drawing in drawings] == [
        "iid images, erm-s0 to dropout0.9-s1",
        "scratch-s0, iid images, to dropout0.9-s0, ood images",
        "ood images, dropout0.9-s1 to scratch-s0",
    ]
    numbers = re.findall(r"0\.\d{3}", drawings[0].alt)
    inside, between = float(numbers[0]), float(numbers[1])
    assert inside > between  # the synthetic kernels are alike within a class


def test_spectra_tell_their_effective_ranks() -> None:
    drawings = kernel_spectra.spectra(kernel_record())
    assert [drawing.part for drawing in drawings] == [
        "runs erm-s0 to dropout0.9-s0",
        "runs dropout0.9-s1 to scratch-s0",
    ]
    assert "erm-s0 iid 9.000 [8.970, 9.030] before and 8.000 [7.970, 8.030]" in drawings[0].alt


def test_only_runs_with_checkpoints_have_a_velocity() -> None:
    (drawing,) = kernel_drift.velocity(kernel_record(MOVING))
    assert "erm-s0 from 0.0010 to 0.0001" in drawing.alt
    assert "scratch" not in drawing.alt
    assert kernel_drift.block_names(kernel_record()) == list(BLOCKS)


def test_tables_have_a_row_per_run_and_split_or_environment() -> None:
    tables = kernels.tables_of(kernel_record())
    assert {name: len(table["rows"]) for name, table in tables.items()} == {
        "kernel_drift": 10,
        "kernel_labels": 10,
        "kernel_spectra": 10,
        "kernel_environments": 20,
    }
    cells = [c for table in tables.values() for row in table["rows"] for c in row]
    assert DASH not in cells
    assert tables["kernel_drift"]["rows"][0][2:4] == ["0.100 ± 0.030", "0.050 ± 0.010"]


def test_the_report_explains_what_it_shows(pdf: Path) -> None:
    page = text(pdf)
    assert "erm-s0, iid: moved more. Kernel distance 0.100 [0.070, 0.130], above" in page
    assert "How the kernel moved" in page
    assert "per training step" in page and "Velocity" in page
    assert "delete-group jackknife" in page
    assert all(len(p.extract_text()) > 100 for p in pypdf.PdfReader(pdf).pages)
    assert sorted(pypdf.PdfReader(pdf).attachments) == ["record.json", "values.parquet"]


def test_long_class_names_are_shortened_and_many_are_thinned() -> None:
    record = one()
    names = [f"a-very-long-name-of-class-{i}" for i in range(40)]
    arrays = {n: np.arange(6) * 6 if n.endswith("labels") else a for n, a in record.arrays.items()}
    other = Record(
        probe="ntk",
        config=record.config,
        values=record.values,
        metrics=record.metrics,
        provenance=record.provenance | {"classes": names},
        arrays=arrays,
    )
    (drawing,) = kernel_maps.heat_maps(other)
    assert f"{DASH} inside" in drawing.alt  # a class with one image has no pairs


def test_the_linearity_report_has_the_section_where_kernels_were_measured(tmp_path: Path) -> None:
    base = linearity_record(runs=("model",), envs=("photos",), split="given")
    with_section = text(written(with_kernels(base), tmp_path / "with"))
    without = text(written(base, tmp_path / "without"))
    assert "model, given: near-linear." in without
    for sentence in ("model, given: moved more.", "How the kernel moved", "Tangent kernel"):
        assert sentence in with_section
        assert sentence not in without
    assert "Velocity" not in with_section  # there are no checkpoints along the way


def test_the_terminal_tells_the_readings() -> None:
    lines = verdict_lines(kernel_record())
    assert lines[1].split() == [
        *("erm-s0", "iid", "moved", "more"),
        *("0.100", "[0.070,", "0.130]", "0.050", "[0.040,", "0.060]"),
    ]
    assert all(len(line) <= 100 and line.isascii() for line in lines)
    base = linearity_record()
    whole = verdict_table(with_kernels(base))
    assert whole == "\n\n".join([verdict_table(base), "\n".join(lines)])
    assert verdict_lines(base) == []


def test_a_record_of_another_probe_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a record of the probe 'linearity'; one of 'ntk' was"):
        write_report(linearity_record(), tmp_path, tmp_path / "report.pdf")


def test_the_command_makes_the_same_file_again(
    pdf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    output = tmp_path / "again.pdf"
    flags = ["--record", str(pdf.parent), "--output", str(output)]
    monkeypatch.setattr("sys.argv", ["reports.kernels", *flags])
    run(report, ReportConfig)
    assert output.read_bytes() == pdf.read_bytes()
    assert capsys.readouterr().out.splitlines() == verdict_lines(small())
