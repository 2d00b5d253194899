"""Files that hold named tensors: safetensors and what `torch.save` writes.

Nothing in a file is ever executed: a pickle is read with `weights_only=True`, and one that
carries code is refused.
"""

import argparse
import hashlib
import json
import os
import pickle
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from core.errors import InputError
from core.outputs import whole_file

EXPECTED = "a state dict in a safetensors or torch file"
# Several keys would be written in an order that changes from run to run.
_METADATA_KEY = "lazyrich"
_ZIP_OR_PICKLE = (b"PK", b"\x80")
# Plain values that training scripts store beside the weights (timm's arguments, DomainBed's
# hyperparameters); none of them runs code when it is unpickled. NumPy 1 and 2 name
# `scalar` differently.
_PLAIN_GLOBALS = [
    argparse.Namespace,
    np.dtype,
    *{type(np.dtype(code)) for code in "?bBhHiIlLqQefdU"},
    (np.float64(0).__reduce__()[0], "numpy.core.multiarray.scalar"),
    (np.float64(0).__reduce__()[0], "numpy._core.multiarray.scalar"),
]


def sha256(path: str | Path) -> str:
    """SHA-256 of a file as 64 hexadecimal digits, read in pieces.

    Raises:
        InputError: If there is no such file.
    """
    with existing_file(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def existing_file(path: str | Path) -> Path:
    """The path of a file that can be opened.

    Raises:
        InputError: If there is none, a folder, or no permission.
    """
    path = Path(path)
    if path.is_dir():
        raise InputError(f"'{path}' is a folder; expected {EXPECTED}; name a file inside it")
    if not path.is_file():
        raise InputError(f"there is no file '{path}'; expected {EXPECTED}; check the path")
    if not os.access(path, os.R_OK):
        raise InputError(f"'{path}' may not be read; expected {EXPECTED}; change its permissions")
    return path


def read_contents(path: str | Path) -> object:
    """Everything that a file holds, on the CPU: a dict of tensors, or what `torch.save` was given.

    Raises:
        InputError: If the file is missing, empty, truncated, of another kind, or carries code.
    """
    path = existing_file(path)
    with path.open("rb") as file:
        start = file.read(9)
    if not start:
        raise InputError(f"'{path}' is empty; expected {EXPECTED}; write or download it again")
    # Eight bytes of length, then JSON; no zip archive and no pickle has a brace there.
    if start[8:] == b"{" or path.suffix == ".safetensors":
        return _read_safetensors(path)
    if not start.startswith(_ZIP_OR_PICKLE):
        raise InputError(
            f"'{path}' is neither a safetensors nor a torch file; expected {EXPECTED}; "
            "check the path"
        )
    return _read_torch(path)


def save_state_dict(
    state: Mapping[str, Tensor], path: str | Path, metadata: Mapping[str, object]
) -> None:
    """Writes tensors to a safetensors file, completely or not at all.

    Same tensors and metadata, same bytes. Tensors that share memory are written separately.

    Args:
        state: Tensors by name, on any device.
        path: The file to write or replace.
        metadata: What JSON can hold; see `read_metadata`.

    Raises:
        InputError: If the folder is missing or not writable, or the disk is full.
    """
    tensors = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in state.items()
    }
    text = json.dumps(dict(metadata), sort_keys=True, allow_nan=False)
    with whole_file(Path(path)) as file:
        save_file(tensors, file, metadata={_METADATA_KEY: text})


def read_metadata(path: str | Path) -> dict[str, object]:
    """The metadata given to `save_state_dict`; empty for a file that another program wrote.

    Raises:
        InputError: If the file is missing or no safetensors file.
    """
    path = existing_file(path)
    try:
        with safe_open(path, framework="pt") as file:
            return json.loads((file.metadata() or {}).get(_METADATA_KEY, "{}"))
    except SafetensorError as error:
        raise _broken_safetensors(path, error) from error


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # ruff: ignore[in-dict-keys]
    except SafetensorError as error:
        raise _broken_safetensors(path, error) from error


def _broken_safetensors(path: Path, error: SafetensorError) -> InputError:
    return InputError(
        f"'{path}' is no complete safetensors file ({error}); expected {EXPECTED}; "
        "write or download it again"
    )


def _read_torch(path: Path) -> object:
    try:
        with torch.serialization.safe_globals(_PLAIN_GLOBALS), warnings.catch_warnings():
            # What such a pickle holds is refused below if it is more than tensors.
            warnings.filterwarnings("ignore", message="Detected pickle protocol")
            # Mapped, an optimizer's state is not read unless somebody asks for it.
            mmap = zipfile.is_zipfile(path)
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except pickle.UnpicklingError as error:
        raise _refused_pickle(path) from error
    except (RuntimeError, EOFError, ValueError, OSError, KeyError) as error:
        raise InputError(
            f"'{path}' is no complete torch file ({_first_sentence(error)}); expected "
            f"{EXPECTED}; write or download it again"
        ) from error


def _refused_pickle(path: Path) -> InputError:
    return InputError(
        f"'{path}' is refused because its pickle carries code or objects, or is not of "
        "protocol 2; expected tensors only; save it again with "
        "torch.save(model.state_dict(), ...) or as safetensors"
    )


def _first_sentence(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].split(". ")[0].rstrip(".") if lines else type(error).__name__
