"""What a sweep tells about its runs: an index of the folders, and their accuracies.

`runs.csv` says which options each folder's name stands for, and how the run stands; `runs.parquet`
is the runs frame (`analysis.runs`) of the finished ones. Both cover all grids that were swept into
the folder, but for runs whose folders were removed since. Files of these names that hold other
runs than a sweep's are never written to.
"""

import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypedDict

import pandas as pd

from analysis.run_folders import runs_of_folders
from analysis.runs import IDENTITY, check_runs, read_runs
from core.documents import read_yaml
from core.errors import InputError
from core.outputs import whole_file
from finetuning.sweep.names import LENGTH, WITHOUT_EFFECT, RunConfig, command_of, resolved
from finetuning.sweep.running import ELSEWHERE, Outcome, is_finished

INDEX, FRAME = "runs.csv", "runs.parquet"
_COLUMNS = ["run", "command", "status", "seconds", "failure"]  # before those of the options
_NAME = re.compile(f"[0-9a-f]{{{LENGTH}}}")
# Options that columns of the runs frame hold, in one way or another.
_TOLD = WITHOUT_EFFECT | {
    *("data", "test_env", "split_seed", "train_fraction", "pretrained", "seed", "preset"),
    *("drop_rate", "noise", "placement", "tangent", "linear_blocks"),
    *("lr", "weight_decay", "head_lr_factor", "steps", "milestones"),
}

log = logging.getLogger(__name__)


def check_tables(root: Path) -> None:
    """Refuse a folder whose tables are not those of a sweep, before any run is made.

    Raises:
        InputError: If there is such a table, or it is damaged.
    """
    _read_index(root / INDEX)
    frame = root / FRAME
    if frame.is_file() and not _are_ours(read_runs(frame)["run"]):
        raise _foreign(frame, "holds runs that no sweep has named")


def write_index(
    configs: Sequence[RunConfig],
    outcomes: Mapping[Path, Outcome],
    path: Path,
    *,
    parents: bool = False,
) -> None:
    """One row a run: its folder's name, how it stands, and its resolved options.

    Status is `finished`, `failed` (with the reason), `elsewhere` (another process is at it) or
    `waiting`. Rows of other runs that the file holds are kept.

    Raises:
        InputError: If the file there is damaged, or cannot be written.
    """
    before = _read_index(path)
    rows: dict[str, Mapping[str, str]] = dict(before)
    for config in configs:
        folder = Path(config.output)
        known = before.get(folder.name, {})
        rows[folder.name] = {
            "run": folder.name,
            "command": command_of(config),
            **_standing(config, outcomes.get(folder), known),
            **{n: _cell(v) for n, v in asdict(resolved(config)).items() if n != "output"},
        }
    with whole_file(path, parents=parents) as file:
        pd.DataFrame(rows.values()).fillna("").to_csv(file, index=False)


def _standing(config: RunConfig, outcome: Outcome | None, known: Mapping[str, str]) -> dict:
    if is_finished(config):
        measured = f"{outcome.seconds:.1f}" if outcome and outcome.steps else ""
        return {
            "status": "finished",
            "seconds": measured or known.get("seconds", ""),
            "failure": "",
        }
    if outcome is None:
        failed = known.get("status") == "failed"
        status, failure = ("failed", known["failure"]) if failed else ("waiting", "")
    else:
        status = "elsewhere" if outcome.failure == ELSEWHERE else "failed"
        failure = "" if status == "elsewhere" else outcome.failure
    return {"status": status, "seconds": "", "failure": failure}


def _cell(value: object) -> str:
    """An option as the command line takes it."""
    if isinstance(value, list | tuple):
        return " ".join(map(str, value))
    return "" if value is None else str(value)


def _read_index(path: Path) -> dict[str, dict[str, str]]:
    """Rows by run, without those of finished runs whose folders were removed."""
    if not path.is_file():
        return {}
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise _foreign(path, f"cannot be read as an index of runs ({reason})") from error
    if list(table.columns[: len(_COLUMNS)]) != _COLUMNS or not _are_ours(table["run"]):
        raise _foreign(path, "is no index of a sweep's runs")
    rows = {row["run"]: row for row in table.to_dict("records")}
    has_weights = lambda run: (path.parent / run / "final.safetensors").is_file()
    return {n: row for n, row in rows.items() if row["status"] != "finished" or has_weights(n)}


def _are_ours(names: Iterable[str]) -> bool:
    return all(_NAME.fullmatch(name) for name in names)


def _foreign(path: Path, found: str) -> InputError:
    return InputError(
        f"'{path}' {found}, and nothing of yours is overwritten; the file as a sweep wrote it was "
        "expected: choose another --output, or move the file away, and it is written anew"
    )


class _Options(TypedDict):
    test_env: list[str]


def write_frame(root: Path) -> None:
    """`runs.parquet` of the finished runs in the index that have an accuracy out of distribution.

    Raises:
        InputError: If a file of a run is damaged, or it cannot be written.
    """
    index = _read_index(root / INDEX)
    finished = {root / run: row for run, row in index.items() if row["status"] == "finished"}
    options = {folder: read_yaml(folder / "config.yaml", _Options) for folder in finished}
    with_ood = {folder: o for folder, o in options.items() if o["test_env"]}
    if len(with_ood) < len(options):
        left = len(options) - len(with_ood)
        log.info("%d runs held no environment out and are not in %s", left, FRAME)
    if not with_ood:
        return
    seconds = {folder.name: row["seconds"] for folder, row in finished.items()}
    with whole_file(root / FRAME) as file:
        runs_frame(with_ood, seconds).to_parquet(file, index=False)


def runs_frame(
    options: Mapping[Path, Mapping[str, Any]], seconds: Mapping[str, str]
) -> pd.DataFrame:
    """The runs frame of finished folders, its cells told apart by every option that varies.

    Args:
        options: Resolved options, by folder.
        seconds: What each folder took, by its name; empty where nobody measured it as a whole.
    """
    varied = _varied(options.values())
    frames = []
    for folder, own in options.items():
        frame = runs_of_folders([folder])
        more = [f", {name} {_cell(own[name])}" for name in varied if name in own]
        frame["cell"] += "".join(more)
        is_measured = len(set(frame["cell"])) == 1  # the fits of a linear model, only as a whole
        frame["seconds"] = pd.to_numeric(seconds[folder.name]) if is_measured else float("nan")
        frames.append(frame)
    runs = pd.concat(frames, ignore_index=True)
    # Two linear models may have a fit in common.
    is_again = (runs["method"] == "linear") & runs.duplicated(IDENTITY)
    return check_runs(runs.loc[~is_again, :])


def _varied(options: Iterable[Mapping[str, Any]]) -> list[str]:
    """Options of which runs of the same command have different values."""
    values: dict[tuple[bool, str], set[str]] = {}
    for own in options:
        for name in own.keys() - _TOLD:
            values.setdefault(("linear_blocks" in own, name), set()).add(repr(own[name]))
    return sorted({name for (_, name), found in values.items() if len(found) > 1})
