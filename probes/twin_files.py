"""What the twins of a run hold: the tangent model's weights, the logits of the linear model.

Shapes: N images of an environment, C classes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import Module

from core.checkpoints import load_checkpoint, sha256
from core.documents import damaged, read_json
from core.domains import Domains
from core.errors import InputError
from core.linearization import Weights
from core.models import float_state
from core.tensor_files import read_contents
from probes.sources import RunFacts, Source
from probes.twins import PREDICTIONS

ITERATIONS = ("best", "final")  # of the best i.i.d. accuracy, and the last one


def read_weights(model: Module, path: Path) -> tuple[Weights, str]:
    """The weights in a file of a run folder, its classifier among them, and its SHA-256.

    Raises:
        InputError: If the file is damaged or of another network or other classes.
    """
    report = load_checkpoint(model, path)
    if report.classifier_set_aside:
        raise InputError(
            f"'{path}': {report.classifier_set_aside}; a classifier of the {model.num_classes} "
            "classes of the images was expected: check --twins and --data"
        )
    return {name: tensor.clone() for name, tensor in float_state(model).items()}, report.sha256


def read_tangent_twin(
    folder: Path, source: Source, begun: Weights, model: Module, weights: str
) -> tuple[Weights, str]:
    """What a tangent model was trained to, and the file's SHA-256.

    Args:
        folder: The twin's.
        source: The ordinary run.
        begun: The weights that the ordinary run began at.
        model: Their network.
        weights: `final` or `best`.

    Raises:
        InputError: If a file is damaged or of another network, or the twin saw other images or
            began elsewhere.
    """
    _check_images(folder, source)
    own, _ = read_weights(model, folder / "init.safetensors")
    moved = [name for name, tensor in own.items() if not torch.equal(tensor, begun[name])]
    if moved:
        raise InputError(
            f"'{folder}' did not begin at the run's weights ({len(moved)} tensors differ, such "
            f"as {moved[0]}); a twin starts where the run did: train it again with the same "
            "pretrained file, or leave it out of --twins"
        )
    return read_weights(model, folder / f"{weights}.safetensors")


@dataclass(frozen=True, eq=False)
class LinearTwin:
    """What the linear model (1) says of every image.

    Attributes:
        logits: By iteration and environment, a row for every image.
        sha256: Of the file.
    """

    logits: Mapping[str, Mapping[str, Float[Tensor, "N C"]]]
    sha256: str


def read_linear_twin(folder: Path, source: Source, domains: Domains) -> LinearTwin:
    """The predictions of a linear twin of a run.

    Raises:
        InputError: If the file is damaged, or is of other images.
    """
    _check_images(folder, source)
    path = folder / PREDICTIONS
    found = read_contents(path)
    assert isinstance(found, dict)  # as all safetensors files are
    logits = {
        iteration: {
            env: _checked(found, f"{iteration}|{env}", (len(images), len(domains.classes)), path)
            for env, images in domains.environments.items()
        }
        for iteration in ITERATIONS
    }
    return LinearTwin(logits, sha256(path))


def _check_images(folder: Path, source: Source) -> None:
    """The folder of images may have changed between two commands with the same options."""
    twin, run = (read_json(path / "run.json", RunFacts) for path in (folder, source.path))
    if twin["data_fingerprint"] != run["data_fingerprint"]:
        raise InputError(
            f"'{folder}' was made of other images than '{source.path}' (files were added, removed "
            "or changed in between); a twin sees the run's images: make it again, or leave it out "
            "of --twins"
        )


def _checked(
    found: Mapping[str, Tensor], name: str, expected: tuple[int, int], path: Path
) -> Float[Tensor, "N C"]:
    if name not in found:
        raise damaged(path, f"lacks {name}")
    if tuple(found[name].shape) != expected:
        raise InputError(
            f"'{path}' has logits of {tuple(found[name].shape)} in {name}, the images ask for "
            f"{expected}; a linear model of the same images was expected: fit it again, or leave "
            "it out of --twins"
        )
    if not found[name].isfinite().all():
        raise damaged(path, f"holds NaN or infinity in {name}")
    return found[name]
