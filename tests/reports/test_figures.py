"""Tests for reports/figures.py and reports/dots.py."""

import pytest

from core.records import Record
from reports import dots, figures
from tests.reports.synthetic import linearity_record, without_intervals


def one() -> Record:
    return linearity_record(runs=("model",), envs=("photos",), split="given")


@pytest.mark.parametrize("record", [one(), without_intervals(one())])
def test_every_figure_can_be_drawn(record: Record) -> None:
    drawings = [
        *figures.interpolation(record),
        figures.path(record),
        dots.neighbours(record),
        dots.curvature(record),
        *dots.blocks(record),
    ]
    assert all(d.svg.startswith(b"<?xml") and len(d.alt) > 40 for d in drawings)


def test_figures_are_reproducible() -> None:
    record = one()
    assert figures.path(record) == figures.path(record)
    assert dots.neighbours(record) == dots.neighbours(record)


def test_many_runs_continue_on_a_further_figure() -> None:
    runs = tuple(f"a-rather-long-name-of-a-run-{i}-s{i}" for i in range(10))
    parts = figures.interpolation(linearity_record(runs=runs, envs=("photo", "sketch")))
    assert [drawing.part for drawing in parts] == [
        f"runs {runs[0]} to {runs[4]}",
        f"runs {runs[5]} to {runs[9]}",
    ]


def test_environments_in_distribution_come_first() -> None:
    record = linearity_record(envs=("zebra", "photo", "art"))
    assert figures.environments(record) == ["zebra", "photo", "art"]
    assert figures.splits(record) == ["iid", "ood"]


def test_alternative_texts_carry_the_numbers() -> None:
    record = linearity_record()
    r2 = next(iter(dots.linearity_verdicts(record))).estimate
    assert str(r2) in dots.neighbours(record).alt
    assert "control" in figures.run_names(record)["scratch-s0"]
