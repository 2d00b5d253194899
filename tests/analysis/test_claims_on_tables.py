"""Tests for analysis/claims on tables as they come: with gaps, mixed settings, and text."""

import math
import re
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from analysis.bootstrap import Mean
from analysis.claims.judging import chosen
from analysis.claims.ledger import CLAIMS, Entry, ledger, shared_notes, table
from analysis.claims.requirement import BONFERRONI, Judgement, required
from analysis.claims.rows import levels, main_runs
from analysis.runs import check_runs
from tests.analysis.claims_data import CLAIMED, OPPOSITE, simulated
from tests.analysis.study_data import accuracies, grid

RUNS = simulated(CLAIMED)
MAIN_PLAIN = "method == 'erm' and train_size == 1000 and head_lr_factor == 1 and not from_scratch"


def of(runs: pd.DataFrame, name: str) -> Entry:
    return ledger(check_runs(runs), [claim for claim in CLAIMS if claim.name == name])[0]


def changed(change: Callable[[pd.DataFrame], pd.DataFrame]) -> pd.DataFrame:
    return check_runs(change(RUNS.copy()))


def with_rows(*more: pd.DataFrame) -> pd.DataFrame:
    return check_runs(pd.concat([RUNS, *more], ignore_index=True))


def test_a_data_set_that_lacks_a_side_is_left_out_and_named() -> None:
    other = RUNS.query("method == 'dropout'").assign(dataset="PACS")
    found = of(with_rows(other), "C1")
    assert found.verdict == "supported" and found.estimate == of(RUNS, "C1").estimate
    assert "left out PACS: no run of erm or dropout at dropout rate 0" in found.reason


def test_the_main_setting_is_one_of_a_data_set() -> None:
    """With one failed run of each size, no environment is judged at another size."""
    sizes = [grid(train_size=size, steps=100) for size in (1000, 10_000)]
    failed = [("ink", 1000), ("photo", 10_000)]
    for method, rate, ood in (("erm", 0.0, 0.5), ("dropout", 0.9, 0.6)):
        sizes += [f.assign(method=method, drop_rate=rate, ood=ood) for f in sizes[:2]]
    runs = accuracies(pd.concat(sizes[2:], ignore_index=True), ood=0.5)
    for env, size in failed:
        alike = (runs["env"] == env) & (runs["train_size"] == size) & (runs["method"] == "erm")
        runs = runs.drop(runs.index[alike.to_numpy(bool)][0])
    main = main_runs(check_runs(runs))
    assert set(main["train_size"]) == {10_000}  # ties go to the largest
    assert "digits at 100 steps, 10000 images, of 2 settings" in of(runs, "C1").reason


def test_environments_of_different_sizes_have_levels() -> None:
    env = pd.Series(list("xxyyz"))
    assert levels(pd.Series([10.0, 100, 8, 80, 90]), env).tolist() == [-2, -1, -2, -1, -1]
    assert levels(pd.Series([10.0, 100, 10, 100, 10]), env).tolist() == [10, 100, 10, 100, 10]


def test_an_environment_without_the_main_setting_is_named() -> None:
    only_small = RUNS.assign(steps=RUNS["steps"].mask(RUNS["env"] == "ink", 7))
    found = chosen(only_small, main_runs(only_small))
    assert found[-1] == "digits without ink, which lacks that setting"


def test_a_rate_that_ran_elsewhere_only_does_not_hide_the_best_one() -> None:
    stray = RUNS.query("method == 'dropout' and drop_rate == 0.9 and train_size == 1000")
    stray = stray.query("head_lr_factor == 1 and not from_scratch and cell == 'a'")
    stray = stray.assign(drop_rate=0.95, cell="elsewhere", ood=0.1)
    found = of(with_rows(stray), "C5")
    assert found.verdict == "supported" and "digits without rate 0.95, of too few" in found.reason
    assert found.judgement and max(found.judgement.requirements[0].rows) < len(RUNS)


def test_an_environment_without_a_rate_does_not_hide_the_best_one() -> None:
    found = of(RUNS.query("not (env == 'ink' and drop_rate == 0.5)"), "C5")
    assert found.verdict == "supported"
    assert "digits without environment ink, of too few runs" in found.reason


def test_plain_runs_without_noise_count_once() -> None:
    bare = changed(lambda f: f.assign(noise=f["noise"].mask(f["drop_rate"] == 0, "none")))
    assert of(bare, "C1").estimate == of(RUNS, "C1").estimate
    twins = with_rows(RUNS.query(MAIN_PLAIN).assign(noise="gaussian", ood=0.1))
    assert of(twins, "C1").estimate == of(RUNS, "C1").estimate


def test_a_run_without_learning_rate_leaves_the_others() -> None:
    row = RUNS.query(MAIN_PLAIN).index[4]
    found = of(changed(lambda f: f.assign(lr=f["lr"].mask(f.index == row))), "C11")
    assert found.verdict == "supported"
    assert "digits: 1 runs without a learning rate or steps left out" in found.reason


def test_tangent_runs_from_scratch_are_no_rates() -> None:
    scratch = RUNS.query("from_scratch").assign(method="tangent")
    found = of(pd.concat([RUNS.query("not from_scratch"), scratch]), "C7")
    assert found.reason.startswith(
        "digits: no run of erm or dropout from scratch at a rate of 0.5"
    )


@pytest.mark.parametrize(
    ("name", "measure"),
    [("C11", "interpolation_gap_max"), ("C14", "pretraining"), ("C15", "creation_r2")],
)
def test_a_measure_of_text_is_said(name: str, measure: str) -> None:
    found = of(RUNS.assign(**{measure: "n/a"}), name)
    assert f"the measure {measure} holds 'n/a', which is no number" in found.reason


def test_measures_of_text_are_none() -> None:
    text = RUNS.assign(nc1="n/a", barrier="n/a")
    assert "digits without nc1" in of(text, "C16").reason
    assert "digits without barriers" in of(text, "C12").reason


def test_linear_models_are_compared_at_their_training_size() -> None:
    linear = RUNS.query("method == 'linear'")
    small = linear.assign(train_size=100, ood=linear["ood"] - 0.1)
    found = of(with_rows(small), "C13")
    assert found.estimate == of(RUNS, "C13").estimate
    assert found.runs == of(RUNS, "C13").runs
    assert "9 runs without a partner" in found.reason


def test_a_linear_model_without_a_full_run_leaves_the_others() -> None:
    linear = RUNS.query("method == 'linear'").assign(drop_rate=0.3)
    assert of(with_rows(linear), "C13").estimate == of(RUNS, "C13").estimate


def test_linear_fits_of_several_cells_count_as_their_mean() -> None:
    linear = RUNS.query("method == 'linear'")
    fits = [linear.assign(cell=c, ood=linear["ood"] + d) for c, d in (("x", 0.03), ("y", -0.03))]
    runs = check_runs(pd.concat([RUNS.drop(linear.index), *fits]))
    found, usual = of(runs, "C13"), of(RUNS, "C13")
    assert found.verdict == "supported"
    assert math.isclose(found.estimate.value, usual.estimate.value, abs_tol=1e-12)


def test_features_of_which_little_is_explained_may_be_new() -> None:
    noise = np.random.default_rng(0).normal(0, 0.001, len(RUNS))
    little = RUNS.assign(creation_r2=0.05 + noise, creation_r2_null=0.01)
    found = of(little.query("train_size == 1000"), "C15")
    assert found.verdict == "contradicted" and found.deciding == "digits: R2"
    large = (RUNS["train_size"] > 1000).to_numpy()
    unmeasured = RUNS.assign(creation_r2=RUNS["creation_r2"].mask(large))
    assert of(unmeasured, "C15").verdict == "supported"


def test_sizes_that_hardly_differ_decide_nothing() -> None:
    world = simulated(OPPOSITE).query("train_size == 1000")
    two = pd.concat([RUNS.query("train_size == 1000"), world.assign(dataset="b", train_size=1010)])
    found = of(two, "C6")
    assert found.verdict == "not tested"
    assert "no data set has sizes x steps that differ 3 times" in found.reason
    assert "between data sets, which decides nothing: mean best rate 0.9 at 1e+05" in found.reason


def test_sizes_are_compared_at_cells_that_all_have() -> None:
    """The larger set has one cell, in which the smaller set's best rate is the same."""
    large = RUNS["train_size"] > 1000
    odd = (RUNS["cell"] == "a") & (RUNS["drop_rate"] == 0.9) & ~large
    runs = RUNS.assign(ood=RUNS["ood"].mask(odd, RUNS["ood"] - 0.03))
    assert of(runs[~large | (RUNS["cell"] == "a")], "C6").estimate.value == 0
    apart = RUNS.assign(cell=RUNS["cell"].mask(large, "elsewhere " + RUNS["cell"]))
    assert of(apart, "C6").verdict == "not tested"


def test_draws_give_no_p_value_of_zero() -> None:
    judgement = of(RUNS, "C6").judgement
    assert judgement and 0 < judgement.support < 0.001


def test_the_measure_that_decides_is_shown() -> None:
    found = of(RUNS.assign(cdnv=-RUNS["cdnv"]), "C16")
    assert found.verdict == "supported" and "3 of 5 decide" in found.reason
    assert found.deciding != "digits: cdnv, dropout - plain"


def test_the_kth_requirement_decides_a_partial_conjunction() -> None:
    means = [Mean(value=v, stderr=0.01, degrees=9, num=9) for v in (0.1, -0.2, 0.05, 0.08, -0.3)]
    found = [required(str(m.value), m, [0], low=0) for m in means]
    judge = lambda k: Judgement(requirements=found, needed=k, refuting=k)
    assert (judge(3).word, judge(3).deciding.name) == ("supported", "0.05")
    assert Judgement(requirements=found).deciding.name == "-0.3"
    refuted = Judgement(requirements=found, needed=4, refuting=2)
    assert (refuted.word, refuted.deciding.name) == ("contradicted", "-0.2")


def test_runs_without_a_partner_and_what_intervals_lack_are_printed() -> None:
    lost = RUNS.query(MAIN_PLAIN).index[:2]
    found = of(RUNS.drop(lost), "C1")
    assert "2 runs without a partner" in found.reason
    printed = " ".join(table([of(RUNS.query("cell == 'a'"), "C1")]).split())
    assert "for the cells at hand" in printed


def test_a_note_that_several_claims_share_is_printed_once() -> None:
    of_one_cell = RUNS.query("cell == 'a'")
    entries = ledger(of_one_cell)
    note = "one cell: over seeds and splits only, for the cells at hand"
    assert sum(note in entry.notes for entry in entries) > 3
    assert shared_notes(entries).count(note) == 1 and shared_notes(entries[:2]) == []
    printed = " ".join(table(entries).split())
    assert printed.count(note) == 1 and re.search(rf"; note \d.* Note \d: {note}\.", printed)


def test_models_that_did_not_learn_are_told_of() -> None:
    assert "hardly learned" not in of(RUNS, "C1").reason
    collapsed = RUNS.index.isin(RUNS.query(MAIN_PLAIN).index[:2])
    found = of(RUNS.assign(iid=RUNS["iid"].mask(collapsed, 0.1)), "C1")
    assert "2 of 72 models hardly learned (i.i.d. accuracy down to 0.10)" in found.reason


def test_barriers_that_are_all_alike_say_so() -> None:
    found = of(RUNS.assign(barrier=RUNS["barrier"] * 0), "C12")
    assert found.verdict == "inconclusive" and "all of them are alike" in found.reason


def test_rules_say_how_one_requirement_refutes() -> None:
    of_one = [claim for claim in CLAIMS if claim.name not in {"C5", "C6", "C14", "C16"}]
    assert [claim.name for claim in of_one if BONFERRONI not in claim.rule] == []
