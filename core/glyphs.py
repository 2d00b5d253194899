"""The pretraining task of the embedded benchmark: letters and symbols, no digits.

Every glyph is drawn once per font as a mask; a recipe turns masks into images at random. Networks
pretrained by the two recipes stand for the paper's two ResNets: one architecture and one task,
trained on images as they are, or on images varied so that the features become richer.

    plain   dark on light, upright, small shifts
    rich    photographs behind, any colours, outlines and stroke widths, random affine maps

Shapes: M masks, N images, K canvas pixels, S = `core.digits.SIZE` pixels. Values lie in [0, 1].
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from math import radians
from pathlib import Path
from typing import Literal

import matplotlib as mpl
import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from matplotlib.ft2font import FT2Font
from PIL import Image, ImageDraw, ImageFont, ImageOps
from torch import Generator, Tensor
from torch.nn.functional import affine_grid, avg_pool2d, grid_sample, max_pool2d

from core.digits import SIZE, photographs

Split = Literal["train", "validation"]
Recipe = Literal["plain", "rich"]

# One of each pair of case twins; nothing that passes for a digit (O I l Z S B q b g ? & § %) or,
# turned, for another class (the multiplication sign for +).
GLYPHS = tuple("ACDEFGHJKLMNPRTUVWXYadefhnrtΔΛΞΠΣΦΨΩλμπω@#+=<>~*{±÷≠≈√∀∇⊕←↑→↓♠♣♥♦¶€£")

# Validation is in fonts that training never sees. Symbols are the same in all styles of a family,
# so those of the upright STIX, the only other family that has them all, are held out as well.
FONTS: dict[Split, tuple[str, ...]] = {
    "train": (
        *("DejaVuSans", "DejaVuSans-Bold", "DejaVuSans-Oblique", "DejaVuSans-BoldOblique"),
        *("DejaVuSansMono", "DejaVuSansMono-Bold", "DejaVuSansMono-BoldOblique"),
        *("DejaVuSerif", "DejaVuSerif-Bold", "DejaVuSerif-Italic", "DejaVuSerif-BoldItalic"),
        *("STIXGeneralItalic", "STIXGeneralBolIta", "cmb10", "cmr10", "cmti10"),
    ),
    "validation": ("STIXGeneral", "STIXGeneralBol", "cmss10", "cmtt10"),
}

_CANVAS, _VIEW, _GLYPH = (
    48,
    36,
    28,
)  # pixels: a mask, the part seen unscaled, a glyph's longer side


def glyph_masks(split: Split) -> tuple[UInt8[Tensor, "M 1 K K"], Int64[Tensor, " M"]]:
    """Every glyph in every font of a split that has it, white on black, with its class.

    Example:
        >>> masks, labels = glyph_masks("validation")
        >>> masks.shape[1:], GLYPHS[labels[0]]
        (torch.Size([1, 48, 48]), 'A')
    """
    drawn = [
        (_draw(glyph, font), label)
        for font in FONTS[split]
        for label, glyph in enumerate(GLYPHS)
        if _has(font, glyph)
    ]
    masks, labels = zip(*drawn, strict=True)
    return torch.from_numpy(np.stack(masks))[:, None], torch.tensor(labels)


def glyph_images(
    masks: UInt8[Tensor, "N 1 K K"], recipe: Recipe, generator: Generator
) -> Float[Tensor, "N 3 S S"]:
    """One random rendering of each mask, in single precision; a function of `generator` alone."""
    return _RECIPES[recipe](masks.to(torch.float32) / 255, generator)


def _plain(masks: Float[Tensor, "N 1 K K"], generator: Generator) -> Float[Tensor, "N 3 S S"]:
    n = len(masks)
    warped = _warp(masks, _Jitter(rotation=5, scale=0.1, shear=0.05, shift=0.08), generator)
    paper, ink = (
        _uniform(0.8, 1, (n, 1, 1, 1), generator),
        _uniform(0, 0.4, (n, 1, 1, 1), generator),
    )
    return torch.lerp(paper, ink, warped).expand(-1, 3, -1, -1)


def _rich(masks: Float[Tensor, "N 1 K K"], generator: Generator) -> Float[Tensor, "N 3 S S"]:
    n = len(masks)
    jitter = _Jitter(rotation=40, scale=0.25, shear=0.3, shift=0.12)
    stroke = _restyle(_warp(masks, jitter, generator), generator)
    colour = _uniform(0, 1, (n, 3, 1, 1), generator)
    on_photograph = _uniform(0, 1, (n, 1, 1, 1), generator) < 0.5
    background = torch.where(on_photograph, _photograph_crops(n, generator), colour)
    inverted = torch.lerp(background, 1 - background, stroke)
    distance = _uniform(0.3, 0.7, (n, 3, 1, 1), generator)
    # Modulo one, every channel of the ink is at least 0.3 away from the background's mean.
    ink = (background.mean((2, 3), keepdim=True) + distance) % 1
    painted = torch.lerp(background, ink, stroke)
    return torch.where(_uniform(0, 1, (n, 1, 1, 1), generator) < 0.5, inverted, painted)


_RECIPES: dict[Recipe, Callable[[Tensor, Generator], Tensor]] = {"plain": _plain, "rich": _rich}


@dataclass(frozen=True, kw_only=True)
class _Jitter:
    """Half widths of the uniform laws of a random affine map."""

    rotation: float  # degrees
    scale: float  # relative
    shear: float
    shift: float  # of the image's side


def _warp(
    masks: Float[Tensor, "N 1 K K"], jitter: _Jitter, generator: Generator
) -> Float[Tensor, "N 1 S S"]:
    def centred(half_width: float) -> Float[Tensor, " N"]:
        return _uniform(-half_width, half_width, (len(masks),), generator)

    angle, shear = centred(radians(jitter.rotation)), centred(jitter.shear)
    zoom = (_VIEW / _CANVAS) / (1 + centred(jitter.scale))
    cos, sin = zoom * angle.cos(), zoom * angle.sin()
    rows = (
        cos,
        shear * cos - sin,
        centred(jitter.shift),
        sin,
        shear * sin + cos,
        centred(jitter.shift),
    )
    grid = affine_grid(torch.stack(rows, 1).view(-1, 2, 3), [len(masks), 1, SIZE, SIZE], False)
    return grid_sample(masks, grid, align_corners=False)


def _restyle(strokes: Float[Tensor, "N 1 S S"], generator: Generator) -> Float[Tensor, "N 1 S S"]:
    """Thirds of the strokes as they are, thickened by a pixel all round, or as their contour."""
    thick = max_pool2d(strokes, 3, stride=1, padding=1)
    styles = torch.stack((strokes, thick, thick + max_pool2d(-strokes, 3, stride=1, padding=1)))
    chosen = torch.randint(3, (len(strokes),), generator=generator)
    return styles[chosen, torch.arange(len(strokes))]


def _photograph_crops(n: int, generator: Generator) -> Float[Tensor, "N 3 S S"]:
    windows = _photograph_windows()
    chosen = windows[torch.randint(len(windows), (n,), generator=generator)]
    return chosen.to(torch.float32) / 255


@cache
def _photograph_windows() -> UInt8[Tensor, "W 3 S S"]:
    """Windows of the photographs' left halves, at full, half and a third of their resolution."""
    windows = []
    for photograph in photographs("left"):
        pixels = torch.tensor(photograph, dtype=torch.float32).permute(2, 0, 1)
        for shrink, step in ((1, 8), (2, 4), (3, 3)):
            grid = avg_pool2d(pixels, shrink).unfold(1, SIZE, step).unfold(2, SIZE, step)
            windows.append(grid.permute(1, 2, 0, 3, 4).flatten(0, 1).to(torch.uint8))
    return torch.cat(windows)


def _draw(glyph: str, font: str) -> UInt8[np.ndarray, "K K"]:
    """A glyph scaled to a given longer side and centred."""
    typeface = ImageFont.truetype(_font_file(font), 96, layout_engine=ImageFont.Layout.BASIC)
    page = Image.new("L", (300, 300))
    ImageDraw.Draw(page).text((100, 100), glyph, fill=255, font=typeface)
    fitted = ImageOps.pad(page.crop(page.getbbox()), (_GLYPH, _GLYPH))
    return np.asarray(ImageOps.expand(fitted, (_CANVAS - _GLYPH) // 2))


def _has(font: str, glyph: str) -> bool:
    # The Computer Modern files map most code points but letters to unrelated glyphs.
    if font.startswith("cm"):
        return glyph.isascii() and glyph.isalpha()
    return ord(glyph) in FT2Font(_font_file(font)).get_charmap()


def _font_file(font: str) -> Path:
    return Path(mpl.get_data_path(), "fonts", "ttf", f"{font}.ttf")


def _uniform(
    low: float, high: float, shape: tuple[int, ...], generator: Generator
) -> Float[Tensor, "..."]:
    return low + (high - low) * torch.rand(shape, generator=generator, dtype=torch.float32)
