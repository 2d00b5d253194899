"""Finished run folders as members of an average or an ensemble."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, TypedDict

from torch import Tensor

from core.checkpoints import read_state_dict
from core.documents import read_json, read_yaml
from core.errors import InputError
from finetuning.config import TrainConfig
from finetuning.setup import Setup, prepare

# What members must share: the network, its start and the images, those held out above all. A
# member that was trained on what another one held out would be selected on its own training set.
SHARED = (
    *("model", "model_kwargs", "data", "envs", "skip_unreadable", "test_env", "image_size"),
    *("transform", "split_seed", "freeze_bn"),
)

Weights = Literal["final", "best"]
DEFAULTS: dict[str, Any] = {"weights": "final", "first_step": 300}

_STEP = re.compile(r"step_(\d+)")


class _Options(TypedDict):
    model: str
    data: str
    test_env: list[str]
    split_seed: int
    drop_rate: float
    seed: int


class _Facts(TypedDict):
    data_fingerprint: str
    pretrained_sha256: str | None


@dataclass(frozen=True)
class Member:
    """A finished run.

    Attributes:
        path: Its folder.
        config: Its resolved options.
        facts: Its run.json.
    """

    path: Path
    config: TrainConfig
    facts: dict[str, Any]

    @classmethod
    def read(cls, folder: str) -> "Member":
        """The run in a folder.

        Raises:
            InputError: If it is no finished run of `finetuning.train`, one of its tangent model,
                or a file in it is damaged.
        """
        path = Path(folder)
        if not (path / "final.safetensors").is_file() or not (path / "config.yaml").is_file():
            raise InputError(
                f"'{path}' is no finished run folder of finetuning.train, which was expected: "
                "finish the run with the same command, or leave it out"
            )
        options = dict(read_yaml(path / "config.yaml", _Options))
        known = {f.name for f in fields(TrainConfig)}
        if unknown := sorted(options.keys() - known):
            raise InputError(
                f"'{path}' was not made by finetuning.train alone (its options are unknown there:"
                f" {', '.join(unknown[:3])}); a run of it was expected: leave the folder out"
            )
        plain = {n: tuple(v) if isinstance(v, list) else v for n, v in options.items()}
        config = TrainConfig(**plain)  # type: ignore[arg-type]
        if config.tangent:
            raise InputError(
                f"'{path}' is a run of the tangent model, whose weights are those of an "
                "expansion; runs of networks were expected: leave it out"
            )
        return cls(path, config, dict(read_json(path / "run.json", _Facts)))

    def state(self, name: str) -> dict[str, Tensor]:
        """The weights in `NAME.safetensors`.

        Raises:
            InputError: If there are none, or the file is damaged.
        """
        return dict(read_state_dict(self.path / f"{name}.safetensors"))

    def trajectory(self, first_step: int) -> list[tuple[int, str]]:
        """Steps whose weights were kept, from a first step on, with the names of their files.

        Raises:
            InputError: If there are fewer than two.
        """
        found = {int(m[1]): m[0] for m in map(_STEP.fullmatch, self._names()) if m is not None}
        kept = [(step, name) for step, name in sorted(found.items()) if step >= first_step]
        if len(kept) < 2:
            raise InputError(
                f"'{self.path}' has {len(kept)} weights from step {first_step} on; at least two "
                "were expected: train it with --checkpoint_every, or lower --first_step"
            )
        return kept

    def _names(self) -> list[str]:
        return [path.stem for path in self.path.glob("step_*.safetensors")]


def check_used(
    given: Mapping[str, object], used: Collection[str], what: str, users: Mapping[str, str]
) -> None:
    """Refuse options that would be passed over in silence.

    Args:
        given: Values of options, None where they were left out.
        used: Names of those that count.
        what: What was asked for.
        users: What each option is for.

    Raises:
        InputError: With the first option that was given and does not count.

    Example:
        >>> check_used({"first_step": None}, (), "--method swad", {"first_step": "a trajectory"})
    """
    for name, value in given.items():
        if value is not None and name not in used:
            raise InputError(
                f"--{name} was given with {what}, which does not use it; it is for {users[name]}: "
                "leave it out"
            )


def read_members(folders: Sequence[str]) -> list[Member]:
    """Runs that may be averaged or asked together.

    Raises:
        InputError: If there are none, one is given twice or is no finished run, or they differ
            in network, start, images or hold-out.
    """
    if not folders:
        raise InputError("no run was given; at least one run folder was expected: give --runs")
    if len({Path(folder).resolve() for folder in folders}) < len(folders):
        raise InputError(f"a run was given twice ({', '.join(folders)}): remove one")
    first, *others = members = [Member.read(folder) for folder in folders]
    for other in others:
        for name in SHARED:
            _check_equal(name, first, other, *(getattr(m.config, name) for m in (first, other)))
        for name in _Facts.__annotations__:
            _check_equal(name, first, other, first.facts[name], other.facts[name])
    return members


def _check_equal(name: str, first: Member, other: Member, was: object, now: object) -> None:
    if was != now:
        raise InputError(
            f"'{first.path}' and '{other.path}' differ in {name} ({was} and {now}); runs of one "
            "network from one start with one hold-out were expected: leave one out, or train it "
            f"with the same {name}"
        )


def prepare_members(
    members: Sequence[Member], device: str, workers: int
) -> tuple[TrainConfig, Setup]:
    """The options and the images, network and device on which the members are measured.

    Returns:
        The first member's options, in full precision on this device, and its setup, whose
        network is to be given weights.

    Raises:
        InputError: If the images are not those that the runs saw, or the device cannot be used.
    """
    first = members[0]
    compute = {"device": device, "workers": workers, "amp": "none", "compile": False}
    config = replace(first.config, **compute)  # type: ignore[arg-type]
    setup = prepare(replace(config, pretrained="none"))  # whose weights will not be used
    if setup.facts["data_fingerprint"] != first.facts["data_fingerprint"]:
        raise InputError(
            f"the images of '{config.data}' are not those that '{first.path}' was trained on "
            "(files were added, removed or changed), so its hold-out is not known: restore them"
        )
    return config, setup
