"""Tests for finetuning/setup.py."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.nn import Linear, Module
from torch.testing import assert_close

from core.errors import InputError
from core.models import classifier, create_model
from finetuning.config import TrainConfig, resolve
from finetuning.setup import build_model, check_network, prepare
from tests.finetuning.tiny import tiny_config


@pytest.fixture
def config(tmp_path: Path, data: Path) -> TrainConfig:
    return resolve(tiny_config(data, tmp_path / "run"))


def test_the_fresh_classifier_is_a_function_of_the_seed_alone() -> None:
    one, again, other = (
        build_model(TrainConfig(seed=seed, pretrained="glyphnet.rich"), 10) for seed in (0, 0, 1)
    )

    assert torch.equal(classifier(one).weight, classifier(again).weight)
    assert not torch.equal(classifier(one).weight, classifier(other).weight)
    # The rest is the checkpoint.
    assert torch.equal(one.get_parameter("conv1.0.weight"), other.get_parameter("conv1.0.weight"))


def test_the_fresh_classifier_is_drawn_as_pytorch_draws_one() -> None:
    model = build_model(TrainConfig(seed=5, pretrained="none"), 10)

    torch.manual_seed(5)
    expected = Linear(512, 10)

    assert_close(classifier(model).weight, expected.weight)
    assert_close(classifier(model).bias, expected.bias)


def test_pretrained_by_timm_and_by_file_are_the_same_network() -> None:
    by_timm = build_model(TrainConfig(model="glyphnet.plain", pretrained="timm"), 10)
    by_file = build_model(TrainConfig(pretrained="glyphnet.plain"), 10)

    assert_close(by_timm.state_dict(), by_file.state_dict())


def test_the_hold_out_follows_the_split_seed(config: TrainConfig) -> None:
    first, same, other = (
        prepare(replace(config, seed=seed, split_seed=split)).held_out
        for seed, split in ((0, 0), (1, 0), (0, 1))
    )

    assert all(list(first[name]) == list(same[name]) for name in first)
    assert any(list(first[name]) != list(other[name]) for name in first)


def test_the_facts_name_data_and_environments(config: TrainConfig) -> None:
    setup = prepare(config)

    assert setup.facts["data_fingerprint"] == setup.domains.fingerprint
    assert setup.facts["classes"] == ["cat", "dog"]
    assert (setup.facts["train_envs"], setup.facts["test_envs"]) == (["art", "sketch"], ["photo"])
    assert setup.facts["train_size"] == sum(len(rows) for rows in setup.train.values())
    assert setup.facts["pretrained_sha256"] is None
    assert setup.facts["versions"]["torch"]


def test_at_least_one_environment_is_left_to_train_on(config: TrainConfig) -> None:
    with pytest.raises(InputError, match=r"all are held out; at least one must be left"):
        prepare(replace(config, test_env=("art", "photo", "sketch")))
    with pytest.raises(InputError, match=r"'moon' is not in .*art, photo, sketch: choose"):
        prepare(replace(config, test_env=("moon",)))


def test_the_digits_keep_their_transform_and_size(config: TrainConfig) -> None:
    with pytest.raises(InputError, match="choose --transform paper or timm for image folders"):
        prepare(replace(config, transform="digits"))
    with pytest.raises(InputError, match=r"--image_size is 64; .* keeps the digits' 32 pixels"):
        prepare(resolve(TrainConfig(image_size=64, device="cpu")))


def test_an_image_size_that_the_network_cannot_read_is_refused() -> None:
    model = create_model("vit_tiny_patch16_224", 2, depth=1)

    check_network(model, (3, 224, 224))
    with pytest.raises(InputError, match=r"cannot read an image of 3 x 32 x 32 .*--image_size"):
        check_network(model, (3, 32, 32))


def test_a_network_with_an_auxiliary_head_is_refused() -> None:
    class TwoHeads(Module):
        num_classes = 2

        def __init__(self) -> None:
            super().__init__()
            self.head, self.auxiliary = Linear(48, 2), Linear(48, 2)

        def get_classifier(self) -> Module:
            return self.head

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(x.flatten(1)) + self.auxiliary(x.flatten(1))

    with pytest.raises(InputError, match="choose a network with a single head"):
        check_network(TwoHeads(), (3, 4, 4))


def test_checking_a_network_changes_nothing_in_it(config: TrainConfig) -> None:
    model = build_model(config, 2)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    check_network(model, (3, 32, 32))

    assert all(torch.equal(t, before[name]) for name, t in model.state_dict().items())


def test_channels_last_is_the_layout_of_the_weights(config: TrainConfig) -> None:
    weight = prepare(replace(config, channels_last=True)).model.get_parameter("conv1.3.weight")

    assert weight.is_contiguous(memory_format=torch.channels_last)
