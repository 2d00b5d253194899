"""Tests for reports/tables.py."""

from analysis.estimates import DASH, Estimate
from reports import tables
from tests.reports.synthetic import linearity_record, replace_rows, without_intervals


def test_wider_side_is_printed_when_nearly_symmetric() -> None:
    assert tables.cell(Estimate(0.5, 0.4, 0.609)) == "0.500 ± 0.109"
    assert tables.cell(Estimate(0.5, 0.4, 0.65)) == "0.500 [0.400, 0.650]"


def test_a_missing_interval_is_printed_as_such() -> None:
    table = tables.by_split(without_intervals(linearity_record()), tables.LINEARITY)
    assert all(entry.endswith(f" [{DASH}]") for row in table["rows"] for entry in row[2:])


def test_a_row_per_run_and_split_and_arrows_from_the_metrics() -> None:
    table = tables.by_split(linearity_record(), (*tables.LINEARITY, *tables.SCALE))
    assert len(table["rows"]) == 10
    assert table["header"][2] == "Accuracy ↑"
    assert "Curvature ratio ↓" in table["header"]
    assert "Displacement" in table["header"]


def test_a_row_per_run_and_environment() -> None:
    table = tables.by_environment(linearity_record(), tables.ENVIRONMENT)
    assert len(table["rows"]) == 5 * 4
    assert table["rows"][3][:3] == ["erm-s0", "rotated", "ood"]


def test_a_quantity_the_record_lacks_is_a_dash() -> None:
    record = replace_rows(linearity_record(), {"metric": "other"}, "linear_agreement")
    column = tables.by_split(record, (tables.AGREEMENT,))["rows"]
    assert {row[-1] for row in column} == {DASH}


def test_only_short_block_tables_are_printed() -> None:
    assert tables.blocks(linearity_record(), "iid") is not None
    long = linearity_record(blocks=tuple(f"block{i}" for i in range(18)))
    assert tables.blocks(long, "iid") is None


def test_weights_end_with_buffers_and_precision() -> None:
    table = tables.weights(linearity_record())
    assert [row[0] for row in table["rows"][-2:]] == ["share of buffers", "float64 gap"]
    assert len(table["rows"]) == 9 + 2
