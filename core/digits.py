"""The embedded benchmark: scikit-learn's handwritten digits as four environments.

One environment per rendering, the same ten classes, no source image in two of them:

    ink       a dark stroke on light paper
    outline   the contour of the stroke
    photo     the stroke inverts a photograph, |background - stroke|, after MNIST-M
    rotated   ink, turned by 35 to 55 degrees either way (a 6 stays far from a 9)

Shapes: N images of S x S pixels; S is `SIZE`. Pixels are uint8, intermediate fields lie in [0, 1].

References:
    | Domain-Adversarial Training of Neural Networks (Ganin et al., 2016), section 5.2.4: MNIST-M
    | https://arxiv.org/abs/1505.07818
    | Optical Recognition of Handwritten Digits (Alpaydin & Kaynak, 1998), UCI repository
    | https://doi.org/10.24432/C50P49
"""

from collections.abc import Callable
from functools import cache
from typing import Literal

import numpy as np
from jaxtyping import Float, Int64, UInt8
from numpy.random import Generator
from PIL import Image
from scipy.ndimage import gaussian_gradient_magnitude
from sklearn.datasets import load_digits, load_sample_images

CLASSES = tuple("0123456789")
ENVIRONMENTS = ("ink", "outline", "photo", "rotated")
SIZE = 32

_SEED = 2403_00946
_ROTATION = (35.0, 55.0)  # degrees, drawn with either sign

Field = Float[np.ndarray, "S S"]
Pixels = UInt8[np.ndarray, "S S 3"]


def digit_environments() -> dict[
    str, tuple[UInt8[np.ndarray, "N S S 3"], Int64[np.ndarray, " N"]]
]:
    """Images and labels of every environment, in the order of `ENVIRONMENTS`.

    Deterministic; rendered once a process. The arrays are the caller's own.

    Example:
        >>> images, labels = digit_environments()["photo"]
        >>> images.shape, images.dtype, labels.dtype
        ((449, 32, 32, 3), dtype('uint8'), dtype('int64'))
    """
    sources, (_, targets) = source_indices(), _handwritten()
    return {env: (_rendered(env).copy(), targets[sources[env]]) for env in ENVIRONMENTS}


def source_indices() -> dict[str, Int64[np.ndarray, " N"]]:
    """Rows of `sklearn.datasets.load_digits` that each environment is made from.

    Every class is shuffled and dealt to the environments in turn, so that they are disjoint and
    hold a class equally often, up to one image.
    """
    (_, targets), rng = _handwritten(), np.random.default_rng(_SEED)
    by_class = [rng.permutation(np.flatnonzero(targets == c)) for c in range(len(CLASSES))]
    order = np.concatenate(by_class).astype(np.int64)
    dealt = (order[i :: len(ENVIRONMENTS)] for i in range(len(ENVIRONMENTS)))
    return {env: rng.permutation(rows) for env, rows in zip(ENVIRONMENTS, dealt, strict=True)}


def photographs(half: Literal["left", "right"]) -> list[UInt8[np.ndarray, "H W 3"]]:
    """One half of each of scikit-learn's two sample photographs.

    The glyphs that networks are pretrained on lie on the left halves, the digits on the right
    ones: no background of the benchmark has been seen before.
    """
    left_first = [np.array_split(image, 2, axis=1) for image in load_sample_images().images]
    return [halves[half == "right"] for halves in left_first]


@cache
def _handwritten() -> tuple[Float[np.ndarray, "N 8 8"], Int64[np.ndarray, " N"]]:
    """scikit-learn's images, of 17 grey levels, and their classes."""
    pixels, targets = load_digits(return_X_y=True)
    return np.reshape(pixels, (-1, 8, 8)), np.asarray(targets, dtype=np.int64)


@cache
def _rendered(env: str) -> UInt8[np.ndarray, "N S S 3"]:
    rng = np.random.default_rng([_SEED, ENVIRONMENTS.index(env)])
    images, _ = _handwritten()
    return np.stack([_RENDERINGS[env](image, rng) for image in images[source_indices()[env]]])


def _stroke(image: Float[np.ndarray, "8 8"], angle: float = 0.0) -> Field:
    """A smooth stroke with a soft edge, turned by `angle` degrees."""
    # A frame of one source pixel: many strokes touch the border.
    field = Image.fromarray(np.pad(image / 16, 1).astype(np.float32))
    large = field.resize((SIZE, SIZE), Image.Resampling.BICUBIC)
    turned = np.asarray(large.rotate(angle, Image.Resampling.BICUBIC), dtype=np.float64)
    # What is upsampled is blurred over three pixels; a steep edge at half height is a stroke.
    t = np.clip((turned - 0.5) * 2 + 0.5, 0, 1)
    return t * t * (3 - 2 * t)


def _on_paper(stroke: Field, rng: Generator) -> Pixels:
    """Dark ink of any hue on light paper."""
    paper, ink = rng.uniform(0.8, 1.0, 3), rng.uniform(0.0, 0.4, 3)
    return _pixels(paper + stroke[..., None] * (ink - paper))


def _ink(image: Float[np.ndarray, "8 8"], rng: Generator) -> Pixels:
    return _on_paper(_stroke(image), rng)


def _outline(image: Float[np.ndarray, "8 8"], rng: Generator) -> Pixels:
    slope = gaussian_gradient_magnitude(_stroke(image), sigma=0.7)
    return _on_paper(slope / slope.max(), rng)


def _photo(image: Float[np.ndarray, "8 8"], rng: Generator) -> Pixels:
    # The busier of two: open sky alone would be paper by another name.
    background = max(_crop(rng), _crop(rng), key=np.std) / 255
    return _pixels(np.abs(background - _stroke(image)[..., None]))


def _rotated(image: Float[np.ndarray, "8 8"], rng: Generator) -> Pixels:
    angle = rng.choice([-1, 1]) * rng.uniform(*_ROTATION)
    return _on_paper(_stroke(image, angle), rng)


def _crop(rng: Generator) -> Pixels:
    """A square of one to three times `SIZE` from a photograph, scaled down to `SIZE`."""
    photograph = _backgrounds()[rng.integers(len(_backgrounds()))]
    side = int(rng.integers(SIZE, 3 * SIZE + 1))
    top, left = (int(rng.integers(length - side + 1)) for length in photograph.shape[:2])
    square = Image.fromarray(photograph[top : top + side, left : left + side])
    return np.asarray(square.resize((SIZE, SIZE), Image.Resampling.BOX))


@cache
def _backgrounds() -> list[UInt8[np.ndarray, "H W 3"]]:
    return photographs("right")


def _pixels(values: Float[np.ndarray, "S S 3"]) -> Pixels:
    return np.rint(np.clip(values, 0, 1) * 255).astype(np.uint8)


_RENDERINGS: dict[str, Callable[[np.ndarray, Generator], Pixels]] = {
    "ink": _ink,
    "outline": _outline,
    "photo": _photo,
    "rotated": _rotated,
}
