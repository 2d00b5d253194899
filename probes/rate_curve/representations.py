"""What the rate curve stands on: layers of the pretrained networks, and more where asked for.

`stacked` are the pooled outputs of the last residual blocks side by side, which the paper's linear
model (1) reads; `adapted` is what a fitted one makes of them; `tangent` are random features of the
tangent kernel, of all outputs side by side.

Shapes: N examples, C outputs, k random features, D features.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

from core.checkpoints import load_checkpoint
from core.device import select_device
from core.errors import InputError
from core.features import Images
from core.layers import BLOCKS
from core.models import residual_blocks
from probes.feature_sets import FeatureSet, Part
from probes.feature_sources import FLAG, load_features
from probes.ntk import sketched_features
from probes.rate_curve.adapted import Adapter, read_adapter
from probes.rate_curve.config import RateCurveConfig
from probes.setting import Setting, load_setting
from probes.sources import Source

STACKED, ADAPTED, TANGENT = "stacked", "adapted", "tangent"
INIT = "/init"


def load(config: RateCurveConfig) -> list[FeatureSet]:
    """The networks before their fine-tuning, each once; files and fine-tuned ones where asked for.

    Runs from scratch have no pretrained network and are left out, unless there are no others.

    Raises:
        InputError: If files, checkpoints, images and options do not fit each other.
    """
    blocks = last_blocks(config) if config.stacked else ()
    adapter = _adapter(config)
    read = adapter.layers if adapter else ()
    sets = load_features(replace(config, layers=(*config.layers, *blocks, *read)))
    return [_with_further(found, blocks, adapter, config) for found in _once(_before(sets))]


def _adapter(config: RateCurveConfig) -> Adapter | None:
    """That of `--adapted`, if it is of the network and pooled alike."""
    if config.adapted is None:
        return None
    found = read_adapter(Path(config.adapted))
    asked = _setting(config).model_name, config.pooling
    if (found.model, found.pooling) != asked:
        raise InputError(
            f"'{config.adapted}' is a linear model on {found.model} (pooling {found.pooling}), "
            f"--checkpoints are {asked[0]} (pooling {asked[1]}); the same were expected: check "
            "--adapted and --pooling"
        )
    return found


def last_blocks(config: RateCurveConfig) -> tuple[str, ...]:
    """Names of the last residual blocks, as many as `--stacked`, in the network's order.

    Raises:
        InputError: If the network has fewer.
    """
    setting = _setting(config)
    blocks = residual_blocks(setting.model)
    if config.stacked > len(blocks):
        raise InputError(
            f"--stacked is {config.stacked}; {setting.model_name} has {len(blocks)} residual "
            f"blocks: give a number from 1 to {len(blocks)}"
        )
    return blocks[-config.stacked :]


def _setting(config: RateCurveConfig) -> Setting:
    sources = [Source.find(name, config.weights, FLAG) for name in config.checkpoints]
    return load_setting(sources, config, FLAG)


def _before(sets: Sequence[FeatureSet]) -> list[FeatureSet]:
    runs = {found.run for found in sets}
    before = [found for found in sets if f"{found.run}{INIT}" not in runs]
    pretrained = [found for found in before if not found.facts.get("from_scratch")]
    return pretrained or before


def _once(sets: Sequence[FeatureSet]) -> list[FeatureSet]:
    """Runs of the same pretrained network and split differ in their classifiers only."""
    kept: list[FeatureSet] = []
    for found in sets:
        if not any(_same(found, other) for other in kept):
            kept.append(found)
    return kept


def _same(first: FeatureSet, second: FeatureSet) -> bool:
    if len(first.parts) != len(second.parts):
        return False
    return all(
        (a.env, a.split) == (b.env, b.split)
        and np.array_equal(a.images, b.images)
        and a.features.keys() == b.features.keys()
        and all(np.array_equal(a.features[layer], b.features[layer]) for layer in a.features)
        for a, b in zip(first.parts, second.parts, strict=True)
    )


def _with_further(
    found: FeatureSet, blocks: Sequence[str], adapter: Adapter | None, config: RateCurveConfig
) -> FeatureSet:
    """The same with what was asked for beside the layers, and without what was not."""
    parts = [_combined(part, blocks, adapter, config) for part in found.parts]
    if config.tangent:
        tangent = tangent_features(found, config)
        parts = [
            replace(part, features=part.features | {TANGENT: matrix})
            for part, matrix in zip(parts, tangent, strict=True)
        ]
    return replace(found, parts=tuple(parts))


def _combined(
    part: Part, blocks: Sequence[str], adapter: Adapter | None, config: RateCurveConfig
) -> Part:
    """Blocks side by side and adapted; single ones stay only where `--layers` asks for them."""
    if not blocks and adapter is None:
        return part
    asked = [layer for layer in part.features if layer in config.layers or BLOCKS in config.layers]
    features = {layer: part.features[layer] for layer in asked}
    if blocks:
        features[STACKED] = np.concatenate([part.features[block] for block in blocks], 1)
    if adapter is not None:
        features[ADAPTED] = adapter([part.features[layer] for layer in adapter.layers])
    return replace(part, features=features)


def tangent_features(found: FeatureSet, config: RateCurveConfig) -> list[Float[np.ndarray, "N D"]]:
    """Random tangent features of every part, D = C k.

    Raises:
        InputError: If the network has a layer without a rule (see `empirical_ntk`).
    """
    setting = _setting(config)
    device, dtype = select_device(config.device), getattr(torch, config.dtype)
    model = setting.model.to(device, dtype).eval()
    load_checkpoint(model, found.facts["checkpoint"])
    params = {name: weight.detach() for name, weight in model.named_parameters()}
    matrices = []
    for part in found.parts:
        images = Images(
            domains=setting.domains,
            env=part.env,
            indices=part.images,
            transform=setting.transform,
            data_config=setting.data_config,  # type: ignore[arg-type]
        )
        x = torch.cat([batch for batch, _ in images.loader(config.batch_size, config.workers)])
        sketch = sketched_features(
            model, params, x, num_features=config.tangent, seed=config.seed, progress=True
        )
        matrices.append(sketch[0].flatten(1).cpu().numpy())
    return matrices
