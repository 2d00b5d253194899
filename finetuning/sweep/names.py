"""The name of a run: a hash of the options that its weights depend on."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from core.options import RUNS_BEFORE
from finetuning.config import TrainConfig, resolve
from finetuning.linear.config import LinearConfig, resolve_linear
from finetuning.run_folder import NOT_COMPARED, ROUNDING

RunConfig = TrainConfig | LinearConfig

COMMANDS: dict[str, type[RunConfig]] = {"train": TrainConfig, "linear": LinearConfig}
# Where and how fast a run is made, what rounds its numbers, and what its drop rate says as well.
WITHOUT_EFFECT = frozenset({"cache", *NOT_COMPARED, *ROUNDING})
LENGTH = 12  # hexadecimal digits: two of a million runs share a name once in 500 such sweeps


def command_of(config: RunConfig) -> str:
    """`train` or `linear`.

    Example:
        >>> command_of(LinearConfig())
        'linear'
    """
    return next(name for name, kind in COMMANDS.items() if type(config) is kind)


def resolved(config: RunConfig) -> RunConfig:
    """The same options with everything that was left out filled in."""
    return resolve_linear(config) if isinstance(config, LinearConfig) else resolve(config)


def run_name(config: RunConfig) -> str:
    """First digits of the SHA-256 of the resolved options, as JSON in alphabetical order.

    Processes, machines, versions of Python and later releases give the same name. Options that
    say where and how fast do not count, nor do newer ones at what runs did before they were there
    (`core.options.RUNS_BEFORE`); one that is left out counts as what it defaults to. Runs that
    differ in rounding alone have one name, but an interrupted one only goes on with its own
    rounding (`finetuning.run_folder`).

    Example:
        >>> run_name(TrainConfig(lr=1e-2)) == run_name(TrainConfig(device="cpu", output="runs/a"))
        True
        >>> run_name(TrainConfig(seed=1)) == run_name(TrainConfig())
        False
    """
    options = asdict(resolved(config))
    counted = {n: v for n, v in options.items() if n not in WITHOUT_EFFECT and not _is_old(n, v)}
    plain = _plain({"command": command_of(config), "options": counted})
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:LENGTH]


def _is_old(name: str, value: object) -> bool:
    return name in RUNS_BEFORE and value == RUNS_BEFORE[name]


def differing_options(configs: Sequence[RunConfig]) -> list[str]:
    """Names of the options that these do not share, but for `output`.

    Example:
        >>> differing_options([TrainConfig(output="a", seed=1), TrainConfig(output="b")])
        ['seed']
    """
    values: dict[str, set[str]] = {}
    for config in configs:
        for name, value in asdict(config).items():
            values.setdefault(name, set()).add(repr(value))
    return [name for name, found in values.items() if len(found) > 1 and name != "output"]


def _plain(value: Any) -> Any:  # ruff: ignore[any-type] - whatever YAML holds
    """Numbers that are equal are written alike: 1 and 1.0."""
    if isinstance(value, dict):
        return {str(name): _plain(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
