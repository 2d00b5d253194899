"""Tests for core/features.py: all that makes an entry of the cache another one."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from core.domains import load_domains
from core.feature_cache import FeatureCache
from core.features import Images, Network, extract
from core.layers import FEATURES
from core.models import create_model
from tests.core.feature_images import CONFIG, ORDER, entries
from tests.image_files import write_domains


def other_config(**changes: object) -> Callable[[Network, Images], tuple[Network, Images]]:
    return lambda network, images: (network, replace(images, data_config=CONFIG | changes))


def other_images(**changes: object) -> Callable[[Network, Images], tuple[Network, Images]]:
    return lambda network, images: (network, replace(images, **changes))


def other_network(**changes: object) -> Callable[[Network, Images], tuple[Network, Images]]:
    return lambda network, images: (replace(network, **changes), images)


INGREDIENTS: dict[str, Callable[[Network, Images], tuple[Network, Images]]] = {
    "checkpoint": other_network(checkpoint="b" * 64),
    "model": other_network(name="glyphnet.rich"),
    "model_kwargs": other_network(kwargs={"act_layer": "relu"}),
    "fingerprint": lambda n, i: (n, replace(i, domains=replace(i.domains, fingerprint="other"))),
    "environment": other_images(env="ink", indices=np.array([3, 0, 4, 2, 1])),
    "other images": other_images(indices=np.array([3, 0, 6, 5, 2])),
    "another order": other_images(indices=np.sort(ORDER)),
    "fewer images": other_images(indices=ORDER[:4]),
    "transform": other_images(transform="paper"),
    "input_size": other_config(input_size=(3, 64, 64)),
    "mean": other_config(mean=(0.5, 0.4, 0.2)),
    "std": other_config(std=(0.5, 0.6, 0.6)),
    "interpolation": other_config(interpolation="bicubic"),
    "crop_pct": other_config(crop_pct=0.9),
}


@pytest.mark.parametrize("ingredient", INGREDIENTS)
def test_every_ingredient_makes_an_entry_of_its_own(
    network: Network, images: Images, cache: FeatureCache, ingredient: str
) -> None:
    extract(network, images, [FEATURES], cache)
    extract(*INGREDIENTS[ingredient](network, images), [FEATURES], cache)
    assert len(entries(cache)) == 2


def test_layer_pooling_and_precision_make_entries_of_their_own(
    images: Images, cache: FeatureCache
) -> None:
    torch.set_default_dtype(torch.float32)
    model = create_model("test_vit", 4, img_size=32)
    network = Network(model=model, name="test_vit", checkpoint="a" * 64)
    for number, (layers, pooling) in enumerate(
        [(["blocks.0"], "avg"), (["blocks.1"], "avg"), (["blocks.0"], "token")], 1
    ):
        extract(network, images, layers, cache, pooling=pooling)
        assert len(entries(cache)) == number
    extract(network, images, [FEATURES], cache)
    extract(network, images, [FEATURES], cache, pooling="token")  # pools no features
    assert len(entries(cache)) == 4
    network.model.double()
    assert extract(network, images, [FEATURES], cache)[FEATURES].dtype == np.float64
    assert len(entries(cache)) == 5


def test_other_versions_make_entries_of_their_own(
    network: Network, images: Images, cache: FeatureCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    extract(network, images, [FEATURES], cache)
    monkeypatch.setattr("core.features._versions", lambda: {"torch": "0"})
    extract(network, images, [FEATURES], cache)
    assert len(entries(cache)) == 2


def test_a_file_that_was_altered_and_kept_its_size_is_read_again(
    network: Network, cache: FeatureCache, tmp_path: Path, passes: list[Tensor]
) -> None:
    root = write_domains(tmp_path / "data")

    def features() -> np.ndarray:
        images = Images(
            domains=load_domains(str(root)),
            env="art",
            indices=np.array([0, 4]),
            transform="paper",
            data_config=CONFIG,
        )
        return extract(network, images, [FEATURES], cache)[FEATURES]

    features()
    features()
    assert len(passes) == 1
    for name, expected in (("1.png", 1), ("0.png", 2)):  # only the latter is among the two
        file = root / "art" / "cat" / name
        os.utime(file, (1, 1))
        features()
        assert len(passes) == expected
