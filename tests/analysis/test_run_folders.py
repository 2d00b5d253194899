"""Tests for analysis/run_folders.py: which evaluations a run folder stands for."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from analysis.run_folders import runs_of_folders
from core.errors import InputError

OPTIONS = {
    "data": "pictures/pacs",
    "test_env": ["sketch"],
    "pretrained": "weights.safetensors",
    "drop_rate": 0.9,
    "seed": 3,
    "split_seed": 4,
    "steps": 20,
    "lr": 0.1,
    "weight_decay": 0.01,
}


def line(step: int, iid: float, ood: float, **more: float) -> dict[str, Any]:
    return {"step": step, "lr": 0.001, "iid_accuracy": iid, "ood_accuracy": ood, **more}


def write(folder: Path, lines: list[dict[str, Any]], **options: object) -> Path:
    folder.mkdir()
    (folder / "config.yaml").write_text(yaml.safe_dump(OPTIONS | options))
    (folder / "run.json").write_text(json.dumps({"train_size": 77}))
    (folder / "metrics.jsonl").write_text("".join(json.dumps(entry) + "\n" for entry in lines))
    (folder / "final.safetensors").touch()
    return folder


RUN = [line(0, 0.1, 0.1), line(10, 0.9, 0.5), line(15, 0.9, 0.6), line(20, 0.8, 0.7)]


def test_a_run_stands_for_its_first_best_and_its_last_evaluation(tmp_path: Path) -> None:
    runs = runs_of_folders([write(tmp_path / "a", RUN)])
    found = runs.set_index("selection")
    assert found.loc["best", ["iid", "ood"]].tolist() == [0.9, 0.5]
    assert found.loc["final", ["iid", "ood"]].tolist() == [0.8, 0.7]
    shared = ["run", "dataset", "method", "env", "seed", "split", "train_size", "lr"]
    assert found.loc["best", shared].tolist() == ["a", "pacs", "dropout", "sketch", 3, 4, 77, 0.1]


def test_methods_are_told_apart_by_their_options(tmp_path: Path) -> None:
    folders = [
        write(tmp_path / "erm", RUN, drop_rate=0.0),
        write(tmp_path / "tangent", RUN, tangent=True),
        write(tmp_path / "ordinary", RUN, tangent=False),
    ]
    for method in ("trajectory", "uniform_soup", "swad"):
        folders.append(write(tmp_path / method, RUN[-1:], average_method=method))
    runs = runs_of_folders(folders)
    own = ["erm", "tangent", "dropout"]
    assert runs["method"].tolist()[::2] == [*own, "average_trajectory", "average_final", "swad"]


def test_noise_and_its_placement_are_told(tmp_path: Path) -> None:
    rival = write(tmp_path / "rival", RUN, noise="gaussian", placement="stages")
    runs = runs_of_folders([write(tmp_path / "usual", RUN), rival])
    found = runs.query("selection == 'best'")[["noise", "placement"]].to_numpy().tolist()
    assert found == [["dropout", "head"], ["gaussian", "stages"]]


GRID = [
    line(0, 0.1, 0.1, weight_decay=0.01),
    line(10, 0.9, 0.5, weight_decay=0.01),
    line(20, 0.6, 0.4, weight_decay=0.01),
    line(0, 0.1, 0.1, weight_decay=0.02),
    line(20, 0.7, 0.3, weight_decay=0.02),
]
LINEAR = {"linear_blocks": 3, "lr": [0.001], "weight_decay": [0.01, 0.02]}


def test_every_fit_of_a_linear_model_is_a_run_in_a_cell_of_its_own(tmp_path: Path) -> None:
    runs = runs_of_folders([write(tmp_path / "a", GRID, **LINEAR)])
    assert set(runs["method"]) == {"linear"} and set(runs["run"]) == {"a"}
    assert runs[["weight_decay", "selection", "ood"]].to_numpy().tolist() == [
        *([0.01, "best", 0.5], [0.01, "final", 0.4]),
        *([0.02, "best", 0.3], [0.02, "final", 0.3]),
    ]
    assert runs["cell"].unique().tolist() == ["lr 0.001, decay 0.01", "lr 0.001, decay 0.02"]
    assert set(runs["lr"]) == {0.001}


def test_averages_of_other_runs_are_other_runs(tmp_path: Path) -> None:
    """They have the options of their first run."""
    one = {"average_method": "uniform_soup"}
    groups = (["r/a", "r/b"], ["r/a", "r/c"], ["r/a", "r/b", "r/c", "r/d"])
    sizes: list[dict[str, Any]] = [{"ensemble_size": 2}, {}, {"ensemble_size": 4}]
    folders = [
        write(tmp_path / str(number), RUN[-1:], **one, **size, averaged_runs=of)
        for number, (of, size) in enumerate(zip(groups, sizes, strict=True))
    ]
    swad = {"average_method": "swad", "averaged_runs": ["r/a"], "ensemble_size": 5}
    folders.append(write(tmp_path / "swad", RUN[-1:], **swad))
    runs = runs_of_folders([*folders, write(tmp_path / "a", RUN)]).query("selection == 'final'")
    assert runs["ensemble_size"].tolist() == [2, 2, 4, 5, 1]
    of_run = "lr 0.1, decay 0.01"
    assert runs["cell"].tolist() == ["of a, b", "of a, c", "of a, b, c, d", of_run, of_run]
    assert runs["lr"].isna().tolist() == [True, True, True, False, False]


@pytest.mark.parametrize(
    ("lines", "options", "message"),
    [
        (RUN[:3], {}, "no evaluation after step 20"),
        (RUN, {"test_env": []}, "held no environment out"),
        (RUN, {"seed": "three"}, "says seed"),
        (RUN, LINEAR, "weight_decay"),
        (GRID[:4], LINEAR, "no evaluation after step 20"),
    ],
)
def test_what_is_no_finished_run_is_a_sentence(
    lines: list[dict[str, Any]], options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    folder = write(tmp_path / "a", lines, **options)
    with pytest.raises(InputError, match=message):
        runs_of_folders([folder])


def test_unfinished_and_absent_runs_are_refused(tmp_path: Path) -> None:
    folder = write(tmp_path / "a", RUN)
    (folder / "final.safetensors").unlink()
    with pytest.raises(InputError, match=r"holds no final\.safetensors"):
        runs_of_folders([folder])
    with pytest.raises(InputError, match="no run folder was given"):
        runs_of_folders([])
