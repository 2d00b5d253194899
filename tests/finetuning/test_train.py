"""Tests for finetuning/train.py: what a run computes, and that nothing on the way changes it."""

import logging
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.optim import SGD, AdamW
from torch.testing import assert_close

from core.checkpoints import read_metadata
from core.errors import InputError
from finetuning.batches import training_batches
from finetuning.config import TrainConfig, resolve
from finetuning.run_folder import read_metrics
from finetuning.setup import prepare
from finetuning.train import train
from tests.finetuning.tiny import assert_same_runs, tiny_config, weights

STATISTICS = "layer4.2.bn3.running_mean"
GAIN = "layer4.2.bn3.weight"


def test_a_run_folder_holds_what_it_promises(tmp_path: Path, data: Path) -> None:
    output = train(tiny_config(data, tmp_path / "r", average=(1,), average_from=2))

    weight_files = {f"{name}.safetensors" for name in ("init", "best", "final", "average_every_1")}
    names = {path.name for path in output.iterdir()}
    assert names == weight_files | {"config.yaml", "run.json", "metrics.jsonl"}
    lines = read_metrics(output / "metrics.jsonl")
    assert [line["step"] for line in lines] == [0, 2, 4, 6]
    assert [line["train_loss"] is None for line in lines] == [True, False, False, False]
    assert set(lines[0]["accuracy"]) == {"art", "photo", "sketch"}
    assert read_metadata(output / "final.safetensors")["step"] == 6


def test_training_learns(tmp_path: Path, data: Path) -> None:
    options = {"steps": 30, "eval_every": 10, "batch_size": 4, "drop_rate": 0.0}
    lines = read_metrics(train(tiny_config(data, tmp_path / "r", **options)) / "metrics.jsonl")

    assert lines[-1]["train_loss"] < 0.5 * lines[1]["train_loss"]
    assert lines[-1]["ood_accuracy"] > 0.9


def bare_loop(config: TrainConfig) -> dict[str, Tensor]:
    """The same steps as one would write them without this project's loop."""
    config = resolve(config)
    setup = prepare(config)
    assert config.lr is not None and config.weight_decay is not None
    parameters, decay = list(setup.model.parameters()), config.weight_decay
    if config.optimizer == "adamw":
        optimizer = AdamW(parameters, lr=config.lr, weight_decay=decay)
    else:
        optimizer = SGD(parameters, lr=config.lr, momentum=0.9, weight_decay=decay)
    setup.model.train()
    for images, labels in training_batches(config, setup, 1):
        optimizer.zero_grad()
        cross_entropy(setup.model(images), labels).backward()
        optimizer.step()
    return setup.model.state_dict()


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_without_dropout_it_is_the_plain_loop(tmp_path: Path, data: Path, optimizer: str) -> None:
    config = tiny_config(data, tmp_path / "r", optimizer=optimizer, drop_rate=0.0, lr=1e-3)

    # Groups of parameters are updated together, in another order.
    assert_close(weights(train(config)), dict(bare_loop(config)), rtol=1e-6, atol=1e-9)


def test_the_head_has_its_own_learning_rate(tmp_path: Path, data: Path) -> None:
    one, ten = (
        train(tiny_config(data, tmp_path / f"{f}", head_lr_factor=f, steps=1)) for f in (1.0, 10.0)
    )
    before, after1, after10 = weights(one, "init"), weights(one), weights(ten)

    for name in ("fc.weight", "fc.bias"):
        assert_close(after10[name] - before[name], 10 * (after1[name] - before[name]))
    assert torch.equal(after10[GAIN], after1[GAIN])
    assert not torch.equal(after1[GAIN], before[GAIN])


def test_the_learning_rate_falls_at_its_milestones(tmp_path: Path, data: Path) -> None:
    output = train(tiny_config(data, tmp_path / "r", milestones=(2, 4), lr=1.0, drop_rate=0.0))

    lines = read_metrics(output / "metrics.jsonl")
    assert [line["lr"] for line in lines] == pytest.approx([1.0, 0.1, 0.01, 0.01])


def test_frozen_batchnorm_keeps_its_statistics_and_learns_its_gain(
    tmp_path: Path, data: Path
) -> None:
    frozen, live = (
        train(tiny_config(data, tmp_path / name, pretrained="glyphnet.plain", freeze_bn=freeze))
        for name, freeze in (("frozen", True), ("live", False))
    )

    assert torch.equal(weights(frozen)[STATISTICS], weights(frozen, "init")[STATISTICS])
    assert not torch.equal(weights(live)[STATISTICS], weights(live, "init")[STATISTICS])
    for folder in (frozen, live):
        assert not torch.equal(weights(folder)[GAIN], weights(folder, "init")[GAIN])


def test_a_run_from_scratch_starts_from_random_weights(tmp_path: Path, data: Path) -> None:
    scratch, tuned = (
        weights(train(tiny_config(data, tmp_path / name, pretrained=name, steps=1)), "init")
        for name in ("none", "glyphnet.rich")
    )

    assert not torch.equal(scratch[GAIN], tuned[GAIN])
    assert torch.equal(scratch[GAIN], torch.ones_like(scratch[GAIN]))


def test_averages_are_means_over_the_steps(tmp_path: Path, data: Path) -> None:
    options = {"checkpoint_every": 1, "average": (1, 2), "average_from": 3}
    output = train(tiny_config(data, tmp_path / "r", **options))

    for period, steps in ((1, (3, 4, 5, 6)), (2, (4, 6))):
        states = [weights(output, f"step_{step:06d}") for step in steps]
        average = weights(output, f"average_every_{period}")
        for name in (GAIN, STATISTICS, "fc.weight"):
            assert_close(average[name], torch.stack([state[name] for state in states]).mean(0))


def test_an_average_over_no_step_is_said(
    tmp_path: Path, data: Path, caplog: pytest.LogCaptureFixture
) -> None:
    output = train(tiny_config(data, tmp_path / "r", average=(4,), average_from=5))

    assert not list(output.glob("average*"))
    assert "--average 4: no such step from --average_from on" in caplog.text


def test_checkpoints_are_kept_at_their_steps_and_the_last_is_final(
    tmp_path: Path, data: Path
) -> None:
    output = train(tiny_config(data, tmp_path / "r", checkpoint_every=3))

    assert sorted(path.stem for path in output.glob("step*")) == ["step_000003", "step_000006"]
    assert read_metadata(output / "step_000003.safetensors")["step"] == 3
    assert_close(weights(output, "step_000006"), weights(output), rtol=0, atol=0)


def test_the_best_weights_are_those_of_the_first_best_evaluation(
    tmp_path: Path, data: Path
) -> None:
    output = train(tiny_config(data, tmp_path / "r", checkpoint_every=2, steps=12))
    lines = read_metrics(output / "metrics.jsonl")
    best = max(lines, key=lambda line: line["iid_accuracy"])["step"]  # the first of equals

    assert read_metadata(output / "best.safetensors")["step"] == best
    expected = weights(output, f"step_{best:06d}" if best else "init")
    assert_close(weights(output, "best"), expected, rtol=0, atol=0)


def test_the_seed_decides_everything(tmp_path: Path, data: Path) -> None:
    one, again, other = (
        train(tiny_config(data, tmp_path / name, seed=seed, average=(2,), average_from=1))
        for name, seed in (("one", 5), ("again", 5), ("other", 6))
    )

    assert_same_runs(one, again)
    assert not torch.equal(weights(one)["fc.weight"], weights(other)["fc.weight"])


def test_a_finished_run_says_so_and_is_left_alone(
    tmp_path: Path, data: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = tiny_config(data, tmp_path / "r")
    output = train(config)
    before = {path.name: path.stat().st_mtime_ns for path in output.iterdir()}
    with caplog.at_level(logging.INFO):
        assert train(config) == output

    assert {path.name: path.stat().st_mtime_ns for path in output.iterdir()} == before
    assert f"{output} is finished already" in caplog.text


@pytest.mark.parametrize("eval_every", [3, 50])
def test_weights_that_are_no_numbers_are_never_kept(
    tmp_path: Path, data: Path, eval_every: int
) -> None:
    config = tiny_config(data, tmp_path / "r", lr=1e200, steps=12, eval_every=eval_every)
    with pytest.raises(InputError, match=r"became (nan|inf) at step 2 with learning rate 1e\+200"):
        train(config)

    output = Path(config.output)
    assert not (output / "final.safetensors").exists()
    assert all(tensor.isfinite().all() for tensor in weights(output, "best").values())
    assert [line["step"] for line in read_metrics(output / "metrics.jsonl")] == [0]
