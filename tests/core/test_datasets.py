"""Tests for core/datasets.py."""

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from core.datasets import Key, KeyedDataset, seeded_transforms
from core.domains import Environment, load_domains
from core.transforms import Kind, make_transform
from tests.image_files import write_domains

CONFIG = {
    "input_size": (3, 32, 32),
    "mean": (0.5, 0.5, 0.5),
    "std": (0.5, 0.5, 0.5),
    "interpolation": "bilinear",
    "crop_pct": 1.0,
}
KEYS = [Key(0, 5, 10), Key(1, 0, 11), Key(0, 5, 12), Key(1, 3, 10), Key(0, 5, 10)]


def keyed_dataset(root: Path, kind: Kind = "paper") -> KeyedDataset:
    environments = list(load_domains(str(write_domains(root))).environments.values())
    return KeyedDataset(environments, make_transform(kind, training=True, data_config=CONFIG))


def test_an_example_is_the_image_and_label_of_its_key() -> None:
    array = np.random.default_rng(0).integers(0, 256, (3, 32, 32, 3), np.uint8)
    env = Environment("ink", np.array([2, 0, 1]), ("a", "b", "c"), array=array)
    transform = make_transform("digits", training=False, data_config=CONFIG)

    image, label = KeyedDataset([env], transform)[Key(0, 2, 0)]

    assert torch.equal(image, transform(env.image(2)))
    assert label == 1 and type(label) is int


@pytest.mark.parametrize("kind", ["paper", "timm", "digits"])
def test_pixels_are_a_function_of_the_key(tmp_path: Path, kind: Kind) -> None:
    dataset = keyed_dataset(tmp_path, kind)
    images = [dataset[key][0] for key in KEYS]

    torch.manual_seed(1)
    random.seed(1)
    again = [dataset[key][0] for key in reversed(KEYS)][::-1]

    assert all(torch.equal(*pair) for pair in zip(images, again, strict=True))
    assert torch.equal(images[0], images[4])
    assert not torch.equal(images[0], images[2])


def test_workers_make_no_difference(tmp_path: Path) -> None:
    dataset, batches = keyed_dataset(tmp_path, "timm"), [KEYS[:2], KEYS[2:], KEYS[1:3]]

    alone, shared = (
        list(DataLoader(dataset, batch_sampler=batches, num_workers=n))  # type: ignore[arg-type]
        for n in (0, 2)
    )

    for (images, labels), (other_images, other_labels) in zip(alone, shared, strict=True):
        assert torch.equal(images, other_images)
        assert torch.equal(labels, other_labels)


def test_seeding_leaves_the_generators_as_they_were() -> None:
    torch.manual_seed(0)
    random.seed(0)
    expected = torch.rand(3), random.random()

    torch.manual_seed(0)
    random.seed(0)
    with pytest.raises(KeyError), seeded_transforms(5):
        torch.rand(7)
        random.random()
        raise KeyError
    drawn = torch.rand(3), random.random()

    assert torch.equal(drawn[0], expected[0])
    assert drawn[1] == expected[1]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_seeding_leaves_the_accelerator_alone() -> None:
    state = torch.cuda.get_rng_state()

    with seeded_transforms(5):
        pass

    assert torch.equal(torch.cuda.get_rng_state(), state)
