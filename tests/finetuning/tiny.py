"""A data set and a run that are small enough for a test."""

from pathlib import Path

import numpy as np
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from finetuning.config import TrainConfig

ENVS = ("art", "photo", "sketch")
CLASSES = ("cat", "dog")
NUM = 6  # images of a class in an environment


def write_images(root: Path) -> Path:
    """Writes different images everywhere: noise, dark for a cat and bright for a dog."""
    rng = np.random.default_rng(0)
    for env in ENVS:
        for label, name in enumerate(CLASSES):
            folder = root / env / name
            folder.mkdir(parents=True)
            for i in range(NUM):
                pixels = rng.integers(0, 160, (32, 32, 3)) + 90 * label
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{i}.png")
    return root


def tiny_config(data: Path | str, output: Path, **options: object) -> TrainConfig:
    """Six steps of two images an environment, from random weights, evaluated every other step."""
    defaults = {
        "data": str(data),
        "output": str(output),
        "test_env": ("photo",),  # in the middle, so that positions are not those of a list
        "pretrained": "none",
        "steps": 6,
        "eval_every": 2,
        "batch_size": 2,
        "lr": 1e-2,
        "device": "cpu",
    }
    return TrainConfig(**(defaults | options))  # type: ignore[arg-type]


def weights(folder: Path, name: str = "final") -> dict[str, Tensor]:
    return load_file(folder / f"{name}.safetensors")


def files(folder: Path) -> dict[str, bytes]:
    """What a run folder holds, without the file that names the folder itself."""
    names = {path.name for path in folder.iterdir()} - {"config.yaml"}
    return {name: (folder / name).read_bytes() for name in sorted(names)}


def assert_same_runs(*folders: Path) -> None:
    """All files of finished runs are the same, byte for byte."""
    first, *others = [files(folder) for folder in folders]
    assert "final.safetensors" in first
    for other in others:
        assert list(other) == list(first)
        for name, content in other.items():
            assert content == first[name], name
