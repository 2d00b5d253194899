"""Where the weights that a probe compares come from: run folders and checkpoint files.

A run folder of `finetuning.train` says everything itself; a checkpoint file only holds weights.
"""

import itertools
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from core.command_line import read_yaml
from core.domains import Domains
from core.errors import InputError

# Options of a run that a probe relies on.
SHARED = ("model", "model_kwargs", "data", "image_size", "transform", "envs", "skip_unreadable")
RECIPE = ("drop_rate", "seed", "steps", "optimizer", "lr")
RUN_OPTIONS = (*SHARED, *RECIPE, "pretrained", "test_env", "split_seed")


@dataclass(frozen=True, kw_only=True)
class PairOptions:
    """Which checkpoints, and on which images."""

    finetuned: tuple[str, ...] = ()
    """Run folders or checkpoint files, compared with each other; the embedded example if none."""
    pretrained: str | None = None
    """Checkpoint before fine-tuning (default: the run folder's own init.safetensors)."""
    weights: Literal["final", "best"] = "final"
    """Which weights of a run folder."""
    model: str | None = None
    """Name of a timm model (default: the run folder's, or glyphnet)."""
    model_kwargs: dict[str, Any] | None = None
    """Further arguments of timm.create_model (default: the run folder's)."""
    data: str | None = None
    """Image folder, or `digits` (default: the run folder's, or digits)."""
    envs: tuple[str, ...] = ()
    """Environments to probe in; all of them by default."""
    test_env: tuple[str, ...] = ()
    """Environments that were not trained on (default: the run folder's)."""
    transform: Literal["paper", "timm", "digits"] | None = None
    """How images become tensors, without augmentation (default: the run folder's, or timm)."""
    image_size: int | None = None
    """Side of the input images in pixels (default: the run folder's, or the model's)."""
    skip_unreadable: bool = False
    """Leave unreadable images out (named and counted) instead of refusing the data set."""


@dataclass(frozen=True)
class Source:
    """Where the weights after fine-tuning lie, and the options of their run where known."""

    path: Path
    checkpoint: Path
    run_options: dict[str, Any] | None

    @classmethod
    def find(cls, path: str, weights: str) -> "Source":
        """A run folder or a checkpoint file.

        Raises:
            InputError: If it is neither, the run is not finished, or its config.yaml is damaged.
        """
        place = Path(path)
        if not os.path.exists(place):
            raise InputError(
                f"there is no '{place}'; a run folder or a checkpoint file was expected: check "
                "--finetuned"
            )
        if not place.is_dir():
            return cls(place, place, None)
        for name in ("config.yaml", "run.json", f"{weights}.safetensors", "init.safetensors"):
            if not (place / name).is_file():
                raise InputError(
                    f"'{place}' has no {name}; a finished run folder of finetuning.train was "
                    "expected: finish the run with the same command, or give a checkpoint file"
                )
        options = _run_options(place / "config.yaml")
        return cls(place, place / f"{weights}.safetensors", options)

    def trained_on(self, domains: Domains, options: PairOptions) -> tuple[str, ...]:
        """Environments that the run was trained on; none for files and for other images.

        Raises:
            InputError: If classes or images are not those that the run was trained on.
        """
        if self.run_options is None or options.data not in {None, self.run_options["data"]}:
            return ()
        facts = json.loads((self.path / "run.json").read_text())
        changed = not options.envs and facts["data_fingerprint"] != domains.fingerprint
        if changed or tuple(facts["classes"]) != domains.classes:
            raise InputError(
                f"the images of '{self.run_options['data']}' are not those that '{self.path}' was "
                "trained on (files were added, removed or changed), so its hold-out is not known: "
                "restore them, or give them as another folder with --data"
            )
        return tuple(facts["train_envs"])


def _run_options(path: Path) -> dict[str, Any]:
    options = read_yaml(path)
    missing = [name for name in RUN_OPTIONS if name not in options]
    if missing:
        raise InputError(
            f"'{path}' lacks {', '.join(missing)}; all options of a run, as finetuning.train "
            "writes them, were expected: restore the file or give the checkpoint itself"
        )
    return options


def shared_options(sources: Sequence[Source], options: PairOptions) -> dict[str, Any]:
    """Model, images and transform: as asked for, or as all run folders agree."""
    defaults = {"model": "glyphnet", "model_kwargs": None, "data": "digits", "image_size": None}
    shared: dict[str, Any] = {}
    for name in SHARED:
        asked = getattr(options, name) or None
        found = [s.run_options[name] for s in sources if s.run_options is not None]
        if asked is None and any(value != found[0] for value in found):
            raise InputError(
                f"the runs differ in {name} ({', '.join(map(str, found))}); only runs of the "
                f"same one can be compared: give fewer to --finetuned, or --{name}"
            )
        shared[name] = asked if asked is not None else (found or [defaults.get(name)])[0]
    shared["envs"] = tuple(shared["envs"] or ())
    automatic = "digits" if shared["data"] == "digits" else "timm"
    shared["transform"] = shared["transform"] or automatic
    return shared


def labels_of(sources: Sequence[Source]) -> list[str]:
    """The shortest ends of the paths that tell them apart, such as `erm` or `seed0/erm`."""
    paths = [source.path.resolve() for source in sources]
    if len(set(paths)) < len(paths):
        names = ", ".join(str(source.path) for source in sources)
        raise InputError(f"--finetuned names a checkpoint twice ({names}): remove one")
    plain = [path if path.is_dir() else path.with_suffix("") for path in paths]
    paths = plain if len(set(plain)) == len(plain) else paths
    for depth in itertools.count(1):
        labels = ["/".join(path.parts[-depth:]) for path in paths]
        if len(set(labels)) == len(labels):
            break
    return labels


def example_runs() -> tuple[str, ...]:
    """The fine-tunings of the embedded digits that come with the project.

    They were made by `finetuning.train`; their `config.yaml` is the recipe.
    """
    folder = Path(__file__).parent / "examples"
    return tuple(str(folder / run) for run in ("erm-s0", "dropout0.9-s0", "scratch-s0"))
