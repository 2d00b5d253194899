"""A small network and images for it, for tests of features."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from core.domains import Domains, Environment
from core.feature_cache import FeatureCache
from core.features import Images, Network
from core.models import create_model
from tests.core.feature_images import CONFIG, ORDER


@pytest.fixture(scope="module")
def model() -> torch.nn.Module:
    torch.set_default_dtype(torch.float32)  # as the commands have it
    torch.manual_seed(0)
    return create_model("glyphnet", 4).eval()


@pytest.fixture
def network(model: torch.nn.Module) -> Network:
    torch.set_default_dtype(torch.float32)
    return Network(model=model, name="glyphnet", checkpoint="a" * 64)


@pytest.fixture
def images() -> Images:
    rng = np.random.default_rng(0)
    environments = {
        name: Environment(
            name=name,
            labels=np.arange(num) % 4,
            ids=tuple(f"{name}/{i}" for i in range(num)),
            array=rng.integers(0, 256, (num, 32, 32, 3), np.uint8),
        )
        for name, num in (("ink", 5), ("photo", 7))
    }
    domains = Domains(environments, tuple("0123"), "fingerprint")
    return Images(
        domains=domains, env="photo", indices=ORDER, transform="digits", data_config=CONFIG
    )


@pytest.fixture
def cache(tmp_path: Path) -> FeatureCache:
    return FeatureCache(tmp_path / "cache")


@pytest.fixture
def passes(model: torch.nn.Module) -> Iterator[list[Tensor]]:
    """The batches that went through the network."""
    seen: list[Tensor] = []
    handle = model.register_forward_pre_hook(lambda _model, args: seen.append(args[0]))
    yield seen
    handle.remove()
