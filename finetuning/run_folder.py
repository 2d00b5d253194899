"""The folder of one run: what is in it, how it survives a kill, when it may be resumed.

::

    config.yaml            the resolved options; `--config` reads it back
    run.json               data fingerprint, classes, split, checkpoint hash, versions
    init.safetensors       the network before the first step, its fresh classifier included
    best.safetensors       the weights of the evaluation with the best i.i.d. accuracy
    final.safetensors      the weights after the last step; its presence means: finished
    average_every_K.safetensors   uniform average of the weights at every K-th step (on request)
    step_N.safetensors     the weights after N steps (on request)
    metrics.jsonl          one line an evaluation
    resume.pt              optimiser, averages and counters; gone when the run is finished
"""

import json
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypedDict

import torch
from torch import Tensor

from core.checkpoints import save_state_dict
from core.command_line import as_yaml
from core.documents import read_json, read_json_lines, read_yaml
from core.errors import InputError
from core.options import RUNS_BEFORE
from core.outputs import new_folder, whole_file
from core.resumable import OPTIONS, check_resumable
from finetuning.config import TrainConfig

# Options that change where and how fast, not what, or that another one says as well: a run may be
# resumed with others.
NOT_COMPARED = ("output", "workers", "kept_units")
# Those that change rounding: with others it is the same run, but none goes on with others, so that
# a resumed run has the weights of one that was never killed, bit for bit.
ROUNDING = ("device", "channels_last", "compile")
RIVALS = ("noise", "placement", "tied_masks")  # weights of plain dropout need not say so


class Facts(TypedDict):
    """What `run.json` must hold to resume a run."""

    data_fingerprint: str
    pretrained_sha256: str | None


class _Rounding(TypedDict):
    device: str
    channels_last: bool
    compile: bool


class Evaluation(TypedDict):
    """What every line of `metrics.jsonl` must hold to resume a run."""

    step: int


class RunFolder:
    """Reads and writes the files of one run; every file appears whole or not at all."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def check(cls, config: TrainConfig) -> None:
        """Refuse an output that belongs to something else, before any work is done.

        Raises:
            InputError: If the folder exists and is no run of the same options, its config.yaml
                is damaged, or it cannot be written; or if it would go on with other rounding.
        """
        check_resumable(config, "run", (*NOT_COMPARED, *ROUNDING), RUNS_BEFORE)
        run = cls(Path(config.output))
        if run.path.exists() and not run.finished:
            run.check_rounding(config)

    @classmethod
    def open(
        cls, config: TrainConfig, facts: Mapping[str, Any], init: Mapping[str, Tensor]
    ) -> "RunFolder":
        """Create the folder with its first files, or open the interrupted run in it."""
        path = Path(config.output)
        if not path.exists():
            with new_folder(path) as folder:
                (folder / "config.yaml").write_text(as_yaml(config), encoding="utf-8")
                (folder / "run.json").write_text(json.dumps(facts, indent=2) + "\n")
                save_state_dict(init, folder / "init.safetensors", _metadata(config, 0))
        run = cls(path)
        run.check_facts(facts)
        return run

    def check_rounding(self, config: TrainConfig) -> None:
        """Refuse to resume where numbers are rounded in another way.

        Raises:
            InputError: If an option of `ROUNDING` is another one than the run began with.
        """
        begun = dict(read_yaml(self.path / OPTIONS, _Rounding))
        for name in ROUNDING:
            now = getattr(config, name)
            if begun[name] != now:
                raise InputError(
                    f"'{self.path}' was begun with {name} {begun[name]}, now {now}, which rounds "
                    f"in another way; a run goes on as it began: finish it with {name} "
                    f"{begun[name]}, or remove the folder to begin it again"
                )

    def check_facts(self, facts: Mapping[str, Any]) -> None:
        """Refuse to resume on other images or another pretrained checkpoint.

        Raises:
            InputError: If a fingerprint differs from the one that the run began with, or
                run.json is damaged.
        """
        begun = read_json(self.path / "run.json", Facts)
        for name in begun.keys() & Facts.__annotations__:
            if begun[name] != facts[name]:
                raise InputError(
                    f"'{self.path}' was begun with another {name.replace('_', ' ')} "
                    f"({begun[name]}, now {facts[name]}): choose another --output"
                )

    @property
    def finished(self) -> bool:
        """Whether the last step was reached."""
        return (self.path / "final.safetensors").is_file()

    def save_weights(
        self, name: str, state: Mapping[str, Tensor], config: TrainConfig, step: int
    ) -> None:
        """Write `NAME.safetensors`."""
        save_state_dict(state, self.path / f"{name}.safetensors", _metadata(config, step))

    def save_progress(self, progress: Mapping[str, Any]) -> None:
        """Write what resuming needs, replacing the last one in one step.

        Raises:
            InputError: If it cannot be written, such as on a full disk.
        """
        with whole_file(self.path / "resume.pt") as path, path.open("wb") as file:
            try:
                torch.save(dict(progress), file)
            except RuntimeError as error:
                # PyTorch hides why the file could not be written behind an error of its own.
                raise error.__context__ or error from None

    def load_progress(self, device: torch.device) -> dict[str, Any] | None:
        """What `save_progress` wrote last; None where the run has not come that far.

        Raises:
            InputError: If the file is damaged.
        """
        path = self.path / "resume.pt"
        if not path.exists():
            return None
        try:
            return torch.load(path, map_location=device, weights_only=True)
        except (OSError, EOFError, LookupError, RuntimeError, pickle.UnpicklingError) as error:
            raise self.damaged_progress(error) from error

    def damaged_progress(self, error: Exception) -> InputError:
        """The sentence about a `resume.pt` that does not say where the run stopped."""
        reason = re.split(r"\.\s|:?\n", str(error))[0] or type(error).__name__
        return InputError(
            f"'{self.path / 'resume.pt'}' does not say where the run stopped ({reason}); the file "
            "as the interrupted run wrote it was expected: restore it, or delete it to begin with "
            "the first step again"
        )

    def finish(self) -> None:
        """Remove what only resuming needs and what killed processes left half-written."""
        for pattern in ("resume.pt", ".*.*.tmp"):
            for file in self.path.glob(pattern):
                file.unlink()

    def append_metrics(self, line: Mapping[str, Any]) -> None:
        """Add one evaluation, replacing whatever a killed process wrote of this step or later."""
        path = self.path / "metrics.jsonl"
        kept = [m for m in read_metrics(path) if m["step"] < line["step"]] if path.exists() else []
        with whole_file(path) as file:
            file.write_text("".join(json.dumps(entry) + "\n" for entry in [*kept, line]))


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The evaluations of a run, in order.

    Raises:
        InputError: If the file is damaged.
    """
    return [dict(line) for line in read_json_lines(path, Evaluation)]


def _metadata(config: TrainConfig, step: int) -> dict[str, Any]:
    return {
        "model": config.model,
        "step": step,
        "drop_rate": config.drop_rate,
        "tangent": config.tangent,
        "seed": config.seed,
        "pretrained": config.pretrained,
    } | {name: value for name in RIVALS if (value := getattr(config, name)) != RUNS_BEFORE[name]}
