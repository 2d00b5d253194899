"""Tests for core/transforms.py."""

import random

import numpy as np
import pytest
import torch
from PIL import Image
from torch.testing import assert_close
from torchvision import transforms as v1
from torchvision.transforms.functional import adjust_brightness, adjust_contrast, to_tensor

from core.datasets import seeded_transforms
from core.errors import InputError
from core.transforms import Kind, digits_eval_batch, digits_train_batch, make_transform

KINDS: list[Kind] = ["paper", "timm", "digits"]
CONFIG = {
    "input_size": (3, 32, 32),
    "mean": (0.485, 0.456, 0.406),
    "std": (0.229, 0.224, 0.225),
    "interpolation": "bicubic",
    "crop_pct": 0.875,
}
IDENTITY = CONFIG | {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
NORMALISE = v1.Compose([v1.ToTensor(), v1.Normalize(CONFIG["mean"], CONFIG["std"])])


def noise_image(width: int = 32, height: int = 32) -> Image.Image:
    rng = np.random.default_rng(0)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), np.uint8))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("training", [True, False])
def test_every_transform_gives_a_tensor_of_the_input_size(kind: Kind, training: bool) -> None:
    size = (32, 32) if kind == "digits" else (50, 41)

    image = make_transform(kind, training=training, data_config=CONFIG)(noise_image(*size))

    assert image.shape == (3, 32, 32)
    assert image.dtype == torch.get_default_dtype()


def test_an_unknown_transform_is_refused() -> None:
    with pytest.raises(InputError, match="'papers' is unknown; expected paper, timm, digits"):
        make_transform("papers", training=True, data_config=CONFIG)  # type: ignore[arg-type]


def test_the_paper_trains_on_the_transform_of_its_released_code() -> None:
    # domainbed/datasets.py of the release, in torchvision's first interface; it draws the same.
    released = v1.Compose(
        [
            v1.RandomResizedCrop(32, scale=(0.7, 1.0)),
            v1.RandomHorizontalFlip(),
            v1.ColorJitter(0.3, 0.3, 0.3, 0.3),
            v1.RandomGrayscale(),
            *NORMALISE.transforms,
        ]
    )
    ours = make_transform("paper", training=True, data_config=CONFIG)
    image = noise_image(64, 48)

    for seed in range(20):
        with seeded_transforms(seed):
            expected = released(image)
        with seeded_transforms(seed):
            assert_close(ours(image), expected)


def test_the_paper_evaluates_the_squashed_image() -> None:
    image = noise_image(64, 48)
    expected = v1.Compose([v1.Resize((32, 32)), *NORMALISE.transforms])(image)

    ours = make_transform("paper", training=False, data_config=CONFIG)(image)

    assert_close(ours, expected)


def test_timm_evaluates_the_central_crop() -> None:
    image = noise_image(64, 48)
    steps = [v1.Resize(36, v1.InterpolationMode.BICUBIC), v1.CenterCrop(32)]
    expected = v1.Compose([*steps, *NORMALISE.transforms])(image)

    ours = make_transform("timm", training=False, data_config=CONFIG)(image)

    assert_close(ours, expected)


@pytest.mark.parametrize("kind", KINDS)
def test_draws_come_from_the_seeded_generators_alone(kind: Kind) -> None:
    transform, image = make_transform(kind, training=True, data_config=CONFIG), noise_image()
    results = []
    for numpy_seed in (0, 1):
        np.random.seed(numpy_seed)  # ruff: ignore[numpy-legacy-random]
        torch.manual_seed(3)
        random.seed(3)
        results.append(transform(image))

    assert torch.equal(*results)
    assert not torch.equal(results[0], transform(image))


def test_digits_are_only_normalised_for_evaluation() -> None:
    image = noise_image()
    batch = torch.from_numpy(np.asarray(image).copy())[None]
    expected = NORMALISE(image)

    assert_close(make_transform("digits", training=False, data_config=CONFIG)(image), expected)
    assert_close(digits_eval_batch(batch, CONFIG)[0], expected)


def test_a_batch_is_its_images_one_by_one() -> None:
    images = torch.randint(256, (5, 32, 32, 3), dtype=torch.uint8)
    transform = make_transform("digits", training=False, data_config=CONFIG)
    singles = torch.stack([transform(Image.fromarray(image.numpy())) for image in images])

    assert_close(digits_eval_batch(images, CONFIG), singles)
    assert digits_eval_batch(images, CONFIG).is_contiguous()


def test_training_digits_are_shifted_and_never_mirrored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.transforms._JITTER", 0.0)
    image = noise_image()
    padded = np.pad(np.asarray(image), ((2, 2), (2, 2), (0, 0)), mode="edge")
    shifts = {
        padded[y : y + 32, x : x + 32].tobytes(): (y - 2, x - 2)
        for y in range(5)
        for x in range(5)
    }
    batch = torch.from_numpy(np.asarray(image).copy())[None].expand(600, -1, -1, -1)

    pixels = digits_train_batch(batch, IDENTITY, torch.Generator().manual_seed(0))
    as_bytes = pixels.mul(255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    seen = [shifts[single.tobytes()] for single in as_bytes]

    assert len(set(seen)) == 25
    assert_close(np.mean(seen, 0), np.zeros(2), atol=0.25, rtol=0)  # four standard errors


def test_training_digits_are_brightened_before_their_contrast_changes() -> None:
    grey = torch.full((200, 32, 32, 3), 128, dtype=torch.uint8)

    pixels = digits_train_batch(grey, IDENTITY, torch.Generator().manual_seed(0))
    brightness = pixels.flatten(1).mean(1) * 255 / 128

    # Contrast leaves a uniform image alone.
    assert_close(pixels.flatten(1).std(1), torch.zeros(200))
    assert brightness.min() < 0.81 and brightness.max() > 1.19
    assert brightness.min() >= 0.8 and brightness.max() <= 1.2


def test_the_jitter_of_a_batch_is_that_of_torchvision(monkeypatch: pytest.MonkeyPatch) -> None:
    image = noise_image()
    batch = torch.from_numpy(np.asarray(image).copy())[None]
    monkeypatch.setattr("core.transforms._MAX_SHIFT", 0)
    ours = digits_train_batch(batch, IDENTITY, torch.Generator().manual_seed(5))[0]

    generator = torch.Generator().manual_seed(5)
    torch.randint(0, 1, (2, 1), generator=generator)
    draws = torch.rand(2, generator=generator)
    brightness, contrast = (1 + 0.2 * (2 * draws - 1)).tolist()
    bright = adjust_brightness(to_tensor(image), brightness)

    assert_close(ours, adjust_contrast(bright, contrast))


def test_a_training_batch_is_a_function_of_its_generator() -> None:
    images = torch.randint(256, (5, 32, 32, 3), dtype=torch.uint8)
    first, again, other = (
        digits_train_batch(images, CONFIG, torch.Generator().manual_seed(seed))
        for seed in (0, 0, 1)
    )

    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert first.shape == (5, 3, 32, 32)
    assert first.is_contiguous()
