"""Images of environments as a torch dataset, each a function of a key."""

import random
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset

from core.domains import Environment
from core.transforms import Transform


class Key(NamedTuple):
    """What a transformed image is a function of.

    Attributes:
        env: Position of the environment.
        image: Index in the environment.
        seed: Seed of the transform, if it draws at random.
    """

    env: int
    image: int
    seed: int


class KeyedDataset(Dataset[tuple[Tensor, int]]):
    """Transformed images and their labels, each a function of its key alone.

    The order of reading, the number of workers and what else draws random numbers make no
    difference, so that a run which is killed and resumed sees the same pixels. A sampler, or a
    batch sampler, yields the keys.

    Args:
        environments: The environments that keys refer to.
        transform: Applied to every image; see `core.transforms.make_transform`.
    """

    def __init__(self, environments: Sequence[Environment], transform: Transform) -> None:
        self.environments = list(environments)
        self.transform = transform

    def __getitem__(self, key: Key | tuple[int, int, int]) -> tuple[Tensor, int]:
        env, index, seed = key
        environment = self.environments[env]
        image = environment.image(index)
        with seeded_transforms(seed):
            return self.transform(image), int(environment.labels[index])


@contextmanager
def seeded_transforms(seed: int) -> Generator[None, None, None]:
    """Seeds what transforms draw from on the CPU, and restores it afterwards.

    Only the CPU's generator: `torch.manual_seed` would reset those of the accelerators as well,
    which the training step draws its noise from.
    """
    torch_state, python_state = torch.get_rng_state(), random.getstate()
    torch.default_generator.manual_seed(seed)
    random.seed(seed)
    try:
        yield
    finally:
        torch.set_rng_state(torch_state)
        random.setstate(python_state)
