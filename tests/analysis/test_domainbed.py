"""Tests for analysis/domainbed.py, on lines as DomainBed's training script writes them."""

import json
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from numpy.testing import assert_allclose

from analysis.domainbed import domainbed_runs
from analysis.runs import read_runs
from core.errors import InputError

ARGS = {
    "algorithm": "ERM",
    "checkpoint_freq": None,
    "dataset": "PACS",
    "holdout_fraction": 0.2,
    "hparams_seed": 0,
    "seed": 7,
    "test_envs": [3],
    "trial_seed": 1,
}
HPARAMS = {"batch_size": 32, "lr": 1e-3, "resnet_dropout": 0.0, "weight_decay": 1e-4}
# Hold-out of the three training environments, then the two splits of the fourth.
ACCURACIES = {0: (0.1, 0.2, 0.3, 0.1, 0.1), 300: (0.9, 0.8, 0.7, 0.5, 0.6), 600: (0.8,) * 5}


def line(step: int, args: dict[str, Any], hparams: dict[str, Any]) -> dict[str, Any]:
    a, b, c, inner, outer = ACCURACIES[step]
    found = {"env0_out_acc": a, "env1_out_acc": b, "env2_out_acc": c, "env0_in_acc": -1}
    found |= {"env3_in_acc": inner, "env3_out_acc": outer, "epoch": step / 50.0}
    found |= {"loss": 0.1, "mem_gb": 1.0, "step": step, "step_time": 0.5}
    return found | {"args": ARGS | args, "hparams": HPARAMS | hparams}


def write(
    folder: Path,
    *,
    name: str = "results.jsonl",
    steps: tuple[int, ...] = (0, 300, 600),
    args: dict[str, Any] | None = None,
    hparams: dict[str, Any] | None = None,
) -> None:
    folder.mkdir(exist_ok=True)
    lines = [json.dumps(line(step, args or {}, hparams or {})) for step in steps]
    (folder / name).write_text("".join(f"{text}\n" for text in lines))


def test_the_best_and_the_final_step_by_hand(tmp_path: Path) -> None:
    write(tmp_path / "a")
    best, final = domainbed_runs(tmp_path).to_dict("records")
    assert (best["selection"], final["selection"]) == ("best", "final")
    # 300 and 600 are equally good i.i.d., up to rounding: the first of them counts as DomainBed's.
    assert_allclose([best["iid"], final["iid"]], [0.8, 0.8])
    assert_allclose([final["ood"], final["ood_in"]], [0.8, 0.8])
    assert_allclose([best["ood"], best["ood_in"]], [0.8 * 0.5 + 0.2 * 0.6, 0.5])
    assert (best["env"], best["seed"], best["split"], best["run"]) == ("S", 7, 1, "a")
    assert (best["method"], best["drop_rate"], best["steps"]) == ("erm", 0.0, 600)
    assert best["cell"] == "lr 0.001, weight decay 0.0001"
    assert_allclose(best["seconds"], 0.5 * 601)


def test_files_of_the_papers_code(tmp_path: Path) -> None:
    hparams = {"resnet_dropout": 0.9, "lastlrfac": 10.0, "pretrain_version": "v2"}
    for name in ("results.jsonl", "ensemble300_results.jsonl", "swa300_results.jsonl"):
        write(tmp_path / "run", name=name, hparams=hparams)
    write(tmp_path / "scratch", hparams={"pretrain_version": "none"})
    runs = domainbed_runs(tmp_path, pretrained="other")
    dropout = runs.query("drop_rate == 0.9")
    assert set(dropout["method"]) == {"dropout", "ensemble_trajectory", "average_trajectory"}
    assert set(dropout["pretrained"]) == {"ResNet-50 V2"}
    assert set(dropout["head_lr_factor"]) == {10.0} and len(dropout) == 6
    assert runs.query("from_scratch")["run"].tolist() == ["scratch", "scratch"]


def test_other_algorithms_and_random_cells_keep_their_names(tmp_path: Path) -> None:
    write(tmp_path / "a", args={"algorithm": "CORAL", "hparams_seed": 4})
    row = domainbed_runs(tmp_path, pretrained="ResNet-50 V1").iloc[0]
    assert (row["method"], row["pretrained"]) == ("coral", "ResNet-50 V1")
    assert row["cell"] == "lr 0.001, weight decay 0.0001, hparams 4"


def test_lines_of_a_resumed_run_count_once(tmp_path: Path) -> None:
    write(tmp_path / "a", steps=(0, 300, 300, 600))
    write(tmp_path / "b", args={"seed": 8})
    runs = domainbed_runs(tmp_path)
    assert runs["seconds"].nunique() == 1


def test_runs_with_two_environments_held_out_are_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path / "two", args={"test_envs": [2, 3]})
    with pytest.raises(InputError, match="every run in .* held out several environments"):
        domainbed_runs(tmp_path)
    write(tmp_path / "one")
    with caplog.at_level(logging.INFO):
        assert set(domainbed_runs(tmp_path)["run"]) == {"one"}
    assert "two/results.jsonl' is left out" in caplog.text


WRONG = [
    ('{"step": 0}', "lacks args, hparams"),
    ("no json", "cannot be read as JSON lines"),
    ("", "is empty"),
    (json.dumps(line(0, {}, {}) | {"env1_out_acc": None}), "lacks env1_out_acc"),
    (json.dumps(line(0, {"test_envs": [5]}, {})), "lacks env5_in_acc"),
]


@pytest.mark.parametrize(("text", "message"), WRONG)
def test_what_domainbed_does_not_write_is_refused(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "results.jsonl").write_text(text)
    with pytest.raises(InputError, match=message):
        domainbed_runs(tmp_path)


def test_the_command_writes_the_frame(tmp_path: Path) -> None:
    write(tmp_path / "a")
    output = tmp_path / "runs.parquet"
    command = [sys.executable, "-m", "analysis.domainbed", str(tmp_path), "--output", str(output)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0 and "2 rows in" in done.stderr
    assert read_runs(output)["env"].tolist() == ["S", "S"]
    empty = subprocess.run([*command[:3], str(output.parent / "none")], capture_output=True)
    assert empty.returncode == 2 and b"holds no results.jsonl" in empty.stderr
