r"""One pass over the images: features by layer, each a matrix that is kept on disk.

The layers of a network are `features` (the penultimate :math:`\Phi`, exactly what the classifier
reads), `logits`, and its residual blocks by name, pooled to one vector per image. What was
computed once for a checkpoint, a layer and some images is read back from the cache.

Shapes: N images, D features of a layer, B images in a batch.
"""

import functools
import hashlib
import importlib.metadata
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import Module
from torch.utils.data import DataLoader
from tqdm import tqdm

from core.domains import Domains
from core.errors import InputError
from core.feature_cache import EntryWriter, FeatureCache, cache_key
from core.layers import FEATURES, LOGITS, layer_outputs
from core.loaders import InOrder, image_loader
from core.pooling import Pooling
from core.transforms import DataConfig, Kind

_PACKAGES = ("torch", "timm", "torchvision", "pillow")  # that decide what a pixel and a layer are

Matrices = dict[str, Float[np.ndarray, "_ _"]]


@dataclass(frozen=True, kw_only=True)
class Network:
    """A network, and what tells its weights from any others.

    Attributes:
        model: On the device and in the precision to compute in; put in evaluation mode.
        name: Its name in timm.
        kwargs: Further arguments that it was built with.
        checkpoint: SHA-256 of the file that its weights were loaded from.
    """

    model: Module
    name: str
    kwargs: dict[str, Any] = field(default_factory=dict)
    checkpoint: str

    @property
    def parameter(self) -> Tensor:
        """Any weight, for the device and type of all."""
        return next(self.model.parameters())


@dataclass(frozen=True, kw_only=True)
class Images:
    """Images of one environment, as the network reads them.

    Attributes:
        domains: The data set.
        env: The environment.
        indices: Which of its images, in which order.
        transform: How they become tensors, without augmentation.
        data_config: Input size, mean, std and interpolation, as timm resolves them.
    """

    domains: Domains
    env: str
    indices: Int64[np.ndarray, " N"]
    transform: Kind
    data_config: DataConfig

    def identity(self) -> dict[str, object]:
        """All that the pixels depend on."""
        return {
            "data": self.domains.fingerprint,
            "files": self._files(),
            "env": self.env,
            "indices": hashlib.sha256(self.indices.astype("<i8").tobytes()).hexdigest(),
            "transform": self.transform,
            "data_config": dict(self.data_config),
            "pixels": str(torch.get_default_dtype()),
        }

    def loader(self, batch_size: int, workers: int) -> DataLoader:
        """Batches of them, in order."""
        index = list(self.domains.environments).index(self.env)
        return image_loader(
            self.domains,
            InOrder(index, self.indices, batch_size),
            self.transform,
            self.data_config,
            training=False,
            workers=workers,
        )

    def _files(self) -> str | None:
        """Names and times of the files: a file may be altered and keep the size it had."""
        env = self.domains.environments[self.env]
        if env.root is None:
            return None
        digest = hashlib.sha256()
        for index in self.indices:
            name = env.ids[index]
            digest.update(f"{name}\t{(env.root / name).stat().st_mtime_ns}\n".encode())
        return digest.hexdigest()


def extract(
    network: Network,
    images: Images,
    layers: Sequence[str],
    cache: FeatureCache,
    *,
    pooling: Pooling = "avg",
    batch_size: int = 64,
    workers: int = 0,
) -> Matrices:
    """Features of the images by layer, in the network's precision, mapped from the cache.

    Layers that the cache lacks, and only they, are computed, all in one pass. No more than a
    batch is ever in memory. A pass that is killed leaves nothing that is taken for a matrix.

    Args:
        network: The network.
        images: The images.
        layers: Names that `core.layers.chosen_layers` returned.
        cache: Where matrices are kept.
        pooling: How blocks are pooled (see `core.pooling.pool`).
        batch_size: Images in a batch.
        workers: Processes that decode images; 0 does it in this one.

    Returns:
        A matrix of N x D by layer, in the order of `layers`.

    Raises:
        InputError: If there are no images, a layer cannot be pooled or gives NaN or infinity, or
            the cache cannot be written.
    """
    if not len(images.indices):
        raise InputError(
            f"no images of environment '{images.env}' were chosen; at least one was expected"
        )
    pixels = images.identity()
    keys = {
        layer: cache_key(_identity(network, layer, pooling) | pixels)
        for layer in dict.fromkeys(layers)
    }
    found = {layer: cache.read(key) for layer, key in keys.items()}
    missing = {layer: keys[layer] for layer, matrix in found.items() if matrix is None}
    if missing:
        with ExitStack() as stack:
            writers = {
                layer: stack.enter_context(cache.writing(key, len(images.indices)))
                for layer, key in missing.items()
            }
            _fill(writers, network, images.loader(batch_size, workers), images.env, pooling)
        found |= {layer: _read_back(cache, key) for layer, key in missing.items()}
    return {layer: matrix for layer, matrix in found.items() if matrix is not None}


def _identity(network: Network, layer: str, pooling: Pooling) -> dict[str, object]:
    is_block = layer not in {FEATURES, LOGITS}
    weight = network.parameter
    return {
        "checkpoint": network.checkpoint,
        "model": network.name,
        "model_kwargs": network.kwargs,
        "layer": layer,
        "pooling": pooling if is_block else None,
        "dtype": str(weight.dtype),
        "device": weight.device.type,  # rounds in its own way
        "packages": _versions(),
    }


@functools.cache
def _versions() -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in _PACKAGES}


def _fill(
    writers: dict[str, EntryWriter],
    network: Network,
    loader: DataLoader,
    env: str,
    pooling: Pooling,
) -> None:
    weight, model = network.parameter, network.model.eval()
    for images, _ in tqdm(loader, desc=f"features of {env}", unit="batch"):
        x = images.to(weight.device, weight.dtype, non_blocking=True)
        for layer, rows in layer_outputs(model, x, list(writers), pooling).items():
            _append(writers[layer], rows.cpu().numpy(), layer, env)


def _append(writer: EntryWriter, rows: Float[np.ndarray, "B D"], layer: str, env: str) -> None:
    if not np.isfinite(rows).all():
        raise InputError(
            f"layer '{layer}' gives NaN or infinity for images of environment '{env}'; finite "
            "numbers were expected: check the checkpoint, or choose --dtype float64"
        )
    writer.append(rows)


def _read_back(cache: FeatureCache, key: str) -> Float[np.memmap, "N D"]:
    matrix = cache.read(key)
    if matrix is None:
        raise InputError(
            f"what was just written to '{cache.path(key)}' does not come back; a working disk was "
            "expected: choose another --cache"
        )
    return matrix
