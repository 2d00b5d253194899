"""Tests for finetuning/train.py: where and how fast it computes does not change what."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from finetuning.run_folder import read_metrics
from finetuning.train import train
from tests.finetuning.tiny import assert_same_runs, tiny_config, weights


@pytest.fixture
def single_precision() -> None:
    """Mixed precision leaves doubles alone; the shared fixture puts back what it found."""
    torch.set_default_dtype(torch.float32)


def test_workers_make_no_difference(tmp_path: Path, data: Path) -> None:
    assert_same_runs(*(train(tiny_config(data, tmp_path / f"{n}", workers=n)) for n in (0, 2)))


def test_channels_last_computes_the_same(tmp_path: Path, data: Path) -> None:
    contiguous, last = (
        train(tiny_config(data, tmp_path / f"{on}", channels_last=on)) for on in (False, True)
    )

    # Sums in another order, through six steps.
    assert_close(weights(last), weights(contiguous), rtol=1e-5, atol=1e-8)


@pytest.mark.usefixtures("single_precision")
def test_bf16_stays_near_full_precision(tmp_path: Path, data: Path) -> None:
    config = tiny_config(data, tmp_path / "full", freeze_bn=True)
    full, mixed = train(config), train(replace(config, output=str(tmp_path / "bf16"), amp="bf16"))
    moved = weights(full)["fc.weight"] - weights(full, "init")["fc.weight"]
    gap = (weights(mixed)["fc.weight"] - weights(full)["fc.weight"]).norm() / moved.norm()

    assert 0 < gap < 0.05  # eight bits, six steps
    assert weights(mixed)["fc.weight"].dtype == torch.float32


@pytest.mark.usefixtures("single_precision")
def test_fp16_begins_with_the_same_loss_and_stays_finite(tmp_path: Path, data: Path) -> None:
    config = tiny_config(data, tmp_path / "full", freeze_bn=True)
    full, mixed = train(config), train(replace(config, output=str(tmp_path / "fp16"), amp="fp16"))
    losses = [read_metrics(run / "metrics.jsonl")[1]["train_loss"] for run in (full, mixed)]

    # Its first steps may be left out until the gradient scale fits, so the weights differ.
    assert losses[1] == pytest.approx(losses[0], rel=0.01)
    assert all(tensor.isfinite().all() for tensor in weights(mixed).values())
    assert weights(mixed)["fc.weight"].dtype == torch.float32


COMPILED = """
import functools, sys, torch
from finetuning.train import train
from tests.finetuning.tiny import tiny_config
torch.compile = functools.partial(torch.compile, backend="eager")
train(tiny_config(sys.argv[1], sys.argv[2], compile=sys.argv[3] == "True", steps=2))
"""


@pytest.mark.slow
def test_a_compiled_network_is_saved_under_its_own_names(tmp_path: Path, data: Path) -> None:
    plain, compiled = tmp_path / "False", tmp_path / "True"
    for run in (plain, compiled):  # in processes of their own, without the checks of annotations
        subprocess.run([sys.executable, "-c", COMPILED, data, run, run.name], check=True)

    assert_close(weights(compiled), weights(plain))
