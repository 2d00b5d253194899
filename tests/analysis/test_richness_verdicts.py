"""Tests for analysis/richness_verdicts.py."""

import math
from dataclasses import replace

import pytest

from analysis.estimates import Estimate
from analysis.richness_verdicts import (
    MEASURES,
    against_init,
    between_runs,
    look_up,
    places,
    summary,
    vote,
    voting,
)
from core.records import Metric, Record
from tests.reports.synthetic import replace_rows, without_intervals
from tests.reports.synthetic_richness import RUNS, richness_record

HIGH, LOW = Estimate(5, 4, 6), Estimate(2, 1, 3)
NEAR = Estimate(4.5, 3.5, 5.5)


@pytest.mark.parametrize(
    ("first", "second", "higher", "lower"),
    [
        (HIGH, LOW, "richer", "poorer"),
        (LOW, HIGH, "poorer", "richer"),
        (HIGH, NEAR, "undecided", "undecided"),
        (HIGH, HIGH, "undecided", "undecided"),
        (HIGH, Estimate(2), "undecided", "undecided"),
        (HIGH, Estimate(2, 2, 2), "undecided", "undecided"),
    ],
)
def test_a_vote_asks_intervals_to_part_on_the_declared_side(
    first: Estimate, second: Estimate, higher: str, lower: str
) -> None:
    assert vote(first, second, Metric(title="m", direction="higher")) == higher
    assert vote(first, second, Metric(title="m", direction="lower")) == lower


def test_touching_intervals_overlap() -> None:
    touching = Estimate(3.5, 3, 4)
    assert vote(HIGH, touching, Metric(title="m", direction="higher")) == "undecided"


def test_a_metric_without_a_direction_has_no_vote() -> None:
    with pytest.raises(ValueError, match="no direction"):
        vote(HIGH, LOW, Metric(title="NC1"))
    names = {measure.metric for measure in voting(richness_record())}
    assert names & {"effective_rank_centred", "correlation"} and not names & {
        "nc1",
        "diffused_redundancy",
    }
    assert {"nc1", "diffused_redundancy"} <= {measure.metric for measure in MEASURES}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["richer", "richer", "undecided"], "richer"),
        (["poorer", "undecided"], "poorer"),
        (["poorer", "richer"], "mixed"),
        (["undecided", "undecided"], "undecided"),
        ([], "undecided"),
    ],
)
def test_all_measures_together(words: list[str], expected: str) -> None:
    assert summary(words) == expected


def test_every_run_is_compared_with_its_own_start_split_by_split() -> None:
    found = against_init(richness_record())
    assert [(c.first, c.second, c.split) for c in found] == [
        (run, f"{run}/init", split)
        for run in ("erm-s0", "dropout0.9-s0")
        for split in ("train", "iid", "ood")
    ]
    erm = found[1]
    assert erm.word == "poorer"
    assert {v.measure.name for v in erm.saying("undecided")} == {"subset accuracy"}
    assert len(erm.votes) == len(voting(richness_record()))


def test_training_examples_have_no_vote_on_redundancy() -> None:
    train, iid = against_init(richness_record())[:2]
    assert len(train.votes) == len(iid.votes) - 1


def test_fine_tuned_runs_are_compared_in_pairs() -> None:
    found = between_runs(richness_record())
    pairs = list(dict.fromkeys((c.first, c.second) for c in found))
    assert pairs == [
        ("erm-s0", "dropout0.9-s0"),
        ("erm-s0", "scratch-s0"),
        ("dropout0.9-s0", "scratch-s0"),
    ]


def test_turning_a_comparison_round_turns_its_word() -> None:
    turned = (RUNS[3], RUNS[1])
    forth = between_runs(richness_record(runs=(RUNS[1], RUNS[3])))
    back = between_runs(richness_record(runs=turned))
    opposite = {"richer": "poorer", "poorer": "richer"}
    assert [opposite.get(c.word, c.word) for c in forth] == [c.word for c in back]
    assert {c.word for c in forth} == {"poorer"}


def test_without_intervals_nothing_is_decided() -> None:
    record = without_intervals(richness_record())
    assert {c.word for c in (*against_init(record), *between_runs(record))} == {"undecided"}


def test_undefined_values_have_no_vote() -> None:
    record: Record = replace_rows(
        richness_record(), {"value": math.nan}, "rankme", run="erm-s0", split="iid"
    )
    assert look_up(record, "erm-s0", "iid", "rankme") is None
    iid = against_init(record)[1]
    assert "RankMe" not in {vote.measure.name for vote in iid.votes}


def test_a_split_is_looked_at_as_a_whole() -> None:
    assert places(richness_record(), "erm-s0") == {"train": "all", "iid": "all", "ood": "rotated"}
    one = richness_record(runs=("a",), envs=("all",), files=True)
    assert places(one, "a") == {"given": "all"}


def test_other_environments_are_not_compared() -> None:
    """A run that held out another environment is no richer or poorer for that."""
    record = richness_record()
    values = record.values.copy()
    run = next(run for run in RUNS if not run.endswith("/init"))
    values.loc[(values["run"] == run) & (values["split"] == "ood"), "env"] = "elsewhere"
    found = [c for c in between_runs(replace(record, values=values)) if run in (c.first, c.second)]
    assert {c.split for c in found} == {c.split for c in between_runs(record)} - {"ood"}


def test_an_interval_of_rounding_decides_nothing() -> None:
    rounded = Estimate(1, 1 - 1e-15, 1 + 1e-15)
    assert vote(HIGH, rounded, Metric(title="m", direction="higher")) == "undecided"
