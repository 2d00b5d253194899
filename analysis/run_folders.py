"""Run folders of `finetuning.train` and `finetuning.linear` as rows of a runs frame.

Every run gives two rows: the evaluation with the best i.i.d. accuracy (`selection` best, the first
that reached it) and the last one (final). A linear model's folder holds a grid of fits, and each
is a run in a cell of its own, as the runs of a network are: otherwise the best of a grid would be
compared with a mean over cells. A folder of `finetuning.average` is a run by the method that
averaged it; its cell names the runs where they are several.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import pandas as pd

from analysis.runs import check_runs
from core.documents import read_json, read_json_lines, read_yaml
from core.errors import InputError

AVERAGES = {"trajectory": "average_trajectory", "uniform_soup": "average_final"}  # else its name

Line = Mapping[str, Any]


class _Options(TypedDict):
    data: str
    test_env: list[str]
    pretrained: str
    drop_rate: float
    seed: int
    split_seed: int
    steps: int
    tangent: NotRequired[bool]
    linear_blocks: NotRequired[int]
    head_lr_factor: NotRequired[float]
    noise: NotRequired[str]
    placement: NotRequired[str]
    average_method: NotRequired[str]
    averaged_runs: NotRequired[list[str]]
    ensemble_size: NotRequired[int]
    lr: float | list[float]
    weight_decay: float | list[float]


class _Facts(TypedDict):
    train_size: NotRequired[int]


class _Evaluation(TypedDict):
    step: int
    iid_accuracy: float
    ood_accuracy: float | None
    lr: float


class _OfFit(_Evaluation):
    weight_decay: float


def runs_of_folders(folders: Iterable[str | Path]) -> pd.DataFrame:
    """Two rows a run, checked by `check_runs`; fits of one folder share its name.

    Args:
        folders: Finished run folders; `finetuning.sweep` and `scripts.linear_study` make many.

    Raises:
        InputError: If a folder is no finished run, a file in it is damaged, the run holds no
            environment out, or two folders hold the same run.
    """
    rows = [row for folder in folders for row in _rows(Path(folder))]
    if not rows:
        raise InputError("no run folder was given; at least one was expected")
    return check_runs(pd.DataFrame(rows))


def _rows(folder: Path) -> list[dict[str, Any]]:
    if not (folder / "final.safetensors").is_file():
        raise InputError(
            f"'{folder}' holds no final.safetensors; a finished run folder was expected: finish "
            "the run with the same command, or leave it out"
        )
    options = read_yaml(folder / "config.yaml", _Options)
    facts = read_json(folder / "run.json", _Facts)
    if not options["test_env"]:
        raise InputError(
            f"'{folder}' is a run that held no environment out; o.o.d. accuracy was expected: "
            "leave it out, or train it with --test_env"
        )
    shared = {
        "run": folder.name,
        "dataset": Path(options["data"]).name,
        "method": _method(options),
        "env": "+".join(options["test_env"]),
        "split": options["split_seed"],
        "from_scratch": options["pretrained"] == "none",
        "head_lr_factor": options.get("head_lr_factor", 1.0),
        "noise": options.get("noise", "dropout"),
        "placement": options.get("placement", "head"),
        "train_size": facts.get("train_size", pd.NA),
        # Older averages do not say how many of the runs that they were given they took.
        "ensemble_size": options.get("ensemble_size", max(1, len(_averaged(options)))),
    } | {name: options[name] for name in ("drop_rate", "pretrained", "seed", "steps")}
    return [
        shared | own | _accuracies(line) | {"selection": name}
        for own, lines in _fits(folder, options)
        for name, line in _chosen(lines, options["steps"], folder).items()
    ]


def _method(options: Line) -> str:
    if "average_method" in options:
        method = str(options["average_method"])
        return AVERAGES.get(method, method)
    if "linear_blocks" in options:
        return "linear"
    if options.get("tangent", False):
        return "tangent"
    return "dropout" if options["drop_rate"] > 0 else "erm"


def _fits(folder: Path, options: Line) -> list[tuple[dict[str, Any], list[Line]]]:
    """Cell, learning rate and decay of every fit in a folder, and its evaluations."""
    path = folder / "metrics.jsonl"
    if "linear_blocks" not in options:
        lines = read_json_lines(path, _Evaluation)
        runs = _averaged(options)
        of_run = _cell(options["lr"], options["weight_decay"])
        own = {"cell": f"of {', '.join(runs)}"} if len(runs) > 1 else of_run
        return [(own, [*lines])]
    by_fit: dict[tuple[float, float], list[Line]] = {}
    for line in read_json_lines(path, _OfFit):
        by_fit.setdefault((line["lr"], line["weight_decay"]), []).append(line)
    return [(_cell(*fit), lines) for fit, lines in by_fit.items()]


def _averaged(options: Line) -> list[str]:
    """Names of the runs that were averaged, with learning rates and decays of their own."""
    return [Path(run).name for run in options.get("averaged_runs", [])]


def _cell(lr: float, decay: float) -> dict[str, Any]:
    return {"lr": lr, "weight_decay": decay, "cell": f"lr {lr:g}, decay {decay:g}"}


def _chosen(lines: Sequence[Line], steps: int, folder: Path) -> dict[str, Line]:
    last = [line for line in lines if line["step"] == steps]
    if not last:
        raise InputError(
            f"'{folder}/metrics.jsonl' has no evaluation after step {steps}, the run's last; the "
            "file as the run wrote it was expected: restore it, or train the run again"
        )
    return {"best": max(lines, key=lambda line: line["iid_accuracy"]), "final": last[0]}


def _accuracies(line: Line) -> dict[str, Any]:
    return {"iid": line["iid_accuracy"], "ood": line["ood_accuracy"]}
