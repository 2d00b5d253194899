"""Tests for reports/study: a made-up study becomes sections, figures with data, and a PDF."""

from pathlib import Path

import pandas as pd
import pypdf
import pytest
from numpy.testing import assert_allclose

from analysis.bootstrap import hierarchical_mean
from analysis.claims.rows import main_runs, tuned
from analysis.estimates import DASH
from analysis.runs import check_runs
from core.command_line import run
from core.errors import InputError
from core.records import Record
from reports.study import choosing, clouds, effects, rates, settings
from reports.study.__main__ import ReportConfig, report
from reports.study.catalogue import SECTIONS
from reports.study.comparison import matched, table
from reports.study.references import all_points, points
from reports.study.sections import built, each_dataset
from reports.study.writing import stem
from tests.analysis.study_data import accuracies, grid
from tests.reports.synthetic_study import study_record, study_runs

NAMES = [section.name for section in SECTIONS]


@pytest.fixture(scope="module")
def runs() -> pd.DataFrame:
    return study_runs()


@pytest.fixture(scope="module")
def folder(runs: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The record, its report and its figures, written by the command."""
    folder = written(runs, tmp_path_factory.mktemp("study"))
    report(ReportConfig(runs=str(folder / "runs.parquet"), output=str(folder / "study.pdf")))
    return folder


def written(runs: pd.DataFrame, folder: Path) -> Path:
    study_record(runs).write(folder)
    runs.to_parquet(folder / "runs.parquet")
    return folder


@pytest.fixture(scope="module")
def text(folder: Path) -> str:
    pages = [page.extract_text() for page in pypdf.PdfReader(folder / "study.pdf").pages]
    return " ".join(" ".join(pages).split())


@pytest.mark.parametrize("name", NAMES)
def test_every_figure_lies_beside_the_runs_with_its_data(
    folder: Path, text: str, name: str
) -> None:
    svg, data = (folder / "figures" / f"{stem(name, 0)}.{kind}" for kind in ("svg", "csv"))
    assert svg.read_bytes().startswith(b"<?xml") and len(pd.read_csv(data))
    assert f"{svg.name}, {data.name}" in text


def test_the_pdf_has_the_ledger_and_its_files(folder: Path, text: str) -> None:
    assert "Of 19 claims 19 were tested: 19 supported" in text
    assert "Nothing to show" not in text
    assert "Failed, and missing everywhere (1): ink-9" in text and "the loss is infinite" in text
    attachments = set(pypdf.PdfReader(folder / "study.pdf").attachments)
    assert {"runs.parquet", "ledger.csv", "record.json"} <= attachments
    requirements = pd.read_csv(folder / "figures" / "ledger.csv")
    assert set(requirements["claim"]) == {f"C{number}" for number in range(1, 20)}


@pytest.mark.parametrize("name", NAMES)
def test_a_section_without_its_runs_says_what_it_needs(name: str) -> None:
    section = SECTIONS[NAMES.index(name)]
    few = check_runs(accuracies(grid(envs=("ink",), cells=("a",), seeds=(0,)), ood=0.5))
    content, reason = built(section, few)
    assert content is None and reason.endswith(f"; needed: {section.needs}")


def test_methods_show_the_paired_difference_of_the_runs(runs: pd.DataFrame) -> None:
    main = main_runs(runs)
    comparison = settings.methods("digits", main)
    first = comparison.differences[0]
    assert first.name == "dropout 0.9 \u2212 plain"
    # Every cell, seed and environment is there in both: the mean difference is that of the means.
    means = [hierarchical_mean(tuned(main, rate), "ood").value for rate in (0.9, 0.0)]
    assert_allclose(first.means["ood"].value, means[0] - means[1])
    assert first.means["ood"].degrees > 0


def test_a_model_over_all_runs_has_no_interval_and_says_why(runs: pd.DataFrame) -> None:
    comparison = settings.methods("digits", main_runs(runs))
    of_all = [d for d in comparison.differences if "all runs" in d.name]
    assert len(of_all) == 4
    for one in of_all:
        assert not one.means["ood"].degrees and "no interval" in one.means["ood"].reason
    rows = [row for row in table([comparison])["rows"] if "all runs" in row[0]]
    assert all(DASH in row[2] for row in rows)


def test_a_cloud_has_every_choice_of_a_cell_for_each_environment(runs: pd.DataFrame) -> None:
    plain = tuned(main_runs(runs), 0)
    cloud = clouds.combinations(plain)
    assert len(cloud) == 4**3
    assert_allclose(cloud["ood"].mean(), hierarchical_mean(plain, "ood").value)
    many = pd.concat([plain.assign(env=f"{env}{i}") for i in range(2) for env in "ab"])
    assert len(clouds.combinations(many)) == 4**4


def test_a_large_cloud_is_drawn_at_random_and_again_the_same() -> None:
    frame = accuracies(grid(envs=("a", "b", "c", "d", "e")), ood=0.5)
    cloud = clouds.combinations(frame)
    assert len(cloud) == clouds.MOST < 6**5
    pd.testing.assert_frame_equal(cloud, clouds.combinations(frame))


def test_only_cells_that_all_have_are_compared() -> None:
    frame = accuracies(grid(), ood=0.5)
    first, second = matched([frame, frame.query("cell == 'b' and seed == 0")])
    assert set(first["cell"]) == {"b"} and len(first) == len(second) == 4
    with pytest.raises(InputError, match="no run is matched in all of 2"):
        matched([frame.query("cell == 'a'"), frame.query("cell == 'b'")])


def test_rivals_in_one_cell_are_beside_dropout_in_that_cell(runs: pd.DataFrame) -> None:
    one_cell = runs.query("noise == 'dropout' or cell == 'a'")
    comparison = rates.noises("digits", rates.rivals(one_cell))
    assert {arm.group for arm in comparison.arms} == {"none", "dropout", "gaussian"}
    assert all(set(arm.rows["cell"]) == {"a"} for arm in comparison.arms)
    (difference,) = comparison.differences
    assert difference.name == "gaussian 0.9 \u2212 dropout"
    assert_allclose(difference.means["ood"].value, -0.01, atol=1e-9)


def test_best_rates_have_their_draws_or_a_reason(runs: pd.DataFrame) -> None:
    main = main_runs(runs)
    best, none = rates.best_rates([("all", main), ("few", main.query("drop_rate > 0"))])
    assert best == "Best rate out of distribution, all: 0.9, from 0.9 to 0.9 in 95 % of draws."
    assert none.startswith("few: no setting has run at 3 dropout rates")


def test_the_oracle_has_no_price_of_its_own(runs: pd.DataFrame) -> None:
    content = choosing.selection(runs)
    oracle = [row for row in content.table["rows"] if row[2] == "oracle"]
    assert len(oracle) == 2 and all(row[4] == "0 by definition" for row in oracle)
    assert set(content.plates[0].data["rule"]) == {"iid", "leave_one_domain_out", "fixed"}
    assert "Choosing rate and cell, over seeds and splits, for these cells." in content.notes


def test_an_accuracy_that_is_the_same_in_all_runs_has_no_effects(runs: pd.DataFrame) -> None:
    content = effects.effects(runs.assign(iid=0.9))
    assert set(content.plates[0].data["outcome"]) == {"ood"}
    assert "digits: all runs have one iid accuracy; nothing acts on it." in content.notes
    with pytest.raises(InputError, match="runs have the ood accuracy 0.5; accuracies that differ"):
        effects.effects(runs.assign(iid=0.9, ood=0.5))


def test_a_measure_of_few_settings_has_a_dash_for_its_p_value_and_a_reason(
    runs: pd.DataFrame,
) -> None:
    few = runs.assign(nc1=runs["nc1"].where(runs["cell"] == "a"))
    content = effects.association(few)
    row = next(row for row in content.table["rows"] if row[0] == "nc1")
    assert row[2] == row[4] == DASH and row[5] == "3"
    (note,) = [note for note in content.notes if note.startswith("nc1: 3 settings of cell and")]
    assert note.endswith("no p-value can be below 0.17: no verdict at 5%.")
    (others,) = [row for row in content.table["rows"] if row[0] == "cdnv"]
    assert others[2] != DASH and content.facts["family"] < len(content.table["rows"])


def test_published_numbers_are_of_the_same_weights_only() -> None:
    frame = accuracies(grid(), ood=0.9).assign(dataset="PACS", pretrained="resnet50.tv2_in1k")
    second = points(frame)
    assert set(second["weights"]) == {"ResNet-50 V2"}
    at_rate = second[(second["method"] == "dropout") & (second["drop_rate"] == 0.9)]
    assert_allclose(at_rate[["iid", "ood"]], [[0.9781, 0.8841]])
    first = points(frame.assign(pretrained="resnet50.tv_in1k"))
    assert set(first["weights"]) == {"ResNet-50 V1"}
    both = pd.concat([frame, frame.assign(pretrained="resnet50.tv_in1k")])
    found, reasons = all_points(both)
    assert found["PACS"].empty and "2 pretrained weights" in reasons[0]


def test_a_data_set_that_lacks_something_is_left_out_and_named() -> None:
    frame = accuracies(grid(), ood=0.5)

    def build(name: str, rows: pd.DataFrame) -> int:
        if name == "PACS":
            raise InputError("there is no dropout")
        return len(rows)

    both = pd.concat([frame, frame.assign(dataset="PACS")])
    assert each_dataset(both, build) == ([48], ["Left out: PACS: there is no dropout."])
    with pytest.raises(InputError, match="PACS: there is no dropout"):
        each_dataset(both.query("dataset == 'PACS'"), build)


def test_a_poor_study_gives_the_same_bytes_twice_and_says_what_is_missing(tmp_path: Path) -> None:
    few = check_runs(accuracies(grid(cells=("a",)), ood=0.5))
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        folder = written(few, tmp_path / name)
        report(ReportConfig(runs=str(folder), output=str(tmp_path / f"{name}.pdf")))
    first, second = (tmp_path / f"{name}.pdf" for name in ("first", "second"))
    assert first.read_bytes() == second.read_bytes()
    text = " ".join(page.extract_text() for page in pypdf.PdfReader(first).pages)
    assert text.count("Nothing to show") == len(SECTIONS)
    assert not list((tmp_path / "first" / "figures").glob("*.svg"))


def test_what_is_no_study_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    few = check_runs(accuracies(grid(cells=("a",)), ood=0.5))
    record = study_record(few)
    Record(**{**vars(record), "probe": "ntk"}).write(tmp_path)
    few.to_parquet(tmp_path / "runs.parquet")
    flags = ["--runs", str(tmp_path), "--output", str(tmp_path / "a.pdf")]
    monkeypatch.setattr("sys.argv", ["reports.study", *flags])
    with pytest.raises(SystemExit) as stop:
        run(report, ReportConfig)
    assert stop.value.code == 2 and "record of the probe 'ntk'" in capsys.readouterr().err
