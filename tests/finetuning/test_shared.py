"""Tests for finetuning/shared.py: kept once, never stale, and without effect on a run."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from core.checkpoints import save_state_dict
from core.models import create_model
from finetuning import shared
from finetuning.shared import KEPT, pretrained_network, shared_domains
from finetuning.train import train
from tests.finetuning.tiny import assert_same_runs, tiny_config, write_images


@pytest.fixture(autouse=True)
def nothing_kept() -> Iterator[None]:
    torch.set_default_dtype(torch.float32)
    shared._domains.cache_clear()
    shared._network.cache_clear()
    yield
    shared._domains.cache_clear()
    shared._network.cache_clear()


def test_a_run_is_the_same_after_others_in_its_process(data: Path, tmp_path: Path) -> None:
    options = {"pretrained": "glyphnet.plain", "drop_rate": 0.5}
    train(tiny_config(data, tmp_path / "alone", seed=1, **options))
    shared._domains.cache_clear()
    shared._network.cache_clear()
    train(tiny_config(data, tmp_path / "before", seed=0, noise="block", **options))
    assert shared._network.cache_info().hits == 0
    train(tiny_config(data, tmp_path / "after", seed=1, **options))

    assert shared._network.cache_info().hits == shared._domains.cache_info().hits == 1
    assert_same_runs(tmp_path / "alone", tmp_path / "after")


def test_images_are_read_again_when_a_file_changes(tmp_path: Path) -> None:
    root = write_images(tmp_path / "data")
    first = shared_domains(str(root), (), skip_unreadable=False)
    assert shared_domains(str(root), (), skip_unreadable=False) is first

    image = root / "art" / "cat" / "0.png"
    image.write_bytes((root / "art" / "cat" / "1.png").read_bytes())
    second = shared_domains(str(root), (), skip_unreadable=False)
    assert second is not first

    image.unlink()
    third = shared_domains(str(root), (), skip_unreadable=False)
    assert len(third.environments["art"]) == len(second.environments["art"]) - 1


def test_options_and_folders_have_images_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "ab":
        write_images(tmp_path / name / "data")
    monkeypatch.chdir(tmp_path / "a")
    first = shared_domains("data", (), skip_unreadable=False)
    assert list(shared_domains("data", ("art",), skip_unreadable=False).environments) == ["art"]
    monkeypatch.chdir(tmp_path / "b")
    assert shared_domains("data", (), skip_unreadable=False) is not first


def test_a_network_is_the_callers_own_and_follows_its_file(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    state = create_model("glyphnet", 2).state_dict()
    save_state_dict(state, path, {})
    first = pretrained_network("glyphnet", 2, {}, str(path))
    first.get_parameter("conv1.0.weight").data.zero_()
    again = pretrained_network("glyphnet", 2, {}, str(path))
    assert torch.equal(again.state_dict()["conv1.0.weight"], state["conv1.0.weight"])
    assert shared._network.cache_info().hits == 1

    state["conv1.0.weight"] += 1
    save_state_dict(state, path, {})
    moved = pretrained_network("glyphnet", 2, {}, str(path))
    assert torch.equal(moved.state_dict()["conv1.0.weight"], state["conv1.0.weight"])


def test_no_more_than_a_few_are_kept() -> None:
    for num_classes in range(2, 4 + KEPT):
        pretrained_network("glyphnet", num_classes, {}, "glyphnet.plain")
    assert shared._network.cache_info().currsize == KEPT
