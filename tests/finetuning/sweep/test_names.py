"""Tests for finetuning/sweep/names.py: one name for the same weights, wherever they are made."""

import os
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

import pytest

from finetuning.config import TrainConfig, resolve
from finetuning.linear.config import LinearConfig
from finetuning.run_folder import NOT_COMPARED, ROUNDING
from finetuning.sweep.names import WITHOUT_EFFECT, run_name

ROOT = Path(__file__).parents[3]
# Written down once: another value would orphan the folders of every sweep made before.
KNOWN = {
    "train": (TrainConfig(seed=3, test_env=("ink",)), "200bfaf20119"),
    "linear": (LinearConfig(lr=(0.1, 1.0)), "fd1f04314926"),
}


@pytest.mark.parametrize("config, name", KNOWN.values(), ids=list(KNOWN))
def test_names_do_not_move(config: TrainConfig | LinearConfig, name: str) -> None:
    assert run_name(config) == name


def test_another_process_gives_the_same_name() -> None:
    words = (
        "from finetuning.config import TrainConfig; from finetuning.sweep.names import run_name; "
        "print(run_name(TrainConfig(model_kwargs={'width': 8, 'b': [1, 2]}, seed=1)))"
    )
    other = subprocess.run(
        [sys.executable, "-c", words],
        env=os.environ | {"PYTHONHASHSEED": "1"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    other_order = {"b": [1, 2], "width": 8.0}
    assert other.stdout.strip() == run_name(TrainConfig(model_kwargs=other_order, seed=1))


def test_where_and_how_fast_makes_no_difference() -> None:
    config = TrainConfig(lr=0.25)
    for change in (
        {"output": "elsewhere"},
        {"device": "cpu"},
        {"workers": 3},
        {"compile": True},
        {"channels_last": True},
    ):
        assert run_name(replace(config, **change)) == run_name(config)
    assert run_name(resolve(config)) == run_name(config)
    assert run_name(LinearConfig(cache="here")) == run_name(LinearConfig())


def test_options_of_a_name_are_those_that_resuming_compares() -> None:
    """Otherwise a run is not found again, or is found and refused by words alone."""
    known = {field.name for field in fields(TrainConfig)}
    assert {*NOT_COMPARED, *ROUNDING} == WITHOUT_EFFECT & known


def test_everything_else_does() -> None:
    config = TrainConfig()
    changes = [
        {"seed": 1},
        {"drop_rate": 0.5},
        {"tangent": True},
        {"test_env": ("ink",)},
        {"amp": "bf16"},
        {"steps": 7},
        {"milestones": ()},
        {"train_fraction": 0.5},
    ]
    names = [run_name(replace(config, **change)) for change in changes]
    assert len({run_name(config), run_name(LinearConfig()), *names}) == len(changes) + 2


def test_kept_units_are_a_rate() -> None:
    assert run_name(TrainConfig(kept_units=64)) == run_name(TrainConfig(drop_rate=0.875))
