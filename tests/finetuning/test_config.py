"""Tests for finetuning/config.py."""

import math
from dataclasses import fields
from pathlib import Path

import pytest

from core.command_line import as_yaml, parse
from core.errors import InputError
from finetuning.config import PRESETS, Protocol, TrainConfig, resolve


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_vld_v1_is_the_released_code(seed: int) -> None:
    config = resolve(TrainConfig(preset="vld-v1", data="PACS", test_env=("sketch",), seed=seed))

    assert (config.optimizer, config.lr, config.weight_decay) == ("sgd", 1e-3, 1e-4)
    assert (config.steps, config.milestones) == (10_001, (5_000, 10_000))
    assert (config.batch_size, config.head_lr_factor) == (32, 1.0)
    assert (config.eval_every, config.transform) == (300, "paper")
    assert config.freeze_bn is True
    # Three artefacts of the code: one split for all seeds, the hold-out measured on augmented
    # images, and an average of every step instead of every 300th.
    assert (config.split_seed, config.augment_iid) == (0, True)
    assert (config.average, config.average_from) == ((1,), 300)


def test_fixed_differs_from_the_released_code_in_its_artefacts_only() -> None:
    fixed, released = PRESETS["fixed"], PRESETS["vld-v1"]
    changed = {
        f.name for f in fields(Protocol) if getattr(fixed, f.name) != getattr(released, f.name)
    }

    assert changed == {"augment_iid", "split_seed", "average"}
    resolved = resolve(TrainConfig(data="PACS", seed=4))
    assert (resolved.preset, resolved.split_seed) == ("fixed", 4)
    assert (resolved.augment_iid, resolved.average) == (False, ())


def test_auto_is_the_protocol_of_the_data() -> None:
    assert resolve(TrainConfig()).preset == "digits"
    assert resolve(TrainConfig()).transform == "digits"
    assert resolve(TrainConfig(data="folder")).preset == "fixed"
    assert resolve(TrainConfig(preset="fixed")).transform == "paper"


@pytest.mark.parametrize("preset", PRESETS)
def test_options_override_the_preset(preset: str) -> None:
    given = {
        "optimizer": "adamw",
        "lr": 0.5,
        "weight_decay": 0.0,
        "steps": 7,
        "milestones": (),
        "eval_every": 3,
        "transform": "timm",
        "augment_iid": False,
        "split_seed": 11,
        "average": (2, 5),
        "freeze_bn": False,
    }
    config = resolve(TrainConfig(preset=preset, **given))  # type: ignore[arg-type]

    assert {name: getattr(config, name) for name in given} == given


@pytest.mark.parametrize("preset", PRESETS)
def test_a_resolved_configuration_is_complete_and_resolves_to_itself(preset: str) -> None:
    config = resolve(TrainConfig(preset=preset, test_env=("none",)))  # type: ignore[arg-type]
    missing = {f.name for f in fields(config) if getattr(config, f.name) is None}

    assert missing == {"model_kwargs", "image_size", "kept_units", "checkpoint_every"}
    assert resolve(config) == config


def test_the_file_of_a_run_is_read_back(tmp_path: Path) -> None:
    config = resolve(
        TrainConfig(average=(1, 300), model_kwargs={"depth": 3}, test_env=("a b", "yes"), lr=1e-4)
    )
    file = tmp_path / "config.yaml"
    file.write_text(as_yaml(config))

    assert parse(TrainConfig, ["--config", str(file)]) == config


def test_batchnorm_is_frozen_unless_the_network_starts_from_scratch() -> None:
    assert resolve(TrainConfig()).freeze_bn is True
    assert resolve(TrainConfig(pretrained="none")).freeze_bn is False
    assert resolve(TrainConfig(pretrained="none", freeze_bn=True)).freeze_bn is True
    assert resolve(TrainConfig(freeze_bn=False)).freeze_bn is False


def test_the_word_none_holds_out_no_environment() -> None:
    assert resolve(TrainConfig(test_env=("none",))).test_env == ()
    assert resolve(TrainConfig(test_env=("ink", "photo"))).test_env == ("ink", "photo")


POSITIVE = ("batch_size", "steps", "eval_every", "image_size", "checkpoint_every", "lr")
NOT_NEGATIVE = ("weight_decay", "seed", "split_seed", "workers")


REFUSED = [(name, value) for name in (*POSITIVE, "head_lr_factor") for value in (0, -1)]


@pytest.mark.parametrize(
    ("name", "value"), [*REFUSED, ("lr", math.nan), ("head_lr_factor", math.nan)]
)
def test_what_must_be_positive_is_refused_by_name(name: str, value: float) -> None:
    with pytest.raises(InputError, match=f"--{name} is {value}; a positive number"):
        TrainConfig(**{name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", NOT_NEGATIVE)
def test_what_must_not_be_negative_is_refused_by_name(name: str) -> None:
    TrainConfig(**{name: 0})  # type: ignore[arg-type]
    with pytest.raises(InputError, match=f"--{name} is -1; zero or a positive number"):
        TrainConfig(**{name: -1})  # type: ignore[arg-type]


def test_impossible_rates_and_periods_are_refused() -> None:
    with pytest.raises(InputError, match="the dropout rate is 1"):
        TrainConfig(drop_rate=1.0)
    with pytest.raises(InputError, match="--average is 0"):
        TrainConfig(average=(1, 0))
