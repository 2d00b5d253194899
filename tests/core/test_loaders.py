"""Tests for core/loaders.py."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from core.datasets import Key, KeyedDataset
from core.domains import Domains, Environment, load_domains
from core.errors import InputError
from core.loaders import ArrayDataset, InOrder, check_transform, image_loader
from core.transforms import Kind, make_transform
from tests.finetuning.tiny import ENVS, NUM, write_images

CONFIG: dict[str, Any] = {
    "input_size": (3, 32, 32),
    "mean": (0.5, 0.4, 0.3),
    "std": (0.5, 0.6, 0.7),
    "interpolation": "bilinear",
    "crop_pct": 1.0,
}


def in_memory() -> Domains:
    """Three environments of different sizes, every image and label its own."""
    rng = np.random.default_rng(0)
    environments = {
        name: Environment(
            name=name,
            labels=rng.integers(0, 10, num),
            ids=tuple(f"{name}/{i}" for i in range(num)),
            array=rng.integers(0, 256, (num, 32, 32, 3), np.uint8),
        )
        for name, num in (("ink", 5), ("outline", 3), ("photo", 4))
    }
    return Domains(environments, tuple("0123456789"), "fingerprint")


def batches_of(
    domains: Domains, keys: list[list[Key]], kind: Kind, *, training: bool, workers: int = 0
) -> list:
    loader = image_loader(domains, keys, kind, CONFIG, training=training, workers=workers)
    return list(loader)


def assert_same_batches(first: list, second: list) -> None:
    for (images, labels), (other_images, other_labels) in zip(first, second, strict=True):
        assert torch.equal(images, other_images)
        assert torch.equal(labels, other_labels)


@given(num=st.integers(0, 40), batch_size=st.integers(1, 12))
def test_in_order_lists_every_image_once_and_in_order(num: int, batch_size: int) -> None:
    images = np.random.default_rng(num).permutation(100)[:num].tolist()
    batches = InOrder(2, images, batch_size)
    keys = [key for batch in batches for key in batch]

    assert [key.image for key in keys] == images
    assert [key.seed for key in keys] == list(range(num))
    assert {key.env for key in keys} <= {2}
    sizes = [len(batch) for batch in batches]
    assert len(batches) == len(sizes)
    assert all(size == batch_size for size in sizes[:-1])


def test_in_order_can_be_read_twice() -> None:
    batches = InOrder(0, range(5), 2)

    assert list(batches) == list(batches)


def test_images_and_labels_in_memory_are_those_of_their_keys() -> None:
    domains = in_memory()
    environments = list(domains.environments.values())
    keys = [Key(2, 3, 0), Key(0, 4, 0), Key(1, 0, 0), Key(2, 0, 0)]
    transform = make_transform("digits", training=False, data_config=CONFIG)

    images, labels = ArrayDataset(environments, CONFIG, training=False)[keys]

    single = [KeyedDataset(environments, transform)[key] for key in keys]
    torch.testing.assert_close(images, torch.stack([image for image, _ in single]))
    assert labels.tolist() == [label for _, label in single]


def test_the_first_seed_fixes_the_augmentation_of_a_batch() -> None:
    dataset = ArrayDataset(in_memory().environments.values(), CONFIG, training=True)

    def images(seed: int, other: int) -> Tensor:
        return dataset[[Key(0, 1, seed), Key(1, 2, other)]][0]

    torch.manual_seed(1)
    first = images(7, 8)
    torch.manual_seed(2)
    assert torch.equal(images(7, 9), first)
    assert not torch.equal(images(8, 8), first)


def test_drawing_augmentations_leaves_the_global_generator_alone() -> None:
    dataset = ArrayDataset(in_memory().environments.values(), CONFIG, training=True)
    state = torch.get_rng_state()

    dataset[[Key(0, 1, 7)]]

    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("kind", ["digits", "paper"])
@pytest.mark.parametrize("training", [False, True])
def test_batches_come_in_order_and_again_the_same(kind: Kind, training: bool) -> None:
    domains = in_memory()
    keys = [[Key(0, 4, 1), Key(2, 1, 2)], [Key(1, 2, 3)], [Key(0, 4, 1), Key(2, 1, 2)]]
    loaded = batches_of(domains, keys, kind, training=training)

    expected = [[domains.environments["ink"].labels[4], domains.environments["photo"].labels[1]]]
    assert [labels.tolist() for _, labels in loaded[:1]] == expected
    assert [images.shape for images, _ in loaded] == [
        (2, 3, 32, 32),
        (1, 3, 32, 32),
        (2, 3, 32, 32),
    ]
    assert_same_batches(loaded[:1], loaded[2:])
    assert_same_batches(loaded, batches_of(domains, keys, kind, training=training))


@pytest.mark.parametrize("kind", ["paper", "timm"])
def test_workers_make_no_difference_to_folders(tmp_path: Path, kind: Kind) -> None:
    domains = load_domains(str(write_images(tmp_path)))
    keys = [[Key(0, i, i), Key(2, 11 - i, 5 * i)] for i in range(5)]

    alone = batches_of(domains, keys, kind, training=True, workers=0)
    shared = batches_of(domains, keys, kind, training=True, workers=2)

    assert_same_batches(alone, shared)
    assert len({images.sum().item() for images, _ in alone}) == len(keys)


def test_labels_of_a_folder_are_the_positions_of_its_classes(tmp_path: Path) -> None:
    domains = load_domains(str(write_images(tmp_path)))
    loader = image_loader(domains, InOrder(1, range(2 * NUM), 5), "paper", CONFIG, training=False)

    labels = torch.cat([labels for _, labels in loader])

    assert domains.classes == ("cat", "dog")
    assert labels.tolist() == [0] * NUM + [1] * NUM


def test_the_transform_of_the_digits_is_refused_for_folders(tmp_path: Path) -> None:
    domains = load_domains(str(write_images(tmp_path)), envs=ENVS[:1])

    with pytest.raises(InputError, match="choose --transform paper or timm"):
        image_loader(domains, [], "digits", CONFIG, training=False)
    check_transform("paper", domains)
    check_transform("digits", in_memory())
