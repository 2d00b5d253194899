"""Images and pretrained networks, kept in memory for the next run of the same process.

What is kept is a function of its key alone, which holds everything that it depends on: options,
and names, sizes and times of the files. A run is the same, byte for byte, with it and without it.
Two data sets and two networks are kept at most.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from copy import deepcopy
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch.nn import Module

from core.checkpoints import load_checkpoint
from core.domains import DIGITS, Domains, load_domains
from core.glyphnet import WEIGHTS
from core.models import create_model

KEPT = 2
TIMM = "timm"
_LEVELS = 3  # environment, class, image


def shared_domains(data: str, envs: tuple[str, ...], *, skip_unreadable: bool) -> Domains:
    """What `core.domains.load_domains` returns; images are checked again only if a file changed.

    Raises:
        InputError: As `load_domains` does.
    """
    state = "" if data == DIGITS else _folder_state(Path(data).absolute())
    return _domains(data, envs, skip_unreadable, state)


@lru_cache(maxsize=KEPT)
def _domains(data: str, envs: tuple[str, ...], skip_unreadable: bool, _state: str) -> Domains:
    return load_domains(data, envs=envs, skip_unreadable=skip_unreadable)


def _folder_state(root: Path) -> str:
    """SHA-256 over names, sizes and times of all files."""
    digest = hashlib.sha256(str(root).encode())
    for line in _files(root, _LEVELS) if root.is_dir() else ():
        digest.update(line.encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _files(folder: Path, levels: int) -> Iterator[str]:
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            if entry.is_dir():
                yield f"{entry.path}\n"
                yield from _files(Path(entry.path), levels - 1) if levels > 1 else ()
            else:
                yield f"{entry.path}\t{_file_state(entry.path)}\n"


def _file_state(path: str) -> tuple[int, ...]:
    """What changes when a file is written again; nothing where there is none."""
    if not os.path.exists(path):
        return ()
    found = Path(path).stat()
    return found.st_size, found.st_mtime_ns, found.st_dev, found.st_ino


def pretrained_network(
    model: str, num_classes: int, kwargs: Mapping[str, Any], pretrained: str
) -> Module:
    """The caller's own copy of a network with pretrained weights.

    Raises:
        InputError: If timm does not know the model or the checkpoint does not fit it.
    """
    path = None if pretrained == TIMM else str(WEIGHTS.get(pretrained, pretrained))
    return deepcopy(
        _network(
            model,
            num_classes,
            json.dumps(dict(kwargs), sort_keys=True),
            path,
            _file_state(path) if path else (),
            torch.get_default_dtype(),
        )
    )


@lru_cache(maxsize=KEPT)
def _network(
    name: str,
    num_classes: int,
    kwargs: str,
    path: str | None,
    _state: tuple[int, ...],
    _dtype: torch.dtype,
) -> Module:
    torch.manual_seed(0)  # in case that a checkpoint leaves something at random
    fetched = path is None
    model = create_model(name, num_classes, fetched, **json.loads(kwargs))
    if path is not None:
        load_checkpoint(model, path)
    return model
