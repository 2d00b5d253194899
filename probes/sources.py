"""Where the weights that a probe compares come from: run folders and checkpoint files.

A run folder of `finetuning.train` says everything itself; a checkpoint file only holds weights.
"""

import itertools
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NotRequired, TypedDict

import numpy as np
from jaxtyping import Int64

from core.documents import read_json, read_json_lines, read_yaml
from core.domains import Domains, first_share, holdout
from core.errors import InputError
from core.tensor_files import sha256

Indices = Int64[np.ndarray, " _"]
log = logging.getLogger(__name__)

# Options of a run that a probe relies on.
SHARED = ("model", "model_kwargs", "data", "image_size", "transform", "envs", "skip_unreadable")
RECIPE = ("drop_rate", "seed", "steps", "optimizer", "lr")


class RunOptions(TypedDict):
    """What the `config.yaml` of a run must hold."""

    model: str
    model_kwargs: dict[str, Any] | None
    data: str
    image_size: int | None
    transform: Literal["paper", "timm", "digits"]
    envs: list[str]
    skip_unreadable: bool
    drop_rate: float
    seed: int
    steps: int
    optimizer: Literal["sgd", "adamw"]
    lr: float
    pretrained: str
    test_env: list[str]
    split_seed: int
    train_fraction: NotRequired[float]  # runs of the first releases used all images


class RunFacts(TypedDict):
    """What the `run.json` of a run must hold."""

    data_fingerprint: str
    classes: list[str]
    train_envs: list[str]
    pretrained_sha256: NotRequired[str | None]  # of a file; the first releases kept none


class Evaluation(TypedDict):
    """What every line of a run's `metrics.jsonl` must hold."""

    train_loss: float | None


@dataclass(frozen=True, kw_only=True)
class NetworkOptions:
    """Which network on which images; run folders know it themselves."""

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


@dataclass(frozen=True, kw_only=True)
class FinetunedOptions:
    """Which checkpoints are compared, and with which one before them."""

    finetuned: tuple[str, ...] = ()
    """Run folders or checkpoint files, compared with each other; the embedded example if none."""
    pretrained: str | None = None
    """Checkpoint before fine-tuning (default: the run folder's own init.safetensors)."""


# Fields come in the reverse order of the bases: --help begins with the checkpoints.
@dataclass(frozen=True, kw_only=True)
class PairOptions(NetworkOptions, FinetunedOptions):
    """Which checkpoints, and on which images."""


@dataclass(frozen=True)
class Source:
    """Where the weights after fine-tuning lie, and the options of their run where known."""

    path: Path
    checkpoint: Path
    run_options: RunOptions | None

    @classmethod
    def find(cls, path: str, weights: str, flag: str = "--finetuned") -> "Source":
        """A run folder or a checkpoint file, as the option `flag` names it.

        Raises:
            InputError: If it is neither, the run is not finished, or its config.yaml is damaged.
        """
        place = Path(path)
        if not os.path.exists(place):
            raise InputError(
                f"there is no '{place}'; a run folder or a checkpoint file was expected: check "
                f"{flag}"
            )
        if not place.is_dir():
            return cls(place, place, None)
        for name in ("config.yaml", "run.json", f"{weights}.safetensors", "init.safetensors"):
            if not (place / name).is_file():
                raise InputError(
                    f"'{place}' has no {name}; a finished run folder of finetuning.train was "
                    "expected: finish the run with the same command, or give a checkpoint file"
                )
        options = read_yaml(place / "config.yaml", RunOptions)
        return cls(place, place / f"{weights}.safetensors", options)

    def tell_of_another_start(self, before: str | Path, found: str) -> None:
        """Warn where a run did not begin with the weights that it is compared with.

        Args:
            before: The checkpoint.
            found: Its SHA-256.

        Raises:
            InputError: If run.json is damaged.
        """
        if self.run_options is None:
            return
        own = read_json(self.path / "run.json", RunFacts).get("pretrained_sha256")
        if own is not None and found not in {own, sha256(self.path / "init.safetensors")}:
            log.warning(
                "'%s' was fine-tuned from '%s' and is compared with '%s', which --pretrained "
                "names: without it a run is compared with its own start",
                *(self.path, self.run_options["pretrained"], before),
            )

    def trained_on(self, domains: Domains, options: NetworkOptions) -> tuple[str, ...]:
        """Environments that the run was trained on; none for files and for other images.

        Raises:
            InputError: If classes or images are not those that the run was trained on, or
                run.json is damaged.
        """
        if self.run_options is None or options.data not in {None, self.run_options["data"]}:
            return ()
        facts = read_json(self.path / "run.json", RunFacts)
        changed = not options.envs and facts["data_fingerprint"] != domains.fingerprint
        if changed or tuple(facts["classes"]) != domains.classes:
            raise InputError(
                f"the images of '{self.run_options['data']}' are not those that '{self.path}' was "
                "trained on (files were added, removed or changed), so its hold-out is not known: "
                "restore them, or give them as another folder with --data"
            )
        return tuple(facts["train_envs"])

    def splits(self, domains: Domains, options: NetworkOptions) -> dict[str, str]:
        """What each environment was to the run: `iid` (trained on), `ood` or `given` (not known).

        Raises:
            InputError: If a test environment does not exist or was trained on, or see
                `trained_on`.
        """
        run, trained_on = self.run_options, self.trained_on(domains, options)
        for name in options.test_env:
            if name not in domains.environments:
                raise InputError(
                    f"test environment '{name}' is not among {', '.join(domains.environments)}: "
                    "change --test_env"
                )
            if name in trained_on:
                raise InputError(
                    f"'{self.path}' was trained on '{name}'; an environment that it has not seen "
                    "was expected: change --test_env"
                )
        test_envs = options.test_env or tuple(run["test_env"] if run else ())
        return {
            name: "ood" if name in test_envs else "iid" if name in trained_on else "given"
            for name in domains.environments
        }

    def parts(self, domains: Domains, env: str, split: str) -> tuple[Indices, Indices]:
        """Images that the run trained on, and all others, both in an order drawn at random."""
        environment, run = domains.environments[env], self.run_options
        if split == "iid" and run is not None:
            kept, held_out = holdout(environment, run["split_seed"])
            return first_share(kept, run.get("train_fraction", 1.0)), held_out
        kept, held_out = holdout(environment, 0)
        return kept[:0], np.concatenate([held_out, kept])

    def facts(self, splits: Mapping[str, str]) -> dict[str, Any]:
        """What a record keeps of the run: its recipe, its last loss and its environments.

        Raises:
            InputError: If metrics.jsonl is damaged.
        """
        envs = {
            "train_envs": [env for env, split in splits.items() if split != "ood"],
            "test_envs": [env for env, split in splits.items() if split == "ood"],
        }
        run = self.run_options
        if run is None:
            return dict.fromkeys(RECIPE) | {"from_scratch": False, "train_loss": None} | envs
        metrics = self.path / "metrics.jsonl"
        evaluations = read_json_lines(metrics, Evaluation) if metrics.exists() else []
        loss = evaluations[-1]["train_loss"] if evaluations else None
        known = {name: run[name] for name in RECIPE}
        return known | {"from_scratch": run["pretrained"] == "none", "train_loss": loss} | envs


def shared_options(
    sources: Sequence[Source], options: NetworkOptions, flag: str = "--finetuned"
) -> dict[str, Any]:
    """Model, images and transform: as asked for, or as all run folders agree."""
    defaults = {"model": "glyphnet", "model_kwargs": None, "data": "digits", "image_size": None}
    shared: dict[str, Any] = {}
    for name in SHARED:
        asked = getattr(options, name) or None
        found = [s.run_options[name] for s in sources if s.run_options is not None]
        if asked is None and any(value != found[0] for value in found):
            raise InputError(
                f"the runs differ in {name} ({', '.join(map(str, found))}); only runs of the "
                f"same one can be compared: give fewer to {flag}, or --{name}"
            )
        shared[name] = asked if asked is not None else (found or [defaults.get(name)])[0]
    shared["envs"] = tuple(shared["envs"] or ())
    automatic = "digits" if shared["data"] == "digits" else "timm"
    shared["transform"] = shared["transform"] or automatic
    return shared


def labels_of(sources: Sequence[Source], flag: str = "--finetuned") -> list[str]:
    """The shortest ends of the paths that tell them apart, such as `erm` or `seed0/erm`."""
    paths = [source.path.resolve() for source in sources]
    if len(set(paths)) < len(paths):
        names = ", ".join(str(source.path) for source in sources)
        raise InputError(f"{flag} names a checkpoint twice ({names}): remove one")
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
