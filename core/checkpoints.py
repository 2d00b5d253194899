"""Checkpoints into models: all of a network or an error, and never half of it.

Safetensors and torch files of timm, torchvision (ResNets, and whatever timm itself converts),
DomainBed and our own runs are understood; see `core.state_dicts` for how the network is found in
a file.
"""

import inspect
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor
from torch.nn import Module

from core.architectures import find_architecture
from core.errors import InputError
from core.models import classifier_name
from core.state_dicts import (
    CLASSIFIER,
    NetworkState,
    Tensors,
    listing,
    read_network,
    read_state_dict,
)
from core.tensor_files import read_metadata, save_state_dict, sha256

__all__ = [
    "LoadReport",
    "load_checkpoint",
    "read_metadata",
    "read_state_dict",
    "save_state_dict",
    "sha256",
]

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class LoadReport:
    """What was loaded from a checkpoint.

    Attributes:
        path: The file.
        sha256: Its SHA-256.
        num_loaded: Tensors that the model took from it.
        classifier_set_aside: The sizes in a sentence, where the model kept its own classifier.
        dtype: The floating-point types that the file stores, the most frequent first.
        notes: Whatever else was chosen, converted or set aside, one sentence each.
    """

    path: Path
    sha256: str
    num_loaded: int
    classifier_set_aside: str | None
    dtype: str
    notes: tuple[str, ...]


def load_checkpoint(model: Module, path: str | Path) -> LoadReport:
    """Loads the network in a checkpoint into a model of the same architecture.

    A classifier of another size, or none, leaves the model's own classifier as it was; this is
    logged and reported. Nothing is loaded unless everything else fits.

    Args:
        model: A timm model.
        path: A safetensors or torch file.

    Raises:
        InputError: If the file cannot be read, any other name or shape differs, or a weight is no
            finite number.
    """
    network, head = read_network(path), classifier_name(model)
    tensors = _with_head_name(network, head)
    tensors, notes = _converted(tensors, model, head)
    if misfits := _misfits(tensors, model, head):
        raise _refusal(misfits, network.tensors, model, path)
    kept = _kept_classifier(tensors, model, head)
    loaded = {n: t for n, t in tensors.items() if kept is None or not _is_in(head, n)}
    _check_finite(loaded, model, path)
    model.load_state_dict(model.state_dict() | loaded)
    report = LoadReport(
        path=Path(path),
        sha256=sha256(path),
        num_loaded=len(loaded),
        classifier_set_aside=kept,
        dtype=network.dtype,
        notes=(*network.notes, *notes),
    )
    for sentence in filter(None, (*report.notes, kept)):
        log.warning("%s: %s", path, sentence)
    return report


def _check_finite(tensors: Tensors, model: Module, path: str | Path) -> None:
    """Of weights and running statistics; other buffers may hold infinity, such as masks."""
    weights = dict(model.named_parameters()).keys()
    bad = [
        name
        for name, tensor in tensors.items()
        if (name in weights or ".running_" in name) and not tensor.isfinite().all()
    ]
    if bad:
        raise InputError(
            f"'{path}' holds NaN or infinity in {listing(bad)}; finite weights were expected: "
            "give a checkpoint from before its training diverged"
        )


def _is_in(module: str, name: str) -> bool:
    return name.rpartition(".")[0] == module


def _with_head_name(network: NetworkState, head: str) -> Tensors:
    if not network.has_foreign_classifier:
        return network.tensors
    return {
        f"{head}.{name.removeprefix(CLASSIFIER)}" if name.startswith(CLASSIFIER) else name: tensor
        for name, tensor in network.tensors.items()
    }


def _converted(tensors: Tensors, model: Module, head: str) -> tuple[Tensors, list[str]]:
    """Applies timm's own conversion of foreign checkpoints, where the names do not fit as is."""
    convert = getattr(inspect.getmodule(type(model)), "checkpoint_filter_fn", None)
    if convert is None or not _misfits(tensors, model, head):
        return tensors, []
    try:
        converted: Tensors = convert(dict(tensors), model)
    except Exception as error:
        # On names that they do not know, timm's converters fail in any way whatever.
        log.debug("timm cannot convert this checkpoint, which will be refused: %r", error)
        return tensors, []
    resized = [
        f"timm resized {name} from {_size(tensors[name])} to {_size(tensor)}"
        for name, tensor in converted.items()
        if name in tensors and tensors[name].shape != tensor.shape
    ]
    renamed = tensors.keys() - converted.keys()
    notes = [f"timm converted {listing(sorted(renamed))}"] if renamed else []
    return converted, notes + resized


def _misfits(tensors: Tensors, model: Module, head: str) -> list[str]:
    """How the names and shapes differ, one phrase each; the classifier may have other outputs."""
    own = model.state_dict()
    missing = [n for n in own if n not in tensors and not _is_in(head, n) and not _is_counter(n)]
    unexpected = [n for n in tensors if n not in own and not _is_in(head, n)]
    misshapen = [
        f"{name} is {_size(tensors[name])} instead of {_size(own[name])}"
        for name in own.keys() & tensors.keys()
        if tensors[name].shape[_is_in(head, name) :] != own[name].shape[_is_in(head, name) :]
    ]
    kinds = {"missing": missing, "unexpected": unexpected, "misshapen": sorted(misshapen)}
    return [f"{len(names)} {kind} ({listing(names)})" for kind, names in kinds.items() if names]


def _is_counter(name: str) -> bool:
    # PyTorch before 0.4.1 did not store it, and reads such files with a count of zero as well.
    return name.endswith("num_batches_tracked")


def _refusal(misfits: list[str], tensors: Tensors, model: Module, path: str | Path) -> InputError:
    own_name = getattr(model, "pretrained_cfg", {}).get("architecture") or type(model).__name__
    fitting = find_architecture(tensors, model, hint=str(path))
    advice = f"timm's '{fitting}' would fit" if fitting else "a short search found no timm model"
    advice += " without --model_kwargs" if fitting == own_name else ""
    return InputError(
        f"'{path}' does not fit '{own_name}': {', '.join(misfits)}; expected the same names and "
        f"shapes; {advice}"
    )


def _kept_classifier(tensors: Tensors, model: Module, head: str) -> str | None:
    own = {name: _size(t) for name, t in model.state_dict().items() if _is_in(head, name)}
    found = {name: _size(t) for name, t in tensors.items() if _is_in(head, name)}
    if own == found:
        return None
    keeps = f"the model keeps its own ({_listed_sizes(own)})"
    if not found:
        return f"the file has no classifier; {keeps}"
    return f"the file's classifier ({_listed_sizes(found)}) is set aside; {keeps}"


def _listed_sizes(sizes: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {size}" for name, size in sorted(sizes.items(), reverse=True))


def _size(tensor: Tensor) -> str:
    return " x ".join(map(str, tensor.shape)) or "a scalar"
