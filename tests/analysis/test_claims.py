"""Tests for analysis/claims: studies simulated under each claim and under its negation."""

import json
import math
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from numpy.testing import assert_allclose

from analysis.bootstrap import Mean
from analysis.claims.__main__ import runs_file
from analysis.claims.ledger import CLAIMS, Entry, document, ledger, table
from analysis.claims.practice import spread_difference
from analysis.claims.requirement import Judgement, conjunction, required
from analysis.claims.rows import main_runs
from analysis.pairing import paired
from analysis.runs import check_runs
from core.errors import InputError
from tests.analysis.claims_data import CLAIMED, NOTHING, OPPOSITE, simulated
from tests.analysis.study_data import accuracies, grid

NAMES = [claim.name for claim in CLAIMS]


@pytest.fixture(scope="module")
def claimed() -> dict[str, Entry]:
    return {entry.claim.name: entry for entry in ledger(simulated(CLAIMED))}


@pytest.fixture(scope="module")
def opposite() -> dict[str, Entry]:
    return {entry.claim.name: entry for entry in ledger(simulated(OPPOSITE))}


def test_every_claim_of_the_paper_is_declared() -> None:
    assert [f"C{number}" for number in range(1, 20)] == NAMES
    for claim in CLAIMS:
        assert all(vars(claim).values())


@pytest.mark.parametrize("name", NAMES)
def test_a_claim_is_supported_where_it_holds(claimed: dict[str, Entry], name: str) -> None:
    assert claimed[name].verdict == "supported", claimed[name]
    assert claimed[name].runs and claimed[name].stands


# That averages of dropout runs are no better than those of plain ones has a world of its own.
@pytest.mark.parametrize("name", [name for name in NAMES if name != "C10"])
def test_a_claim_is_contradicted_where_its_opposite_holds(
    opposite: dict[str, Entry], name: str
) -> None:
    assert opposite[name].verdict == "contradicted", opposite[name]


def test_averages_that_dropout_harms_contradict_c10() -> None:
    runs = simulated(CLAIMED)
    averages = runs["method"].str.endswith("trajectory") & (runs["drop_rate"] > 0)
    runs.loc[averages, "ood"] -= 0.1
    assert _of(runs, "C10").verdict == "contradicted"


def test_one_best_rate_at_all_sizes_decides_nothing_on_c6() -> None:
    entry = _of(simulated(replace(CLAIMED, large=CLAIMED.ood)), "C6")
    assert entry.verdict == "inconclusive"
    assert (entry.estimate.value, entry.estimate.low, entry.estimate.high) == (0, 0, 0)


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_noise_decides_little(seed: int) -> None:
    entries = ledger(simulated(NOTHING, seed=seed, noise=0.02))
    # Cells differ even there, so that the worst of dropout lies below the best of ensembles.
    words = Counter(entry.verdict for entry in entries if entry.claim.name != "C3")
    assert words["inconclusive"] >= 16 and words["not tested"] == 0
    assert not any(entry.stands for entry in entries)


def test_what_was_not_run_is_not_tested() -> None:
    entries = ledger(check_runs(accuracies(grid(), ood=0.5)))
    assert {entry.verdict for entry in entries} == {"not tested"}
    for entry in entries:
        assert entry.reason.endswith(f"needed: {entry.claim.needs}") and not entry.runs
        assert math.isnan(entry.estimate.value)
    assert "no run of erm or dropout at dropout rate 0.9" in entries[0].reason


def test_without_anything_that_varies_nothing_is_decided() -> None:
    runs = simulated(CLAIMED)
    entries = ledger(runs.query("(seed == 0 and cell == 'a') or seed == -1"))
    assert {e.verdict for e in entries} == {"inconclusive", "not tested"}


def test_runs_of_other_settings_are_left_out() -> None:
    runs = simulated(CLAIMED)
    kept = main_runs(runs)
    assert set(kept["train_size"]) == {1000} and set(kept["pretrained"]) == {"rich"}
    assert set(kept["head_lr_factor"]) == {1.0} and not kept["from_scratch"].any()
    others = [runs.assign(noise="gaussian", ood=0.1), runs.assign(placement="stages", ood=0.1)]
    both = check_runs(pd.concat([runs, *others]))
    assert len(main_runs(both)) == len(kept)
    assert _of(both, "C1").estimate == _of(runs, "C1").estimate


@pytest.mark.slow
def test_runs_of_other_weights_change_nothing(claimed: dict[str, Entry]) -> None:
    runs = simulated(CLAIMED)
    others = runs.query("method == 'erm' and cell != 'a' and head_lr_factor == 1")
    others = others.assign(pretrained="poor", pretraining=1.0, ood=0.1, iid=0.2)
    both = check_runs(pd.concat([runs, others.query("not from_scratch")]))
    for name, entry in {entry.claim.name: entry for entry in ledger(both)}.items():
        assert entry.estimate == claimed[name].estimate, name


def test_the_best_step_counts_where_there_is_one() -> None:
    runs = simulated(CLAIMED)
    single = runs[runs["method"].isin(["erm", "dropout"])].assign(selection="best", ood=0.5)
    both = check_runs(pd.concat([runs, single]))
    assert _of(both, "C1").verdict == "inconclusive" and _of(both, "C1").estimate.value == 0
    assert _of(both, "C2").verdict != "not tested"  # averages are there at the final step only


def test_one_data_set_is_enough_to_contradict_and_all_are_needed_to_support() -> None:
    good, bad = simulated(CLAIMED), simulated(OPPOSITE).assign(dataset="PACS")
    two = check_runs(pd.concat([good, simulated(CLAIMED, seed=1).assign(dataset="PACS")]))
    assert _of(two, "C1").verdict == "supported"
    mixed = _of(check_runs(pd.concat([good, bad])), "C8")
    assert mixed.verdict == "contradicted" and mixed.deciding.startswith("PACS: ")


def test_bonferroni_and_largest_p_value() -> None:
    assert_allclose(conjunction([0.01, 0.04, 0.02], 3), 0.04)
    assert_allclose(conjunction([0.01, 0.04, 0.02], 1), 0.03)
    assert conjunction([0.9, 0.8], 1) == 1


def test_a_requirement_has_the_p_values_of_its_interval() -> None:
    mean = Mean(value=0.01, stderr=0.004, degrees=6, num=12)
    above = required("a", mean, [0], low=0)
    assert (above.support < 0.05) == (mean.interval()[0] > 0)
    assert_allclose(above.support, 2 * mean.p_above(0))
    inside = required("a", mean, [0], low=-0.02, high=0.02)
    low, high = mean.interval(0.9)
    assert (inside.support < 0.05) == (low > -0.02 and high < 0.02)
    outside = required("a", mean, [0], low=-0.02, high=0.0)
    assert_allclose(outside.against, 2 * mean.p_above(0))
    assert Judgement(requirements=[outside]).word == "contradicted"


def test_the_spread_of_cells_by_hand() -> None:
    frame = grid(envs=("ink",), cells=("a", "b"), seeds=(0, 1), iid=0.9)
    dropout = check_runs(frame.assign(ood=[0.5, 0.5, 0.6, 0.6]))
    plain = check_runs(frame.assign(ood=[0.5, 0.5, 0.52, 0.52]))
    found = spread_difference(paired(dropout, plain))
    assert_allclose(found.value, (0.1 - 0.02) / 2**0.5)
    assert found.varies == "seeds" and found.stderr < 1e-12


def test_the_ledger_is_json_and_a_table(claimed: dict[str, Entry]) -> None:
    entries = list(claimed.values())
    text = json.dumps(document(entries), allow_nan=False)
    first = json.loads(text)["claims"][0]
    assert (
        first["verdict"] == "supported" and first["runs"] and first["paper"].startswith("+0.013")
    )
    assert first["low"] < first["value"] < first["high"] and "judge" not in first
    lines = table(entries).splitlines()
    assert lines[1].startswith("C1     supported*") and max(map(len, lines)) < 140


def test_the_command_writes_and_prints_the_ledger(tmp_path: Path) -> None:
    simulated(CLAIMED).to_parquet(tmp_path / "runs.parquet")
    output = tmp_path / "new" / "ledger.json"
    done = _command(str(tmp_path), "--output", str(output))
    assert done.returncode == 0 and done.stdout.startswith("claim  verdict")
    assert len(json.loads(output.read_text())["claims"]) == 19


def test_the_command_says_what_is_missing(tmp_path: Path) -> None:
    done = _command("--runs", str(tmp_path))
    assert done.returncode == 2 and "holds no runs.parquet or runs.jsonl" in done.stderr


def _command(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "analysis.claims", *words]
    return subprocess.run(command, capture_output=True, text=True)


def _of(runs: pd.DataFrame, name: str) -> Entry:
    return ledger(runs, [claim for claim in CLAIMS if claim.name == name])[0]


@pytest.mark.parametrize("inside", ["runs.parquet", "runs.jsonl", "study/runs.parquet"])
def test_runs_are_found_where_a_sweep_and_a_study_put_them(inside: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="runs.jsonl, nor does .*study'"):
        runs_file(tmp_path)
    (tmp_path / inside).parent.mkdir(exist_ok=True)
    (tmp_path / inside).touch()
    assert runs_file(tmp_path) == runs_file(tmp_path / inside) == tmp_path / inside
