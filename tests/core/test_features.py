"""Tests for core/features.py: matrices against passes by hand."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from core.domains import load_domains
from core.errors import InputError
from core.feature_cache import FeatureCache
from core.features import Images, Network, extract
from core.layers import BLOCKS, FEATURES, LOGITS, chosen_layers
from core.models import classifier, create_model
from core.transforms import digits_eval_batch, make_transform
from tests.core.feature_images import CONFIG, ORDER, entries
from tests.image_files import write_domains


@torch.no_grad()
def by_hand(network: Network, images: Images, batch_size: int) -> dict[str, Tensor]:
    """Another way to the same numbers: block by block, with timm's own pooling."""
    model: Any = network.model
    env = images.domains.environments[images.env]
    if env.array is not None:
        x = digits_eval_batch(torch.from_numpy(env.array[images.indices]), CONFIG)
    else:
        transform = make_transform(images.transform, training=False, data_config=CONFIG)
        x = torch.stack([transform(env.image(int(index))) for index in images.indices])
    rows: dict[str, list[Tensor]] = {"layer3.1": [], FEATURES: [], LOGITS: []}
    for batch in x.split(batch_size):
        h = model.layer2(model.layer1(model.maxpool(model.act1(model.bn1(model.conv1(batch))))))
        h = model.layer3(h)
        rows["layer3.1"].append(h.mean((2, 3)))
        rows[FEATURES].append(model.global_pool(model.layer4(h)))
        rows[LOGITS].append(model.fc(rows[FEATURES][-1]))
    return {layer: torch.cat(parts) for layer, parts in rows.items()}


@pytest.mark.parametrize("batch_size", [2, 5, 64])
def test_features_are_those_of_a_pass_by_hand(
    network: Network, images: Images, cache: FeatureCache, batch_size: int
) -> None:
    expected = by_hand(network, images, batch_size)
    found = extract(network, images, list(expected), cache, batch_size=batch_size)
    assert list(found) == list(expected)
    for layer, matrix in found.items():
        assert matrix.dtype == np.float32
        np.testing.assert_array_equal(matrix, expected[layer].numpy())


def test_the_classifier_of_the_features_gives_the_logits(
    network: Network, images: Images, cache: FeatureCache
) -> None:
    network.model.double()
    try:
        found = extract(network, images, [FEATURES, LOGITS], cache)
        head = classifier(network.model)
        logits = found[FEATURES] @ head.weight.detach().numpy().T
        logits += head.bias.detach().numpy()  # type: ignore[union-attr]
        assert logits.dtype == np.float64
        np.testing.assert_allclose(logits, found[LOGITS], rtol=1e-12, atol=1e-12)
    finally:
        network.model.float()


def test_a_network_in_training_mode_is_probed_in_evaluation_mode(
    network: Network, images: Images, cache: FeatureCache
) -> None:
    expected = by_hand(network, images, 64)[FEATURES]
    network.model.train()
    np.testing.assert_array_equal(
        extract(network, images, [FEATURES], cache)[FEATURES], expected.numpy()
    )


def test_a_cached_layer_does_not_run_the_network(
    network: Network, images: Images, cache: FeatureCache, passes: list[Tensor]
) -> None:
    first = extract(network, images, [FEATURES], cache, batch_size=2)
    assert len(passes) == 3
    again = extract(network, images, [FEATURES], cache, batch_size=3)
    assert len(passes) == 3
    np.testing.assert_array_equal(first[FEATURES], again[FEATURES])


def test_a_cached_layer_does_not_read_the_images(
    network: Network, images: Images, cache: FeatureCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = np.array(extract(network, images, [FEATURES], cache)[FEATURES])
    monkeypatch.setattr("core.features.image_loader", None)
    np.testing.assert_array_equal(extract(network, images, [FEATURES], cache)[FEATURES], first)


def test_all_missing_layers_are_computed_in_one_pass_and_no_others(
    network: Network, images: Images, cache: FeatureCache, passes: list[Tensor]
) -> None:
    extract(network, images, ["layer1.0"], cache)
    layers = chosen_layers(network.model, [BLOCKS, FEATURES, LOGITS])
    before = cache.path(next(iter(entries(cache))).removesuffix(".npy")).stat().st_mtime_ns
    found = extract(network, images, layers, cache)
    assert len(passes) == 2
    assert tuple(found) == layers
    assert len(entries(cache)) == len(layers)
    times = [path.stat().st_mtime_ns for path in cache.folder.iterdir()]
    assert times.count(before) == 1


@pytest.mark.parametrize("damage", ["truncated", "flipped"])
def test_a_damaged_entry_is_made_again(
    network: Network,
    images: Images,
    cache: FeatureCache,
    passes: list[Tensor],
    damage: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    expected = np.array(extract(network, images, [FEATURES], cache)[FEATURES])
    (path,) = cache.folder.iterdir()
    content = bytearray(path.read_bytes())
    content[1000] ^= 1
    path.write_bytes(content[:-100] if damage == "truncated" else content)

    found = extract(network, images, [FEATURES], cache)

    assert len(passes) == 2
    assert "damaged" in caplog.text
    np.testing.assert_array_equal(found[FEATURES], expected)


def test_a_pass_that_is_interrupted_leaves_nothing(
    network: Network, images: Images, cache: FeatureCache
) -> None:
    calls: list[int] = []

    def interrupt(_model: torch.nn.Module, _args: tuple) -> None:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt

    handle = network.model.register_forward_pre_hook(interrupt)
    with pytest.raises(KeyboardInterrupt):
        extract(network, images, [FEATURES, LOGITS], cache, batch_size=2)
    handle.remove()
    assert entries(cache) == set()
    expected = by_hand(network, images, 2)[FEATURES].numpy()
    found = extract(network, images, [FEATURES], cache, batch_size=2)[FEATURES]
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("workers", [0, 2])
def test_workers_make_no_difference(
    network: Network, cache: FeatureCache, tmp_path: Path, workers: int
) -> None:
    domains = load_domains(str(write_domains(tmp_path / "data")))
    images = Images(
        domains=domains,
        env="sketch",
        indices=np.array([5, 1, 2]),
        transform="paper",
        data_config=CONFIG,
    )
    found = extract(network, images, [FEATURES], cache, batch_size=2, workers=workers)[FEATURES]
    np.testing.assert_array_equal(found, by_hand(network, images, 2)[FEATURES].numpy())


def test_no_images_are_refused(network: Network, images: Images, cache: FeatureCache) -> None:
    with pytest.raises(InputError, match="no images of environment 'photo' were chosen"):
        extract(network, replace(images, indices=ORDER[:0]), [FEATURES], cache)


def test_nan_is_refused_and_not_kept(images: Images, cache: FeatureCache) -> None:
    torch.set_default_dtype(torch.float32)
    model = create_model("glyphnet", 4)
    with torch.no_grad():
        model.fc.bias[2] = float("nan")  # type: ignore[index, union-attr]
    network = Network(model=model, name="glyphnet", checkpoint="c" * 64)
    with pytest.raises(InputError, match="layer 'logits' gives NaN .* 'photo'.*checkpoint"):
        extract(network, images, [FEATURES, LOGITS], cache)
    assert entries(cache) == set()


def test_a_cache_that_cannot_be_written_is_refused_before_the_network_runs(
    network: Network, images: Images, tmp_path: Path, passes: list[Tensor]
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="choose another --cache"):
        extract(network, images, [FEATURES], FeatureCache(tmp_path / "file"))
    assert not passes
