r"""The adapted representation of the paper's linear model (1), from `finetuning.linear`.

.. math:: \tilde\Phi(x) = \sum_l v_l \odot \phi_l(x)

with the trained v and, where the model was fitted with one, the normalisation of its inputs.

Shapes: N examples, L blocks, D channels.

References:
    | Fine-tuning with Very Large Dropout (Zhang & Bottou, 2024), sections 3.2 and B.1
    | https://arxiv.org/abs/2403.00946
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypedDict

import numpy as np
from jaxtyping import Float

from core.documents import damaged, read_json, read_yaml
from core.errors import InputError
from core.pooling import Pooling
from core.tensor_files import read_contents

EPSILON = 1e-5  # PyTorch's, of BatchNorm


class _Options(TypedDict):
    model: str
    inputs: Literal["outputs", "increments"]
    norm: Literal["none", "batchnorm", "standardise"]
    pooling: Pooling


class _Facts(TypedDict):
    layers: list[str]


@dataclass(frozen=True, eq=False)
class Adapter:
    """What a fitted model (1) makes of the layers that it reads.

    Attributes:
        model: Name of the network.
        layers: That it reads.
        pooling: How it pools them.
        increments: Whether it takes what each layer adds to the one before.
        scales: The trained v.
        center: What is subtracted from its inputs.
        spread: What they are divided by.
    """

    model: str
    layers: tuple[str, ...]
    pooling: Pooling
    increments: bool
    scales: Float[np.ndarray, "L D"]
    center: Float[np.ndarray, "L D"]
    spread: Float[np.ndarray, "L D"]

    def __call__(self, blocks: Sequence[Float[np.ndarray, "N _"]]) -> Float[np.ndarray, "N D"]:
        """The adapted representation of the layers' pooled outputs.

        Raises:
            InputError: If they do not have the widths that the model was fitted on.
        """
        is_stack = len(self.scales) == len(blocks)
        x = np.stack(blocks, 1) if is_stack else np.concatenate(blocks, 1)[:, None]
        if x.shape[1:] != self.scales.shape:
            raise InputError(
                f"the layers have {x.shape[1:]} blocks and channels, the linear model "
                f"{self.scales.shape}; those that it was fitted on were expected: check --adapted"
            )
        if self.increments:
            x = np.diff(x, axis=1, prepend=np.zeros_like(x[:, :1]))
        return ((x - self.center) / self.spread * self.scales).sum(1)


def read_adapter(folder: Path) -> Adapter:
    """The adapter of the fit with the best i.i.d. accuracy.

    Raises:
        InputError: If the folder is not one of `finetuning.linear`, or a file is damaged.
    """
    if not (folder / "predictions.safetensors").is_file():
        raise InputError(
            f"'{folder}' holds no linear model; a folder that `python -m finetuning.linear` wrote "
            "was expected: check --adapted"
        )
    options = read_yaml(folder / "config.yaml", _Options)
    layers = read_json(folder / "run.json", _Facts)["layers"]
    path = folder / "best.safetensors"
    found = read_contents(path)
    if not isinstance(found, dict) or "scales" not in found:
        raise damaged(path, "holds no scales of a linear model")
    state = {name: tensor.double().numpy() for name, tensor in found.items()}
    center, spread = _normalisation(options["norm"], state)
    return Adapter(
        model=options["model"],
        layers=tuple(layers),
        pooling=options["pooling"],
        increments=options["inputs"] == "increments",
        scales=state["scales"],
        center=center,
        spread=spread,
    )


def _normalisation(norm: str, state: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    scales = state["scales"]
    if norm == "none":
        return np.zeros_like(scales), np.ones_like(scales)
    if norm == "standardise":
        return state["norm.mean"], state["norm.scale"]
    mean, variance = (state[f"norm.norm.running_{name}"] for name in ("mean", "var"))
    return mean.reshape(scales.shape), np.sqrt(variance + EPSILON).reshape(scales.shape)
