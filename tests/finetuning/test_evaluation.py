"""Tests for finetuning/evaluation.py."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import Module

from core.models import insert_before_classifier
from finetuning.config import TrainConfig, resolve
from finetuning.evaluation import evaluate, summary
from finetuning.noise import dropout
from finetuning.setup import Setup, prepare
from tests.finetuning.tiny import tiny_config


@pytest.fixture
def config(tmp_path: Path, data: Path) -> TrainConfig:
    return resolve(tiny_config(data, tmp_path / "run"))


@pytest.fixture
def setup(config: TrainConfig) -> Setup:
    return prepare(config)


class Recorder(Module):
    """Says class 0 for every image and keeps what it saw."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        """Logits of two classes."""
        self.seen.append(x)
        return torch.tensor([1.0, 0.0]).expand(len(x), 2)


def by_hand(setup: Setup, name: str, images: np.ndarray) -> np.ndarray:
    """Whether the network is right, one image after another without any loader."""
    environment = setup.domains.environments[name]
    mean, std = (torch.tensor(setup.data_config[key]).view(3, 1, 1) for key in ("mean", "std"))
    right = []
    for index in images.tolist():
        pixels = torch.from_numpy(np.array(environment.image(index))).permute(2, 0, 1) / 255
        logits = setup.model.eval()(((pixels.to(mean) - mean) / std)[None])
        right.append(logits.argmax().item() == environment.labels[index])
    return np.array(right)


def test_accuracy_is_what_one_computes_by_hand(config: TrainConfig, setup: Setup) -> None:
    correct = evaluate(config, setup, setup.model)

    for name in ("art", "sketch"):  # to train on: the held-out part only
        np.testing.assert_array_equal(correct[name], by_hand(setup, name, setup.held_out[name]))
    np.testing.assert_array_equal(correct["photo"], by_hand(setup, "photo", np.arange(12)))


def test_a_constant_answer_is_right_on_the_images_of_its_class(
    config: TrainConfig, setup: Setup
) -> None:
    correct = evaluate(config, setup, Recorder())

    labels = {name: env.labels for name, env in setup.domains.environments.items()}
    for name in setup.train:
        np.testing.assert_array_equal(correct[name], labels[name][setup.held_out[name]] == 0)
    np.testing.assert_array_equal(correct["photo"], labels["photo"] == 0)


def test_what_is_looked_at_was_never_trained_on(setup: Setup) -> None:
    for name, train in setup.train.items():
        assert set(train).isdisjoint(setup.held_out[name])
        assert sorted([*train, *setup.held_out[name]]) == list(range(12))
        assert len(setup.held_out[name]) == 2  # 20 % of twelve, rounded down


def test_only_the_hold_out_is_augmented_and_only_on_request(
    config: TrainConfig, setup: Setup
) -> None:
    plain, augmented = Recorder(), Recorder()
    evaluate(config, setup, plain)
    evaluate(replace(config, augment_iid=True), setup, augmented)

    names = list(setup.domains.environments)
    differs = {
        name: not torch.equal(a, b)
        for name, a, b in zip(names, plain.seen, augmented.seen, strict=True)
    }
    assert differs == {"art": True, "photo": False, "sketch": True}


def test_an_augmented_hold_out_is_the_same_at_every_evaluation(
    config: TrainConfig, setup: Setup
) -> None:
    first, second = Recorder(), Recorder()
    for recorder in (first, second):
        evaluate(replace(config, augment_iid=True), setup, recorder)

    assert all(torch.equal(a, b) for a, b in zip(first.seen, second.seen, strict=True))


def test_no_noise_acts_while_accuracy_is_measured(config: TrainConfig, setup: Setup) -> None:
    before = evaluate(config, setup, setup.model)
    statistics = {n: t.clone() for n, t in setup.model.named_buffers()}
    insert_before_classifier(setup.model, dropout(0.99))
    after = evaluate(config, setup, setup.model.train())

    for name in before:
        np.testing.assert_array_equal(before[name], after[name])
    assert all(torch.equal(t, statistics[n]) for n, t in setup.model.named_buffers())


def test_batches_make_no_difference(
    config: TrainConfig, setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, recorder = evaluate(config, setup, setup.model), Recorder()
    monkeypatch.setattr("finetuning.evaluation.EVALUATION_BATCH", 5)
    evaluate(config, setup, recorder)

    assert [len(x) for x in recorder.seen] == [2, 5, 5, 2, 2]
    for name, correct in evaluate(config, setup, setup.model).items():
        np.testing.assert_array_equal(correct, whole[name])


def test_the_summary_weighs_environments_equally(setup: Setup) -> None:
    held_out = setup.held_out["photo"]
    photo = np.ones(12, bool)
    photo[held_out] = [False, True]
    correct = {"art": np.array([True, False]), "photo": photo, "sketch": np.array([True, True])}

    line = summary(correct, setup)

    assert line["iid_accuracy"] == pytest.approx((0.5 + 1.0) / 2)
    assert line["ood_accuracy"] == pytest.approx(11 / 12)
    assert line["ood_in_accuracy"] == pytest.approx(1)  # the one mistake is among DomainBed's 20 %
    assert line["accuracy"] == pytest.approx({"art": 0.5, "photo": 11 / 12, "sketch": 1.0})


def test_several_environments_can_be_held_out_or_none(config: TrainConfig) -> None:
    two = prepare(replace(config, test_env=("art", "photo")))
    correct = evaluate(config, two, Recorder())
    line = summary(correct, two)
    none = prepare(replace(config, test_env=()))

    assert [len(c) for c in correct.values()] == [12, 12, 2]
    assert line["ood_accuracy"] == pytest.approx(0.5)
    assert summary(evaluate(config, none, Recorder()), none)["ood_accuracy"] is None
    assert summary(evaluate(config, none, Recorder()), none)["ood_in_accuracy"] is None
