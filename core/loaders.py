"""Loaders of images by key: a batch is a function of its keys, whichever process makes it.

Shapes: B images of S x S pixels.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from core.datasets import Key, KeyedDataset
from core.domains import Domains, Environment
from core.errors import InputError
from core.transforms import (
    DataConfig,
    Kind,
    digits_eval_batch,
    digits_train_batch,
    make_transform,
)

Batch = tuple[Float[Tensor, "B 3 S S"], Int64[Tensor, " B"]]


@runtime_checkable
class KeyLists(Protocol):
    """The keys of one batch after another."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[list[Key]]: ...


class InOrder:
    """Keys of given images of one environment, batch by batch, in order.

    Example:
        >>> [len(keys) for keys in InOrder(0, range(5), batch_size=2)]
        [2, 2, 1]
    """

    def __init__(
        self, env: int, images: Collection[int] | Int64[np.ndarray, " N"], batch_size: int
    ) -> None:
        self.env, self.images, self.batch_size = env, list(images), batch_size

    def __len__(self) -> int:
        return -(-len(self.images) // self.batch_size)

    def __iter__(self) -> Iterator[list[Key]]:
        for start in range(0, len(self.images), self.batch_size):
            chunk = self.images[start : start + self.batch_size]
            yield [Key(self.env, int(image), start + i) for i, image in enumerate(chunk)]


class ArrayDataset(Dataset[Batch]):
    """The embedded digits in memory, transformed a batch at a time.

    The seed of a batch's first key fixes the augmentation of the whole batch.
    """

    def __init__(
        self, environments: Iterable[Environment], data_config: DataConfig, *, training: bool
    ) -> None:
        environments = tuple(environments)
        arrays = [e.array for e in environments if e.array is not None]
        self.images = torch.from_numpy(np.concatenate(arrays))
        self.labels = torch.from_numpy(np.concatenate([e.labels for e in environments]))
        self.starts = np.cumsum([0, *(len(e) for e in environments)])
        self.data_config, self.training = data_config, training

    def __getitem__(self, keys: Sequence[Key]) -> Batch:
        rows = torch.tensor([self.starts[key.env] + key.image for key in keys])
        images, labels = self.images[rows], self.labels[rows]
        if not self.training:
            return digits_eval_batch(images, self.data_config), labels
        generator = torch.Generator().manual_seed(keys[0].seed)
        return digits_train_batch(images, self.data_config, generator), labels


def image_loader(
    domains: Domains,
    batches: KeyLists,
    kind: Kind,
    data_config: DataConfig,
    *,
    training: bool,
    workers: int = 0,
) -> DataLoader:
    """A loader of images and labels, one batch per list of keys.

    Raises:
        InputError: If the digits' transform is asked for other images.
    """
    check_transform(kind, domains)
    environments = list(domains.environments.values())
    pin = torch.accelerator.is_available()
    if kind != "digits":
        transform = make_transform(kind, training=training, data_config=data_config)
        return DataLoader(
            KeyedDataset(environments, transform),
            batch_sampler=batches,  # type: ignore[arg-type]
            num_workers=workers,
            pin_memory=pin,
        )
    return DataLoader(
        ArrayDataset(environments, data_config, training=training),
        sampler=batches,  # type: ignore[arg-type]
        batch_size=None,
        pin_memory=pin,
    )


def check_transform(kind: Kind, domains: Domains) -> None:
    """Refuse the digits' transform for images that are not in memory.

    Raises:
        InputError: If an environment is a folder.
    """
    if kind == "digits" and any(e.array is None for e in domains.environments.values()):
        raise InputError(
            "the transform 'digits' is for the embedded digits; choose --transform paper or timm "
            "for image folders"
        )
