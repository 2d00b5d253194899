r"""Probes of single layers and of all layers together: is there more than the last layer shows?

Every layer is standardised by its training statistics and divided by the root of its width, so
that each has total variance 1 and none wins by its size; then C is chosen for each set of layers
on its own, since more columns want another penalty.

Shapes: N examples, D features.

References:
    | Head2Toe: Utilizing Intermediate Representations for Better Transfer Learning
    | (Evci et al., 2022), https://arxiv.org/abs/2201.03529
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool
from torch import Tensor

from analysis.intervals import Row, proportion_interval
from core.arrays import Array, labels_of, matrix
from core.errors import InputError
from probes.transfer.logistic import LinearProbe
from probes.transfer.selection import dinov2_probe
from probes.transfer.transfer_gap import paired_difference

ALL = "all"


class LayerProbe(NamedTuple):
    """A probe, and whether it is right on each test example."""

    probe: LinearProbe
    right: Bool[np.ndarray, " N"]

    def row(self) -> Row:
        """Accuracy with Wilson's interval."""
        return proportion_interval(self.right.astype(float))


def layer_probes(
    train_layers: Mapping[str, Array],
    train_y: Array,
    test_layers: Mapping[str, Array],
    test_y: Array,
    *,
    seed: int = 0,
) -> dict[str, LayerProbe]:
    """A probe of every layer, and of their concatenation under the name `all`.

    Args:
        train_layers: Pooled features by layer, in the order of the network.
        train_y: Class indices.
        test_layers: The same layers of the test examples.
        test_y: Their class indices.
        seed: Of the validation split, which is the same for every layer.

    Raises:
        InputError: If the two sides name different layers, their numbers of examples differ, or
            features and labels do not fit.
    """
    _check_names(train_layers, test_layers)
    y = labels_of(test_y, len(next(iter(test_layers.values())))).numpy()

    def probe(names: list[str]) -> LayerProbe:
        train, test = (concatenated(layers, names) for layers in (train_layers, test_layers))
        blocks = [train_layers[name].shape[1] for name in names]
        chosen = dinov2_probe(train, train_y, blocks=blocks, seed=seed).probe
        return LayerProbe(chosen, chosen.predict(test) == y)

    single = {name: probe([name]) for name in train_layers}
    return single | {ALL: probe(list(train_layers))}


def concatenated(layers: Mapping[str, Array], names: list[str]) -> Tensor:
    """Layers side by side, in the wider of their precisions.

    Raises:
        InputError: If a layer is no matrix of finite numbers, or the numbers of examples differ.
    """
    blocks = [matrix(layers[name], f"features of '{name}'") for name in names]
    sizes = {name: len(block) for name, block in zip(names, blocks, strict=True)}
    if len(set(sizes.values())) > 1:
        raise InputError(
            f"the layers have different numbers of examples, {sizes}; the same examples in the "
            "same order were expected"
        )
    return torch.cat(blocks, dim=1)


def gain_over(probes: Mapping[str, LayerProbe], layer: str, *, seed: int = 0) -> Row:
    """How much more often the probe of all layers is right than that of one, on the same examples.

    Args:
        probes: From `layer_probes`.
        layer: The layer to compare with, usually the penultimate one.
        seed: Of the bootstrap.
    """
    ours, other = (probes[name].right.astype(float) for name in (ALL, layer))
    return paired_difference(ours, other, seed=seed)


def _check_names(train_layers: Mapping[str, Array], test_layers: Mapping[str, Array]) -> None:
    if not train_layers or list(train_layers) != list(test_layers) or ALL in train_layers:
        raise InputError(
            f"training layers are {list(train_layers)}, test layers {list(test_layers)}; the same "
            f"layers in the same order were expected, none of them named '{ALL}'"
        )
