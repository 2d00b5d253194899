"""Tests for core/digits.py."""

from hashlib import sha256
from itertools import combinations

import numpy as np
import pytest
from sklearn.datasets import load_digits, load_sample_images

from core import digits
from core.digits import (
    CLASSES,
    ENVIRONMENTS,
    SIZE,
    digit_environments,
    photographs,
    source_indices,
)

IMAGES, TARGETS = (np.asarray(part) for part in load_digits(return_X_y=True))


def digest() -> str:
    parts = [part.tobytes() for env in digit_environments().values() for part in env]
    return sha256(b"".join(parts)).hexdigest()


@pytest.mark.parametrize("env", ENVIRONMENTS)
def test_images_are_bytes_and_labels_are_integers(env: str) -> None:
    images, labels = digit_environments()[env]

    assert images.dtype == np.uint8 and labels.dtype == np.int64
    assert images.shape == (len(labels), SIZE, SIZE, 3)
    assert len(labels) in {449, 450}


def test_no_source_image_is_in_two_environments_and_none_is_lost() -> None:
    rows = source_indices()

    assert tuple(rows) == tuple(digit_environments()) == ENVIRONMENTS
    for one, other in combinations(ENVIRONMENTS, 2):
        assert not set(rows[one]) & set(rows[other])
    assert len(np.unique(np.concatenate(list(rows.values())))) == len(TARGETS)


def test_every_environment_holds_its_share_of_every_class() -> None:
    shares = np.bincount(TARGETS) / len(ENVIRONMENTS)

    for _, labels in digit_environments().values():
        counts = np.bincount(labels, minlength=len(CLASSES))
        assert np.all(np.abs(counts - shares) < 1)


def test_labels_are_those_of_the_source_images() -> None:
    for env, (_, labels) in digit_environments().items():
        np.testing.assert_array_equal(labels, TARGETS[source_indices()[env]])


def test_classes_come_in_no_order() -> None:
    for _, labels in digit_environments().values():
        assert 0.8 < np.mean(labels[1:] != labels[:-1]) < 0.97


def test_rendering_is_deterministic_and_the_arrays_are_the_callers() -> None:
    before = digest()
    digit_environments()["ink"][0][:] = 0
    assert digest() == before

    digits._rendered.cache_clear()
    assert digest() == before


def test_the_benchmark_is_the_one_that_published_numbers_were_measured_on() -> None:
    rows = np.concatenate(list(source_indices().values()))
    brightness = {env: images.mean() for env, (images, _) in digit_environments().items()}

    assert sha256(rows.astype("<i8").tobytes()).hexdigest().startswith("78f9071de7145bc1")
    # Resampling filters may change in the last bits between releases of Pillow and SciPy.
    assert brightness == pytest.approx(
        {"ink": 195.2, "outline": 199.7, "photo": 104.5, "rotated": 194.1}, abs=0.2
    )


def test_ink_is_dark_where_the_source_is() -> None:
    images, _ = digit_environments()["ink"]
    sources = IMAGES[source_indices()["ink"]].reshape(-1, 8, 8)
    darkness = 255 - images.mean(3)
    # A frame of one source pixel: 10 x 10 cells, sampled at the centres of the inner 8 x 8.
    centres = ((np.arange(8) + 1.5) * SIZE / 10).astype(int)

    sampled = darkness[:, centres][:, :, centres]

    agreement = [np.corrcoef(a.flat, b.flat)[0, 1] for a, b in zip(sampled, sources, strict=True)]
    assert np.min(agreement) > 0.6 and np.mean(agreement) > 0.85


def test_outline_is_light_inside_its_strokes() -> None:
    """A contour leaves more of the paper bare than the stroke it surrounds."""
    contrast = {env: 255 - digit_environments()[env][0].mean(3) for env in ("ink", "outline")}

    ink, outline = (c > 0.8 * c.max((1, 2), keepdims=True) for c in contrast.values())

    assert outline.mean() < 0.6 * ink.mean()


def test_photo_is_the_distance_between_stroke_and_background(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(digits, "_crop", lambda _rng: np.full((SIZE, SIZE, 3), 51, np.uint8))
    source = IMAGES[0].reshape(8, 8)

    image, stroke = digits._photo(source, np.random.default_rng(0)), digits._stroke(source)

    assert np.all(image[stroke == 0] == 51) and np.all(image[stroke == 1] == 204)


def test_backgrounds_of_the_photo_environment_differ() -> None:
    images, _ = digit_environments()["photo"]

    assert images[:, 0, 0].std(0).min() > 40


def test_a_quarter_turn_of_the_stroke_is_exact() -> None:
    source = IMAGES[0].reshape(8, 8)

    np.testing.assert_allclose(digits._stroke(source, 90), np.rot90(digits._stroke(source)))


def tilt(image: np.ndarray) -> float:
    """Angle of the ink's principal axis against the vertical, in degrees."""
    ink = image.mean(2).max() - image.mean(2)
    y, x = (axis.ravel() for axis in np.indices(ink.shape))
    (xx, xy), (_, yy) = np.cov(np.stack([x, y]), aweights=ink.ravel())
    return np.degrees(0.5 * np.arctan2(2 * xy, yy - xx))


def test_rotated_zeros_lean_either_way() -> None:
    def tilts(env: str) -> np.ndarray:
        images, labels = digit_environments()[env]
        return np.array([tilt(image) for image in images[labels == 0]])

    assert np.median(np.abs(tilts("ink"))) < 10
    assert 35 < np.median(np.abs(tilts("rotated"))) < 55
    assert 0.25 < np.mean(tilts("rotated") > 0) < 0.75


def test_halves_of_the_photographs_are_disjoint_and_complete() -> None:
    for left, right, whole in zip(
        photographs("left"), photographs("right"), load_sample_images().images, strict=True
    ):
        np.testing.assert_array_equal(np.concatenate([left, right], axis=1), whole)
