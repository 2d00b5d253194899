"""Runs of DomainBed, and of the code of the paper that is built on it, as a runs frame.

    python -m analysis.domainbed FOLDER [--pretrained "ResNet-50 V1"] [--output runs.parquet]

Every folder of a run holds `results.jsonl`, one line an evaluation; the paper's code writes
`ensemble300_results.jsonl` and `swa300_results.jsonl` beside it, for the averages of the run. Two
rows are made of each: at the step of the best i.i.d. accuracy and at the last one.

- `iid` is the mean over training environments of the accuracy on their hold-out; unless
  `--outsplit_noaug` was given, it was measured through augmentation.
- `ood` is the accuracy on the whole environment held out; `ood_in`, on its larger split, is the
  number that DomainBed reports.
- DomainBed does not say which weights were fine-tuned; the paper's code does.

Runs that held out several environments are left out.

References:
    | In Search of Lost Domain Generalization (Gulrajani & Lopez-Paz, 2020)
    | https://arxiv.org/abs/2007.01434
"""

import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict

import pandas as pd

from analysis.runs import check_runs
from core.command_line import run
from core.documents import damaged, read_json_lines
from core.errors import InputError
from core.outputs import whole_file

METHODS = {"ensemble": "ensemble_trajectory", "swa": "average_trajectory"}
ENVS = {
    "VLCS": ("C", "L", "S", "V"),
    "PACS": ("A", "C", "P", "S"),
    "OfficeHome": ("A", "C", "P", "R"),
    "TerraIncognita": ("L100", "L38", "L43", "L46"),
    "DomainNet": ("clip", "info", "paint", "quick", "real", "sketch"),
}
WEIGHTS = {"v1": "ResNet-50 V1", "v2": "ResNet-50 V2"}
FROM_SCRATCH = "none"

log = logging.getLogger(__name__)


class _Args(TypedDict):
    algorithm: str
    dataset: str
    hparams_seed: int
    seed: int
    test_envs: list[int]
    trial_seed: int
    holdout_fraction: float


class _HParams(TypedDict):
    lr: float
    weight_decay: float


class _Line(TypedDict):
    step: int
    args: _Args
    hparams: _HParams


@dataclass(frozen=True, kw_only=True)
class DomainBedConfig:
    """Options of the import."""

    folder: str = "sweep"
    """Folder of runs, searched as a whole; may be given without the flag."""
    pretrained: str = ""
    """Weights that runs were fine-tuned from which do not say so."""
    output: str = "runs.parquet"
    """File to write."""


def domainbed_runs(folder: str | Path, *, pretrained: str = "") -> pd.DataFrame:
    """A checked runs frame of all runs in a folder.

    Args:
        folder: Searched as a whole.
        pretrained: Name of the weights of runs which do not say so.

    Raises:
        InputError: If it holds no results, a line is not as DomainBed writes it, or every run
            held out several environments.
    """
    files = sorted(Path(folder).rglob("*results.jsonl"))
    if not files:
        raise InputError(
            f"'{folder}' holds no results.jsonl; folders of DomainBed's runs were expected: give "
            "the folder that they were written into"
        )
    rows = [row for file in files for row in _rows(file, Path(folder), pretrained)]
    if not rows:
        raise InputError(
            f"every run in '{folder}' held out several environments; runs with one were expected: "
            "import the runs of --test_envs with a single number"
        )
    return check_runs(pd.DataFrame(rows))


def _rows(file: Path, root: Path, pretrained: str) -> list[dict[str, Any]]:
    """Rows of the best and the last step of one file."""
    by_step = {line["step"]: line for line in read_json_lines(file, _Line)}  # the last one counts
    if not by_step:
        raise damaged(file, "is empty")
    lines = [by_step[step] for step in sorted(by_step)]
    if len(lines[0]["args"]["test_envs"]) > 1:
        log.info("'%s' is left out: it held out several environments", file)
        return []
    found = [_accuracies(line, file) for line in lines]
    best = max(range(len(found)), key=lambda i: found[i]["iid"])
    fixed = _setting(lines[-1], file, pretrained) | {"run": str(file.parent.relative_to(root))}
    fixed |= {"steps": lines[-1]["step"], "seconds": _seconds(lines)}
    return [
        fixed | found[best] | {"selection": "best"},
        fixed | found[-1] | {"selection": "final"},
    ]


def _accuracies(line: _Line, file: Path) -> dict[str, float]:
    """I.i.d. and o.o.d. accuracy of one evaluation."""
    held_out = line["args"]["test_envs"][0]
    envs = {int(n[3:-8]) for n in line if n.startswith("env") and n.endswith("_out_acc")}
    needed = [f"env{env}_out_acc" for env in sorted(envs - {held_out})]
    inner, outer = f"env{held_out}_in_acc", f"env{held_out}_out_acc"
    values: dict[str, Any] = {name: line.get(name) for name in (*needed, inner, outer)}
    wrong = next((n for n, v in values.items() if not isinstance(v, (int, float))), None)
    if wrong or not needed:
        raise damaged(file, f"lacks {wrong or 'accuracies of training environments'}")
    share = line["args"]["holdout_fraction"]
    return {
        "iid": sum(values[name] for name in needed) / len(needed),
        "ood": (1 - share) * values[inner] + share * values[outer],
        "ood_in": values[inner],
    }


def _setting(line: _Line, file: Path, pretrained: str) -> dict[str, Any]:
    """The columns that do not change along a run."""
    args, hparams = line["args"], dict[str, Any](line["hparams"])
    rate = float(hparams.get("resnet_dropout", 0.0))
    version = str(hparams.get("pretrain_version", ""))
    lr, decay = float(hparams["lr"]), float(hparams["weight_decay"])
    random = f", hparams {args['hparams_seed']}" if args["hparams_seed"] else ""
    return {
        "dataset": args["dataset"],
        "method": _method(file, args["algorithm"], rate),
        "drop_rate": rate,
        "env": _env(args["dataset"], args["test_envs"][0]),
        "cell": f"lr {lr:g}, weight decay {decay:g}{random}",
        "lr": lr,
        "weight_decay": decay,
        "head_lr_factor": float(hparams.get("lastlrfac", 1.0)),
        "pretrained": WEIGHTS.get(version, version or pretrained),
        "from_scratch": version == FROM_SCRATCH,
        "seed": args["seed"],
        "split": args["trial_seed"],
    }


def _method(file: Path, algorithm: str, rate: float) -> str:
    average = next((METHODS[kind] for kind in METHODS if file.name.startswith(kind)), None)
    if average or algorithm != "ERM":
        return average or algorithm.lower()
    return "dropout" if rate else "erm"


def _env(dataset: str, number: int) -> str:
    names = ENVS.get(dataset, ())
    return names[number] if number < len(names) else f"env{number}"


def _seconds(lines: Sequence[Any]) -> float:
    """Time of all steps: each line has the mean of a step since the line before."""
    steps = [line["step"] for line in lines]
    times = [float(line.get("step_time", float("nan"))) for line in lines]
    return sum(
        time * (step - before)
        for time, step, before in zip(times, steps, [-1, *steps[:-1]], strict=True)
    )


def main(config: DomainBedConfig) -> None:
    """Import, and write the frame."""
    runs = domainbed_runs(config.folder, pretrained=config.pretrained)
    with whole_file(Path(config.output), parents=True) as file:
        runs.to_parquet(file, index=False)
    log.info("%d rows in '%s'", len(runs), config.output)


if __name__ == "__main__":
    if len(sys.argv) > 1 and not sys.argv[1].startswith("-"):
        sys.argv.insert(1, "--folder")
    run(main, DomainBedConfig)
