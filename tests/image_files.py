"""Small image files for the tests."""

from pathlib import Path

import numpy as np
from PIL import Image


def write_image(path: Path, mode: str = "RGB") -> Path:
    """Writes 32 x 32 pixels of noise, in the format of the suffix."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    Image.fromarray(pixels).convert(mode).save(path)
    return path


def write_domains(root: Path, envs: tuple[str, ...] = ("art", "sketch"), num: int = 3) -> Path:
    """Writes `num` images of a cat and of a dog in every environment."""
    for env in envs:
        for name in ("cat", "dog"):
            for i in range(num):
                write_image(root / env / name / f"{i}.png")
    return root
