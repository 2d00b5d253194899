"""Tests for the figures and tables of the study of linear fine-tuning."""

from itertools import product
from typing import Any

import pandas as pd
import pytest

from analysis.estimates import DASH, number
from analysis.linear_counterparts import ON_KERNEL_IMAGES, contrasts
from analysis.runs import check_runs
from core.records import Record, tidy
from reports import counterparts, linearity_grid
from reports.linear_study import claim_lines
from tests.analysis.study_data import accuracies, grid

LRS, STEPS = (0.001, 0.01), (100, 400)
LOWEST_R2 = -30.0  # of a network trained from scratch


def compared() -> pd.DataFrame:
    """Four methods at two rates, two seeds, two environments."""
    parts = []
    for method, rate, selection in product(
        ("network", "tangent", "linear", "kernel", ON_KERNEL_IMAGES), (0.0, 0.9), ("best", "final")
    ):
        name = ("dropout" if rate else "erm") if method == "network" else method
        of = {"envs": ("ink", "photo"), "cells": ("a",), "drop_rate": rate}
        frame = grid(**of, method=name, selection=selection)
        parts.append(accuracies(frame, 0.6, 0.8, seed=len(parts), noise=0.02))
    return check_runs(pd.concat(parts))


def grid_runs() -> list[dict[str, Any]]:
    shared = {"dataset": "d", "env": "ink", "cell": "a", "train_size": 90, "drop_rate": 0.0}
    shared |= {"iid": 0.9, "ood": 0.5, "selection": "final", "method": "erm", "seed": 0}
    tuned = [
        shared | {"run": f"lr{lr}-n{steps}", "lr": lr, "steps": steps}
        for lr, steps in product(LRS, STEPS)
    ]
    scratch = shared | {"run": "scratch", "lr": 0.01, "steps": 400, "from_scratch": True}
    return [*tuned, scratch, *[run | {"method": "tangent", "run": "t"} for run in tuned]]


def grid_record() -> Record:
    """R2 and accuracy of every run; from scratch there is no tangent model."""
    rows = []
    for run in grid_runs()[: len(LRS) * len(STEPS) + 1]:
        is_scratch = run["run"] == "scratch"
        place = {"run": run["run"], "env": "all", "split": "iid"}
        ends = lambda value: {"value": value, "low": value - 0.1, "high": value + 0.1}
        r2 = ends(LOWEST_R2 if is_scratch else 0.8) | {"at": 1.0, "layer": "features"}
        rows.append(place | {"metric": "explained_displacement"} | r2)
        rows.append(place | {"metric": "weight_accuracy", "at": 1.0} | ends(0.7))
        if not is_scratch:
            rows.append(place | {"metric": "tangent_accuracy_difference"} | ends(-0.02))
    return Record(probe="linear_study", config={}, values=tidy(rows), metrics={})


@pytest.fixture(scope="module")
def runs() -> pd.DataFrame:
    return compared()


def test_a_faster_head_of_all_networks_leaves_claims_tested(runs: pd.DataFrame) -> None:
    measured = runs.assign(creation_probe_difference=0.0, creation_r2=0.8, creation_r2_null=0.0)
    lines = claim_lines(measured)
    assert [line["name"][:3] for line in lines] == ["C13", "C15"]
    assert "not tested" not in {line["word"] for line in lines}
    networks = measured["method"] != "linear"
    faster = measured.assign(head_lr_factor=networks.map({True: 10.0, False: 1.0}))
    assert claim_lines(check_runs(faster)) == lines


def test_there_is_a_figure_per_split_that_tells_its_differences(runs: pd.DataFrame) -> None:
    found = contrasts(runs)
    drawings = counterparts.drawings(runs, found)
    assert [drawing.part for drawing in drawings] == ["iid accuracy", "ood accuracy"]
    for drawing, split in zip(drawings, ("iid", "ood"), strict=True):
        said = [str(c.mean.estimate) for c in found if c.split == split]
        assert all(words in drawing.alt for words in said) and len(said) == 10
        assert drawing.svg.startswith(b"<?xml")


def test_the_table_has_a_row_per_contrast_with_its_word(runs: pd.DataFrame) -> None:
    found = contrasts(runs)
    table = counterparts.table(found)
    assert [row[6] for row in table["rows"]] == [c.test.word for c in found]
    assert {len(row) for row in table["rows"]} == {len(table["header"])}


def test_a_table_without_intervals_has_dashes(runs: pd.DataFrame) -> None:
    alone = check_runs(runs.loc[runs["seed"] == 0, :])
    assert {row[5] for row in counterparts.table(contrasts(alone))["rows"]} == {DASH}


def test_the_grid_shows_scratch_last_and_what_is_not_there_as_a_dash() -> None:
    frame, record = check_runs(pd.DataFrame(grid_runs())), grid_record()
    table = linearity_grid.table(frame, record)
    assert len(table["rows"]) == len(LRS) * len(STEPS) + 1
    last = table["rows"][-1]
    assert (last[0], last[7], last[9]) == ("scratch", DASH, DASH) and last[6] != DASH
    drawing = linearity_grid.drawing(frame, record)
    assert f"scratch {number(LOWEST_R2)}" in drawing.alt
    assert linearity_grid.drawing(frame, record).svg == drawing.svg
