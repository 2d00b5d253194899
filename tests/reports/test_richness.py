"""Tests for reports/richness.py: synthetic records become a PDF."""

from collections.abc import Callable
from pathlib import Path

import pypdf
import pytest

from analysis.richness_verdicts import against_init, between_runs
from core.command_line import run
from core.errors import InputError
from core.records import Record
from reports.richness import ReportConfig, report, verdict_table, write_report
from tests.reports.small_richness import LAYERS, one, only, small, small_transfer
from tests.reports.synthetic import linearity_record, without_intervals
from tests.reports.synthetic_richness import (
    REASON,
    RUNS,
    richness_record,
    transfer_record,
)


def written(record: Record, folder: Path, transfer: Record | None = None) -> Path:
    folder.mkdir()
    record.write(folder)
    if transfer is None:
        return write_report(record, folder, folder / "report.pdf")
    other = folder / "transfer"
    other.mkdir()
    transfer.write(other)
    return write_report(record, folder, folder / "report.pdf", transfer, other)


def text(path: Path, pages: slice = slice(None)) -> str:
    """Of some pages; it takes seconds where figures have many lines."""
    found = [page.extract_text() for page in pypdf.PdfReader(path).pages[pages]]
    return " ".join(" ".join(found).split())


@pytest.fixture(scope="module")
def pdf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reports") / "both"
    return written(small(), folder, small_transfer())


@pytest.fixture(scope="module")
def pages(pdf: Path) -> list[str]:
    return [page.extract_text() for page in pypdf.PdfReader(pdf).pages]


@pytest.fixture(scope="module")
def page(pages: list[str]) -> str:
    return " ".join(" ".join(pages).split())


def test_every_page_has_text_and_the_document_is_tagged(pdf: Path, pages: list[str]) -> None:
    assert all(len(page) > 300 for page in pages)
    assert "/StructTreeRoot" in pypdf.PdfReader(pdf).root_object


def test_both_records_travel_inside(pdf: Path) -> None:
    assert sorted(pypdf.PdfReader(pdf).attachments) == [
        "record.json",
        "transfer-record.json",
        "transfer-values.parquet",
        "values.parquet",
    ]


def test_the_page_says_what_the_terminal_says(page: str) -> None:
    record = small()
    lines = verdict_table(record).splitlines()[1:]
    assert all(len(line) <= 100 and line.isascii() for line in lines)
    for comparison, line in zip(
        [*against_init(record), *between_runs(record)], lines, strict=True
    ):
        richer, poorer = (len(comparison.saying(word)) for word in ("richer", "poorer"))
        counts = f"({richer} richer, {poorer} poorer of {len(comparison.votes)})"
        assert f"{comparison.split}: {comparison.word} {counts}" in page
        assert line.split()[4:7] == [comparison.word, str(richer), str(poorer)]


def test_the_page_warns_of_what_intervals_cannot_say(page: str) -> None:
    assert "asking that they do not overlap is conservative" in page
    assert "With so few checkpoints" in page
    assert page.count(REASON) == 1
    assert "erm-s0, ood, rotated: both (gap 0.200 ± 0.030)" in page


def test_missing_intervals_are_said(tmp_path: Path) -> None:
    record = richness_record(runs=RUNS[:2], envs=("ink",))
    page = text(written(without_intervals(record), tmp_path / "bare"), slice(1))
    assert "iid: undecided (0 richer, 0 poorer of " in page


@pytest.mark.parametrize(
    "record",
    [
        one,
        lambda: richness_record(runs=("a", "b"), envs=("x", "y"), files=True, head=False),
        pytest.param(lambda: small(LAYERS), marks=pytest.mark.slow),
        lambda: only(small(("layer1", "layer2")), "effective_rank_centred", "cka", "nc1"),
        lambda: only(small(), "cka", "null_cka"),
        lambda: only(one(), "nc1"),
    ],
    ids=["one file", "two files", "layers", "no penultimate", "similarity", "one number"],
)
def test_records_without_some_parts_have_a_report(
    record: Callable[[], Record], tmp_path: Path
) -> None:
    page = text(written(record(), tmp_path / "some"), slice(1))
    assert "How rich is the representation?" in page and "conservative" in page


def test_one_checkpoint_has_nothing_to_be_compared_with(tmp_path: Path) -> None:
    page = text(written(one(), tmp_path / "one"))
    assert "There is nothing to compare" in page
    assert "features of 1 file" in page
    assert "Where the measures agree" not in page and "Scores that claim" not in page


def test_records_of_other_probes_and_checkpoints_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a record of the probe 'linearity'"):
        write_report(linearity_record(), tmp_path, tmp_path / "report.pdf")
    other = transfer_record(runs=("erm-s0",))
    with pytest.raises(InputError, match="the same checkpoints were expected"):
        write_report(richness_record(), tmp_path, tmp_path / "report.pdf", other, tmp_path)


def test_the_command_makes_the_same_file_again(
    pdf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "again.pdf"
    flags = ["--record", str(pdf.parent), "--transfer", str(pdf.parent / "transfer")]
    monkeypatch.setattr("sys.argv", ["reports.richness", *flags, "--output", str(output)])
    run(report, ReportConfig)
    assert output.read_bytes() == pdf.read_bytes()
    assert capsys.readouterr().out == f"{verdict_table(small())}\n"
