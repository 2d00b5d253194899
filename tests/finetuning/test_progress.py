"""Tests for finetuning/progress.py: optimiser, training mode and randomness of a run."""

from pathlib import Path

import pytest

from core.models import classifier
from finetuning.config import resolve
from finetuning.progress import build_optimizer, set_training_mode, step_seed
from finetuning.setup import prepare
from tests.finetuning.tiny import tiny_config


def test_every_parameter_is_in_one_group_with_weight_decay(data: Path, tmp_path: Path) -> None:
    config = resolve(tiny_config(data, tmp_path, head_lr_factor=10, weight_decay=0.25))
    model = prepare(config).model
    optimizer = build_optimizer(config, model)
    body, head = optimizer.param_groups

    assert (body["lr"], head["lr"]) == pytest.approx((1e-2, 1e-1))
    assert (body["weight_decay"], head["weight_decay"]) == (0.25, 0.25)
    assert (body["momentum"], body["nesterov"]) == (0.9, False)
    assert {id(p) for p in head["params"]} == {id(p) for p in classifier(model).parameters()}
    grouped = [id(p) for p in (*body["params"], *head["params"])]
    assert sorted(grouped) == sorted(id(p) for p in model.parameters())


def test_training_mode_leaves_only_batchnorm_behind(data: Path, tmp_path: Path) -> None:
    model = prepare(resolve(tiny_config(data, tmp_path))).model
    set_training_mode(model, freeze_bn=True)
    still = {type(module).__name__ for module in model.modules() if not module.training}

    assert still == {"BatchNorm2d"}


def test_dropout_draws_fresh_masks_in_every_step_and_run() -> None:
    seeds = {step_seed(seed, step) for seed in range(20) for step in range(200)}

    assert len(seeds) == 4_000
