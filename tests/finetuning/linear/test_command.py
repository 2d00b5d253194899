"""Tests for `python -m finetuning.linear`: the fit, the two selections, what the folder holds."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file
from torch.nn.functional import cross_entropy
from torch.testing import assert_close

from core.domains import holdout, load_domains
from core.errors import InputError
from finetuning.batches import StepKeys
from finetuning.config import TrainConfig, resolve
from finetuning.linear.__main__ import fit_linear, initial_model, read_inputs
from finetuning.linear.config import LinearConfig, resolve_linear, training_config
from finetuning.linear.fit import fit, predict
from finetuning.progress import step_seed
from finetuning.setup import prepare

LAYERS = ("layer4.1", "layer4.2")


@pytest.fixture(autouse=True)
def single_precision() -> None:
    """As the command runs; the shared fixture puts back what it found."""
    torch.set_default_dtype(torch.float32)


def linear_config(folder: Path, **options: object) -> LinearConfig:
    """Twelve steps on the embedded digits."""
    defaults = {
        "output": str(folder / "linear"),
        "cache": str(folder.parent / "cache"),
        "envs": ("ink", "rotated"),
        "layers": LAYERS,
        "steps": 12,
        "eval_every": 4,
        "drop_rate": 0.5,
        "device": "cpu",
    }
    return LinearConfig(**(defaults | options))  # type: ignore[arg-type]


def test_the_folder_says_what_was_fitted_and_predicted(tmp_path: Path) -> None:
    config = linear_config(tmp_path, lr=(1e-2, 1e-3), seed=3)
    folder = fit_linear(config)
    options = yaml.safe_load((folder / "config.yaml").read_text())
    assert (options["seed"], options["split_seed"], options["milestones"]) == (3, 3, [300])
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    cells = {(line["lr"], line["weight_decay"]) for line in lines}
    assert len(lines) == 16 and cells == {(a, b) for a in (1e-2, 1e-3) for b in (1e-2, 5e-3)}

    predictions = load_file(folder / "predictions.safetensors")
    domains = load_domains("digits", envs=config.envs)
    accuracy = {}
    for name in ("best", "final"):
        right = {
            env: predictions[f"{name}|{env}"].argmax(1).numpy() == environment.labels
            for env, environment in domains.environments.items()
        }
        _, held_out = holdout(domains.environments["ink"], 3)
        accuracy[name] = (right["ink"][held_out].mean(), right["rotated"].mean())
    best = max(lines, key=lambda line: line["iid_accuracy"])
    last = max((x for x in lines if x["step"] == 12), key=lambda line: line["iid_accuracy"])
    assert accuracy["best"] == (best["iid_accuracy"], best["ood_accuracy"])
    assert accuracy["final"] == (last["iid_accuracy"], last["ood_accuracy"])


def test_a_fit_is_sgd_on_the_batches_and_masks_of_the_ordinary_run(tmp_path: Path) -> None:
    config = resolve_linear(linear_config(tmp_path, steps=3, weight_decay=(0.01,)))
    cell = training_config(config, lr=0.1, weight_decay=0.01)
    setup = prepare(cell)
    inputs = read_inputs(config, setup, LAYERS)
    model = initial_model(config, setup, inputs)
    found = fit(cell, setup, inputs, model)

    velocity = [torch.zeros_like(p) for p in model.parameters()]
    for step, keys in enumerate(StepKeys(cell, setup, 1), start=1):
        blocks = torch.stack([inputs.blocks["ink"][key.image] for key in keys])
        labels = torch.tensor([setup.domains.environments["ink"].labels[k.image] for k in keys])
        torch.manual_seed(step_seed(cell.seed, step))
        loss = cross_entropy(model.train()(blocks), labels)
        gradients = torch.autograd.grad(loss, list(model.parameters()))
        with torch.no_grad():
            for p, v, g in zip(model.parameters(), velocity, gradients, strict=True):
                v.mul_(0.9).add_(g + 0.01 * p)
                p.sub_(0.1 * v)
    for name, weight in model.state_dict().items():
        assert_close(found.final[name], weight, rtol=1e-5, atol=1e-6)


def test_what_it_reads_are_the_pooled_blocks_of_the_pretrained_network(tmp_path: Path) -> None:
    config = resolve_linear(linear_config(tmp_path))
    setup = prepare(training_config(config))
    inputs = read_inputs(config, setup, LAYERS)
    # timm pools the last block into the penultimate features.
    features = read_inputs(config, setup, ("features",))
    for env in config.envs:
        assert_close(inputs.blocks[env][:, -1], features.blocks[env][:, 0])
    model = initial_model(config, setup, inputs)
    assert {len(logits) for logits in predict(model, inputs).values()} == {450, 449}


def test_wrong_input_is_refused_in_a_sentence(tmp_path: Path) -> None:
    for options, message in (
        ({"linear_blocks": 0}, "--linear_blocks is 0; at least 1"),
        ({"weight_decay": ()}, "empty; at least one value"),
        ({"lr": (-1.0,)}, "--lr is -1.0; a positive number"),
        ({"train_fraction": 1.5}, "--train_fraction is 1.5; a share of at most 1"),
    ):
        with pytest.raises(InputError, match=message):
            linear_config(tmp_path, **options)
    with pytest.raises(InputError, match="layer 'layer9' is not in GlyphNet"):
        fit_linear(linear_config(tmp_path, layers=("layer9",)))
    with pytest.raises(InputError, match="--linear_blocks is 99, but glyphnet has .* fewer"):
        fit_linear(linear_config(tmp_path, layers=(), linear_blocks=99))
    with pytest.raises(InputError, match="became (nan|inf) by step 4 with learning rate 1e"):
        fit_linear(linear_config(tmp_path, lr=(1e30,)))
    assert not (tmp_path / "linear").exists()
    (tmp_path / "linear").mkdir()
    with pytest.raises(InputError, match="already exists"):
        fit_linear(linear_config(tmp_path))


def test_a_smaller_share_of_the_images_is_part_of_a_larger_one() -> None:
    configs = [TrainConfig(envs=("ink", "rotated"), train_fraction=f) for f in (0.25, 0.5, 1)]
    parts = [prepare(resolve(config)) for config in configs]
    quarter, half, whole = [part.train["ink"] for part in parts]
    assert [len(quarter), len(half), len(whole)] == [90, 180, 360]
    assert set(quarter) < set(half) < set(whole)
    assert np.array_equal(parts[0].held_out["ink"], parts[2].held_out["ink"])
