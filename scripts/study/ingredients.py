"""What a study is made of: its protocol, its images, and the weights that its runs start from.

Options only name these. What they stand for changes with a new release, or with files that were
replaced between two calls; runs and records of both would be mixed, and a report would show them
as one study. They are therefore written down when a study begins and compared when it goes on.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TypedDict

from core.documents import read_json
from core.errors import InputError
from core.options import RUNS_BEFORE
from core.outputs import whole_file
from core.resumable import check_resumable, differences
from finetuning.config import TrainConfig, resolve
from finetuning.run_folder import NOT_COMPARED, RunFolder
from finetuning.setup import prepare
from finetuning.sweep.names import resolved
from scripts.study.config import StudyConfig
from scripts.study.plan import Planned
from scripts.study_options import check_layers

FILE = "ingredients.json"
BEFORE = {"curve_steps": 6_000, "permutations": 20}  # of all protocols, before they had them


class Ingredients(TypedDict):
    """What the file holds; `pretrained_sha256` by what `--pretrained` of the runs says."""

    protocol: dict[str, Any]
    data_fingerprint: str
    pretrained_sha256: dict[str, str | None]


def ingredients(config: StudyConfig, planned: Sequence[Planned]) -> Ingredients:
    """Load what runs start from, each kind of start once, which checks it.

    Raises:
        InputError: If images, a checkpoint, the network or the layers of model (1) do not fit.
    """
    check_layers(config)
    runs = [one.config for one in planned if isinstance(one.config, TrainConfig)]
    starts = {run.pretrained: run for run in runs}
    # On the CPU: where runs are made there may be a GPU, here there need be none.
    here = {start: resolve(replace(run, device="cpu")) for start, run in starts.items()}
    facts = {start: prepare(run).facts for start, run in here.items()}
    protocol = json.loads(json.dumps(asdict(config.scale)))  # as it will be read back
    return Ingredients(
        protocol=protocol,
        data_fingerprint=facts[config.pretrained]["data_fingerprint"],
        pretrained_sha256={start: found["pretrained_sha256"] for start, found in facts.items()},
    )


def write_ingredients(folder: Path, found: Ingredients) -> None:
    """Write them into the folder of a study."""
    with whole_file(folder / FILE) as file:
        file.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


def check_unchanged(folder: Path, now: Ingredients, planned: Sequence[Planned]) -> None:
    """Refuse to go on with other ingredients than a study, and every run in it, began with.

    A study of an older release did not write them down: its runs alone are compared.

    Raises:
        InputError: With what has changed.
    """
    if (folder / FILE).is_file():
        begun = read_json(folder / FILE, Ingredients)
        changed = differences(_named(begun), _named(now))
        if changed:
            raise InputError(
                f"'{folder}' holds a study of something else ({'; '.join(changed[:3])}); runs of "
                "both would be mixed: restore what it was begun with, or choose another --output"
            )
    there = [one for one in planned if Path(one.config.output).exists()]
    for one in there:
        check_resumable(resolved(one.config), "run", (*NOT_COMPARED, "cache"), RUNS_BEFORE)
    check_facts(there, now)
    write_ingredients(folder, now)


def check_facts(runs: Sequence[Planned], now: Ingredients) -> None:
    """Refuse runs that began with other images or weights.

    Raises:
        InputError: With the first of them.
    """
    for one in runs:
        sha256 = now["pretrained_sha256"][one.config.pretrained]
        facts = {"data_fingerprint": now["data_fingerprint"], "pretrained_sha256": sha256}
        RunFolder(Path(one.config.output)).check_facts(facts)


def _named(found: Ingredients) -> Mapping[str, object]:
    """Every ingredient by a name that a sentence can tell."""
    return {
        "its images": found["data_fingerprint"],
        **{f"the weights {name}": value for name, value in found["pretrained_sha256"].items()},
        **{f"the protocol's {name}": v for name, v in (BEFORE | found["protocol"]).items()},
    }
