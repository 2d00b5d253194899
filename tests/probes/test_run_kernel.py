"""Tests for probes/run_kernel.py: which training images regression is fitted on."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core.domains import Domains, load_domains
from probes.run_kernel import balanced, training_images
from probes.sources import Source
from tests.image_files import write_domains

ENVS = ("art", "photo", "sketch")
NUM = 20  # images of an environment


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_domains(tmp_path_factory.mktemp("data"), ENVS, NUM // 2)


def source(data: Path, folder: Path, **changes: object) -> Source:
    """A run trained on art and photo."""
    options: dict[str, Any] = {"data": str(data), "envs": [], "skip_unreadable": False}
    options |= {"split_seed": 3, "train_fraction": 1.0} | changes
    (folder / "run.json").write_text(
        '{"data_fingerprint": "f", "classes": ["cat", "dog"], "train_envs": ["art", "photo"]}'
    )
    return Source(folder, folder / "final.safetensors", options)  # type: ignore[arg-type]


def trained_on(run: Source, domains: Domains, env: str) -> set[int]:
    return set(run.parts(domains, env, "iid")[0].tolist())


def test_they_are_the_runs_training_images_shared_by_its_environments(
    data: Path, tmp_path: Path
) -> None:
    run, domains = source(data, tmp_path), load_domains(str(data))
    where, images = training_images(run, domains, 7, seed=0)
    assert where is domains
    assert {env: len(chosen) for env, chosen in images.items()} == {"art": 4, "photo": 3}
    for env, chosen in images.items():
        assert len(set(chosen.tolist())) == len(chosen)
        assert set(chosen.tolist()) <= trained_on(run, domains, env)
    other = training_images(run, domains, 7, seed=1)[1]
    assert any(not np.array_equal(images[env], other[env]) for env in images)
    again = training_images(run, domains, 7, seed=0)[1]
    assert all(np.array_equal(images[env], again[env]) for env in images)


def test_classes_are_drawn_alike(data: Path, tmp_path: Path) -> None:
    run, domains = source(data, tmp_path), load_domains(str(data))
    for seed in range(5):
        for env, chosen in training_images(run, domains, 11, seed=seed)[1].items():
            counts = np.bincount(domains.environments[env].labels[chosen])
            assert sorted(counts) == ([3, 3] if env == "art" else [2, 3])
    labels = np.array([0] * 8 + [1, 2])
    rng = np.random.default_rng(0)
    drawn = [frozenset(balanced(labels, 4, rng).tolist()) for _ in range(50)]
    assert all({8, 9} < chosen for chosen in drawn) and len(set(drawn)) > 10


def test_there_are_no_more_than_the_run_had(data: Path, tmp_path: Path) -> None:
    domains = load_domains(str(data))
    for fraction, num in ((1.0, 16), (0.25, 4)):  # of 80 % of 20
        run = source(data, tmp_path, train_fraction=fraction)
        images = training_images(run, domains, 1000, seed=0)[1]
        assert {env: len(chosen) for env, chosen in images.items()} == {"art": num, "photo": num}
        assert set(images["art"].tolist()) == trained_on(run, domains, "art")


def test_environments_that_the_probe_leaves_out_are_opened(data: Path, tmp_path: Path) -> None:
    run, whole = source(data, tmp_path), load_domains(str(data))
    where, images = training_images(run, load_domains(str(data), envs=("sketch",)), 6, seed=0)
    expected = training_images(run, whole, 6, seed=0)[1]
    assert where.environments.keys() == whole.environments.keys()
    assert all(np.array_equal(images[env], expected[env]) for env in expected)
