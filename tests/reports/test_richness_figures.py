"""Tests for the figures and tables of reports/richness.py."""

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.figure import Figure

from analysis.estimates import DASH
from reports import (
    heat,
    reasons,
    richness_curves,
    richness_maps,
    richness_ranks,
    richness_spectra,
    richness_tables,
    richness_transfer,
    style,
)
from reports.richness_runs import names_of, styles_of
from tests.reports.small_richness import LAYERS, NAMES, one, small
from tests.reports.synthetic import replace_rows
from tests.reports.synthetic_richness import (
    REASON,
    RUNS,
    UNITS,
    richness_record,
    transfer_record,
)


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """The figures that are drawn in a test."""
    drawn: list[Figure] = []

    def draw(figure: Figure, *args: str, **options: str) -> style.Drawing:
        drawn.append(figure)
        return style.draw(figure, *args, **options)

    modules = (richness_curves, richness_maps, richness_ranks, richness_spectra)
    for module in (*modules, richness_transfer):
        monkeypatch.setattr(module, "draw", draw)
    return drawn


def test_a_run_and_its_start_share_a_colour_and_differ_in_dash() -> None:
    styles = styles_of(richness_record())
    assert styles["erm-s0"].color == styles["erm-s0/init"].color
    assert styles["erm-s0"].dash == "-" != styles["erm-s0/init"].dash
    assert len({s.color for s in styles.values()}) == 3
    assert list(names_of(richness_record()).values()) == NAMES


def test_spectra_have_a_line_and_a_band_per_checkpoint(figures: list[Figure]) -> None:
    (drawing,) = richness_spectra.spectra(richness_record())
    axes = figures[0].axes
    assert [panel.get_title() for panel in axes] == ["train", "iid", "ood"]
    assert all(len(p.lines) == len(p.collections) == len(RUNS) for p in axes)
    own = np.asarray(axes[0].lines[0].get_ydata())
    assert len(own) == UNITS and own.sum() == pytest.approx(1)
    assert axes[0].get_xscale() == axes[0].get_yscale() == "log"
    assert [t.get_text() for t in figures[0].legends[0].get_texts()] == NAMES
    assert "dropout0.9-s0 ood 6.840 [6.703, 6.977]" in drawing.alt


def test_redundancy_has_a_figure_per_split_with_all_curves(figures: list[Figure]) -> None:
    drawings = richness_curves.redundancy(richness_record())
    assert [drawing.part for drawing in drawings] == ["iid images", "ood images"]
    axes = figures[0].axes
    assert [panel.get_title() for panel in axes] == [
        "random units",
        "top components",
        "bottom components",
        "random projections",
        "trained head, units masked",
        "diffused redundancy",
    ]
    assert all(len(panel.lines) == len(RUNS) for panel in axes)
    masked = axes[4].lines[0]
    np.testing.assert_allclose(sorted(np.asarray(masked.get_xdata())), [0.1, 0.5, 1.0])


def test_concatenation_writes_gain_and_interval_off_the_diagonal(figures: list[Figure]) -> None:
    richness_curves.concatenation(richness_record())
    texts = [t.get_text() for t in figures[0].axes[0].texts]
    assert texts.count("+0.020\n[\u22120.010, +0.050]") == 5 * 4
    assert texts.count("") == 5


def test_wide_maps_mark_gains_whose_interval_leaves_zero_out(figures: list[Figure]) -> None:
    runs = tuple(f"run{i}" for i in range(9))
    record = richness_record(runs=runs, envs=("ink",))
    sure = {"value": 0.2, "low": 0.1, "high": 0.3}
    record = replace_rows(record, sure, "concatenation_gain", run="run0 | run1", split="iid")
    richness_curves.concatenation(record)
    assert [t.get_text() for t in figures[0].axes[0].texts].count("*") == 1


def test_layer_maps_name_the_layers(figures: list[Figure]) -> None:
    drawings = richness_maps.layer_maps(richness_record(layers=LAYERS))
    assert len(drawings) == 2  # five pairs on two splits
    axes = figures[0].axes[0]
    assert [t.get_text() for t in axes.get_yticklabels()] == ["layer1", "layer2", "features"]
    assert (axes.get_ylabel(), axes.get_xlabel()) == ("erm-s0/init", "erm-s0")
    assert [t.get_text() for t in axes.texts][:4] == ["0.80", "0.30", "0.30", "0.30"]
    assert richness_maps.layer_maps(richness_record()) == []


def test_the_map_of_checkpoints_has_cka_above_and_chance_below(figures: list[Figure]) -> None:
    richness_maps.checkpoint_map(richness_record())
    texts = np.array([t.get_text() for t in figures[0].axes[0].texts]).reshape(5, 5)
    assert set(texts[np.triu_indices(5, 1)]) == {"0.800\n[0.770, 0.830]"}
    assert set(texts[np.tril_indices(5, -1)]) == {"0.000\n[\u22120.030, 0.030]"}


def test_profiles_are_drawn_where_there_are_several_layers(figures: list[Figure]) -> None:
    richness_spectra.profiles(richness_record(layers=LAYERS))
    labels = [t.get_text() for t in figures[0].axes[-1].get_xticklabels()]
    assert labels == ["layer1", "layer2", "features"]
    assert richness_spectra.profiles(richness_record()) == []


def test_ranks_tie_what_intervals_do_not_separate(figures: list[Figure]) -> None:
    found = richness_ranks.rankings(richness_record(), transfer_record())
    richness_ranks.rank_maps(found)
    train, iid, ood = found
    assert iid.runs == ("erm-s0/init, dropout0.9-s0/init", *NAMES[1:2], *NAMES[3:])
    assert len(ood.measures) == len(train.measures) + 1 + 8
    by_name = dict(zip([m.name for m in iid.measures], iid.ranks, strict=True))
    assert by_name["effective rank"].tolist() == [1, 4, 3, 2]
    assert by_name["linear probe"].tolist() == [2.5] * 4
    assert figures[0].axes[0].get_yticklabels()[0].get_text() == "effective rank"


def test_the_table_of_ranks_shows_intervals_and_arrows() -> None:
    table = richness_tables.tables_of(richness_record())["ranks"]
    assert table["header"][:4] == [
        "Split, N",
        "Checkpoint",
        "Effective rank ↑",
        "units permuted",
    ]
    assert len(table["rows"]) == 3 * len(RUNS)
    assert table["rows"][0] == [
        "train, 40",
        "erm-s0/init",
        "9.000 ± 0.180",
        "14.00 ± 0.280",
        "6.000 ± 0.120",
        "3.000 ± 0.060",
        "7.000 ± 0.140",
    ]


def test_redundancy_is_of_the_examples_that_probes_are_tested_on() -> None:
    rows = richness_tables.tables_of(small())["redundancy"]["rows"]
    assert [row[0] for row in rows] == ["iid, 20"] * 3 + ["ood, 20"] * 3


def test_a_checkpoint_without_a_head_has_no_panel_for_it(figures: list[Figure]) -> None:
    richness_curves.redundancy(one())
    assert [panel.get_visible() for panel in figures[0].axes] == [True] * 4 + [False, True]


def test_tables_have_a_row_per_environment_too() -> None:
    rows = richness_tables.tables_of(richness_record())["environments"]["rows"]
    assert [row[0] for row in rows[:: len(RUNS)]] == [
        "ink, train, 40",
        "photo, train, 40",
        "all, train, 40",
        "ink, iid, 40",
        "photo, iid, 40",
        "all, iid, 40",
        "rotated, ood, 40",
    ]


def test_undefined_values_are_dashes_with_one_reason() -> None:
    record = richness_record()
    spectrum = richness_tables.tables_of(record)["spectrum"]
    assert {row[2] for row in spectrum["rows"]} == {DASH}
    (entry,) = reasons.undefined(record)
    assert entry["reason"] == REASON and str(entry["where"]).endswith("and 2 more")


def test_reasons_that_differ_in_numbers_are_one() -> None:
    record = richness_record(runs=("a", "b"))
    found = {"a|features|iid|ink|nc1": "only 3 left", "b|features|iid|ink|nc1": "only 4 left"}
    record.provenance["undefined"] = found | {"a | b|iid|all|similarity|cka": "no variation"}
    first, second = reasons.undefined(record)
    assert first["reason"] == "only 3 left (and the like with other numbers)"
    assert second["where"] == "a | b, iid, all, similarity"


def test_transfer_figures_have_all_checkpoints(figures: list[Figure]) -> None:
    record = transfer_record(layers=LAYERS)
    drawings = richness_transfer.drawings(record)
    assert {name: len(group) for name, group in drawings.items()} == {
        "few_shot": 1,
        "gaps": 1,
        "layer_probes": 1,
    }
    few, gaps, layers = figures
    assert [len(panel.lines) for panel in few.axes] == [len(RUNS)] * 2
    assert len(gaps.axes[0].lines) == 2 * len(RUNS)
    assert [t.get_text() for t in layers.axes[0].get_xticklabels()][-1] == "features"
    assert len(richness_transfer.layer_gain(record)["rows"]) == 4 * len(RUNS)


def test_text_in_a_heat_map_is_light_on_dark_cells() -> None:
    with style.theme():
        _, ((axes,),) = style.panels(1, 1, 2.0)
        values = np.array([[0.0, 1.0, np.nan]])
        heat.heat_map(
            axes, values, [["a", "b", ""]], ["row"], ["x", "y", "z"], cmap="gray", ends=(0, 1)
        )
    assert [mpl.colors.to_rgb(t.get_color()) for t in axes.texts[:2]] == [
        (1.0, 1.0, 1.0),
        (0.1, 0.1, 0.1),
    ]
