"""Tests for finetuning/batches.py."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from finetuning.batches import StepKeys, on_device, training_batches
from finetuning.config import TrainConfig, resolve
from finetuning.setup import Setup, prepare
from tests.finetuning.tiny import ENVS, tiny_config


@pytest.fixture
def config(tmp_path: Path, data: Path) -> TrainConfig:
    return resolve(tiny_config(data, tmp_path / "run", batch_size=5, steps=9))


@pytest.fixture
def setup(config: TrainConfig) -> Setup:
    return prepare(config)


def test_every_training_environment_gives_one_batch_of_its_own(
    config: TrainConfig, setup: Setup
) -> None:
    for keys in StepKeys(config, setup, 1):
        assert [key.env for key in keys] == [0] * 5 + [2] * 5  # photo, the second, is held out
        for key in keys:
            assert key.image in setup.train[ENVS[key.env]]
            assert key.image not in setup.held_out[ENVS[key.env]]


def test_images_are_drawn_with_replacement_and_uniformly(
    config: TrainConfig, setup: Setup
) -> None:
    steps = StepKeys(config, setup, 1)
    draws = [[k.image for k in steps.keys(step) if k.env == 0] for step in range(600)]

    assert any(len(set(images)) < len(images) for images in draws)
    counts = np.bincount(np.concatenate(draws), minlength=12)[setup.train["art"]]
    expected = 600 * 5 / len(setup.train["art"])
    assert np.abs(counts - expected).max() <= 5 * expected**0.5  # five standard errors


def test_a_step_is_a_function_of_the_seed_and_its_number(
    config: TrainConfig, setup: Setup
) -> None:
    whole = list(StepKeys(config, setup, 1))

    assert len(StepKeys(config, setup, 7)) == 3
    assert list(StepKeys(config, setup, 7)) == whole[6:]
    assert list(StepKeys(config, setup, 10)) == []
    assert whole[0] != whole[1]


def test_another_seed_draws_other_images_and_other_augmentations(
    tmp_path: Path, config: TrainConfig, setup: Setup
) -> None:
    other = resolve(tiny_config(config.data, tmp_path, batch_size=5, seed=1))

    mine, theirs = (StepKeys(c, setup, 1).keys(1) for c in (config, other))

    assert [key.image for key in mine] != [key.image for key in theirs]
    assert {key.seed for key in mine}.isdisjoint(key.seed for key in theirs)


def test_no_two_augmentations_share_a_seed(config: TrainConfig, setup: Setup) -> None:
    seeds = [key.seed for keys in StepKeys(config, setup, 1) for key in keys]

    assert len(set(seeds)) == len(seeds)


def test_a_later_start_continues_with_the_same_pixels(config: TrainConfig, setup: Setup) -> None:
    whole = list(training_batches(config, setup, 1))
    torch.manual_seed(123)
    rest = list(training_batches(config, setup, 8))

    for (images, labels), (other_images, other_labels) in zip(whole[7:], rest, strict=True):
        assert torch.equal(images, other_images)
        assert torch.equal(labels, other_labels)
    assert images.shape == (10, 3, 32, 32)


def test_labels_are_those_of_the_keys(config: TrainConfig, setup: Setup) -> None:
    environments = list(setup.domains.environments.values())
    keys = StepKeys(config, setup, 1).keys(1)

    _, labels = next(training_batches(config, setup, 1))

    assert labels.tolist() == [environments[key.env].labels[key.image] for key in keys]


@pytest.mark.parametrize("channels_last", [False, True])
def test_batches_reach_the_device_in_the_layout_asked_for(channels_last: bool) -> None:
    batches = [(torch.randn(4, 3, 8, 8), torch.arange(4))]
    loader = DataLoader(batches, batch_size=None)  # type: ignore[arg-type]

    ((images, labels),) = on_device(loader, torch.device("cpu"), channels_last=channels_last)

    assert images.is_contiguous(memory_format=torch.channels_last) == channels_last
    assert images.is_contiguous() != channels_last
    assert torch.equal(images, batches[0][0])
    assert torch.equal(labels, batches[0][1])
