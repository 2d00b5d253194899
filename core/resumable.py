"""Folders that a command goes on in: config.yaml holds the options they were begun with."""

import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, TypedDict

import yaml

from core.command_line import as_yaml
from core.documents import read_yaml
from core.errors import InputError
from core.outputs import check_writable

OPTIONS = "config.yaml"


class _Options(TypedDict):
    """Options that are missing differ from those of any command."""


def check_resumable(
    config: Any,  # ruff: ignore[any-type] - any dataclass instance
    kind: str,
    not_compared: Collection[str],
    before: Mapping[str, Any] | None = None,
) -> None:
    """Refuse an output that belongs to something else, before any work is done.

    Args:
        config: The options of the command, `output` and `data` among them.
        kind: What the folder is of, such as `run`.
        not_compared: Options that may change when a command is resumed.
        before: What the command did before these were options, in folders of older releases.

    Raises:
        InputError: If the folder exists and was begun with other options, its config.yaml is
            damaged, or it cannot be written; or if it lies in the folder of the images.
    """
    path = Path(config.output)
    inside = Path(config.data).resolve() in [path.resolve(), *path.resolve().parents]
    if inside and config.data != "digits":
        raise InputError(
            f"'{path}' lies in '{config.data}', where only images were expected, and files of a "
            f"{kind} would be taken for some: choose another --output"
        )
    if not os.path.lexists(path):
        return check_writable(path)
    if not (path / OPTIONS).is_file():
        raise InputError(
            f"'{path}' already exists and is no {kind} folder; nothing in it is overwritten: "
            "choose another --output"
        )
    begun = {**(before or {}), **read_yaml(path / OPTIONS, _Options)}
    changed = differences(begun, yaml.safe_load(as_yaml(config)), not_compared)
    if changed:
        raise InputError(
            f"'{path}' holds a {kind} with other options ({'; '.join(changed[:3])}); a {kind} is "
            "only resumed with the same ones: choose another --output"
        )
    return check_writable(path)


def differences(
    begun: Mapping[str, Any], now: Mapping[str, Any], not_compared: Collection[str] = ()
) -> list[str]:
    """What is other now, in words.

    Example:
        >>> differences({"seed": 1, "lr": 0.1}, {"seed": 2, "lr": 0.1})
        ['seed was 1, now 2']
    """
    return [
        f"{name} was {begun.get(name)}, now {now[name]}"
        for name in now
        if name not in not_compared and begun.get(name) != now[name]
    ]
