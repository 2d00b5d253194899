r"""Fit the paper's linear model (1) on the features of a pretrained network that does not move.

    python -m finetuning.linear                      # the embedded digits, dropout 0.9
    python -m finetuning.linear --model resnet50 --pretrained resnet50.safetensors \
        --data PACS --test_env sketch --lr 1e-3 5e-4 --output runs/sketch-linear

Every learning rate is tried with every weight decay, on the images, hold-out and dropout masks of
`finetuning.train` with the same seed, without augmentation. The folder has two sets of weights,
both chosen by i.i.d. accuracy: `best` among all evaluations of all fits (the paper's Figure 9) and
`final` among the fits after their last step (its Figure 10).

::

    config.yaml               the resolved options
    run.json                  data fingerprint, classes, split, layers, versions
    metrics.jsonl             one line an evaluation, with the fit's learning rate and weight decay
    best.safetensors, final.safetensors   v (scales), V and b (head)
    predictions.safetensors   logits of every image: `best|ENV` and `final|ENV`, N x C
"""

import hashlib
import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch.nn import Module

from core.checkpoints import save_state_dict
from core.command_line import as_yaml, run
from core.errors import InputError
from core.feature_cache import FeatureCache
from core.features import Images, Network, extract
from core.layers import chosen_layers
from core.models import classifier_name, residual_blocks
from core.outputs import check_new, new_folder, whole_file
from finetuning.linear.config import LinearConfig, resolve_linear, training_config
from finetuning.linear.fit import Inputs, fit, predict
from finetuning.linear.model import LinearModel, stacked
from finetuning.setup import Setup, prepare

NUM_BLOCKS = 3  # the paper's

log = logging.getLogger(__name__)


def fit_linear(config: LinearConfig) -> Path:
    """Fit the grid and return the folder.

    Raises:
        InputError: If options, images, checkpoint or output do not fit, or a loss is not finite.
    """
    config = resolve_linear(config)
    check_new(Path(config.output))
    setup = prepare(training_config(config))
    layers = chosen_layers(setup.model, config.layers or _last_blocks(setup.model, config))
    inputs = read_inputs(config, setup, layers)
    model = initial_model(config, setup, inputs)
    cells = [training_config(config, lr=lr, weight_decay=d) for lr, d in config.cells()]
    fits = [fit(cell, setup, inputs, model) for cell in cells]
    chosen = {
        "best": max(fits, key=lambda found: found.best_iid).best,
        "final": max(fits, key=lambda found: found.final_iid).final,
    }
    with new_folder(Path(config.output)) as folder:
        (folder / "config.yaml").write_text(as_yaml(config), encoding="utf-8")
        facts = setup.facts | {"layers": list(layers)}
        (folder / "run.json").write_text(json.dumps(facts, indent=2) + "\n")
        lines = [json.dumps(line) + "\n" for found in fits for line in found.metrics]
        (folder / "metrics.jsonl").write_text("".join(lines))
        _write_weights(folder, chosen, model, inputs, config)
    return Path(config.output)


def _last_blocks(model: Module, config: LinearConfig) -> tuple[str, ...]:
    blocks = residual_blocks(model)
    if config.linear_blocks > max(len(blocks), NUM_BLOCKS):
        raise InputError(
            f"--linear_blocks is {config.linear_blocks}, but {config.model} has {len(blocks)} "
            f"residual blocks; at most {len(blocks)} was expected: give fewer, or name layers "
            "with --layers"
        )
    return blocks[-config.linear_blocks :]


def read_inputs(config: LinearConfig, setup: Setup, layers: tuple[str, ...]) -> Inputs:
    """Features of all images, from the cache where they were computed before."""
    network = Network(
        model=setup.model,
        name=config.model,
        kwargs=config.model_kwargs or {},
        checkpoint=_fingerprint(setup.model),
    )
    cache = FeatureCache(config.cache)
    blocks, labels = {}, {}
    for env, environment in setup.domains.environments.items():
        labels[env] = torch.from_numpy(environment.labels).to(setup.device)
        matrices = extract(
            network,
            _images(config, setup, env),
            layers,
            cache,
            pooling=config.pooling,
            workers=config.workers,
        )
        parts = [torch.from_numpy(matrices[layer]).to(setup.device) for layer in layers]
        blocks[env] = stacked(parts, config.inputs)
    return Inputs(blocks, labels)


def _images(config: LinearConfig, setup: Setup, env: str) -> Images:
    assert config.transform is not None
    num = len(setup.domains.environments[env])
    return Images(
        domains=setup.domains,
        env=env,
        indices=np.arange(num),
        transform=config.transform,
        data_config=setup.data_config,  # type: ignore[arg-type]
    )


def _fingerprint(model: Module) -> str:
    """SHA-256 of the weights below the classifier, which no file need hold."""
    digest, head = hashlib.sha256(), classifier_name(model) + "."
    for name, tensor in model.state_dict().items():
        if not name.startswith(head):
            digest.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def initial_model(config: LinearConfig, setup: Setup, inputs: Inputs) -> LinearModel:
    """The model before its first step, a function of the seed."""
    torch.manual_seed(config.seed)
    example = torch.cat([inputs.blocks[env][rows] for env, rows in setup.train.items()])
    classes = len(setup.domains.classes)
    model = LinearModel(example.cpu(), classes, norm=config.norm, drop_rate=config.drop_rate)
    return model.to(setup.device)


def _write_weights(
    folder: Path,
    chosen: dict[str, dict[str, torch.Tensor]],
    model: LinearModel,
    inputs: Inputs,
    config: LinearConfig,
) -> None:
    """Both sets of weights, and what they say of every image."""
    metadata: dict[str, Any] = {"model": f"linear model (1) on {config.model}"}
    predictions = {}
    for name, state in chosen.items():
        save_state_dict(state, folder / f"{name}.safetensors", metadata)
        model.load_state_dict(state)
        for env, logits in predict(model, inputs).items():
            predictions[f"{name}|{env}"] = logits.float().cpu()
    with whole_file(folder / "predictions.safetensors") as path:
        save_file(predictions, path)


def main() -> None:
    """Entry point of `python -m finetuning.linear`."""
    run(lambda config: log.info("run folder: %s", fit_linear(config)), LinearConfig)


if __name__ == "__main__":
    main()
