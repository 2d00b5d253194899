"""Images to tensors: the paper's transforms, timm's own, and those of the embedded digits.

Every random draw comes from torch's global generator, or from Python's `random` where timm draws
from it; `core.datasets.KeyedDataset` seeds both. Tensors have torch's default type.

Shapes: B images of S x S pixels in a batch, H x W anywhere else.

References:
    | domainbed/datasets.py, class MultipleEnvironmentImageFolder
    | https://github.com/TjuJianyu/verylarge_dropout
"""

from collections.abc import Callable, Mapping
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float, UInt8
from PIL import Image
from timm.data.transforms_factory import create_transform
from torch import Generator, Tensor
from torchvision.transforms import v2

from core.errors import InputError

Kind = Literal["paper", "timm", "digits"]
Transform = Callable[[Image.Image], Tensor]
DataConfig = Mapping[str, Any]

_MAX_SHIFT = 2  # pixels of 32; the frame of paper around a digit is three pixels wide
_JITTER = 0.2  # brightness and contrast are scaled by 0.8 to 1.2


def make_transform(kind: str, *, training: bool, data_config: DataConfig) -> Transform:
    """The transform of one image, RGB, to a normalised tensor of 3 x H x W.

    Args:
        kind: `paper` crops, flips and jitters colours, and squashes the whole image to the
            input size for evaluation, as DomainBed does; `timm` is timm's own for the model;
            `digits` moves an image by up to two pixels and jitters brightness and contrast
            (it never mirrors one) and expects images of the input size.
        training: Augment at random.
        data_config: As returned by `timm.data.resolve_model_data_config(model)`.

    Raises:
        InputError: If there is no such kind.

    Example:
        >>> config = {"input_size": (3, 32, 32), "mean": (0.5,) * 3, "std": (0.5,) * 3}
        >>> transform = make_transform("paper", training=False, data_config=config)
        >>> transform(Image.new("RGB", (200, 100))).shape
        torch.Size([3, 32, 32])
    """
    if kind not in get_args(Kind):
        raise InputError(f"transform '{kind}' is unknown; expected {', '.join(get_args(Kind))}")
    if kind == "timm":
        return _timm_transform(training, data_config)
    size = tuple(data_config["input_size"][-2:])
    steps = _STEPS[kind, training](size)
    return v2.Compose([*steps, *_normalised(data_config)])


def digits_train_batch(
    images: UInt8[Tensor, "B S S 3"], data_config: DataConfig, generator: Generator
) -> Float[Tensor, "B 3 S S"]:
    r"""A whole batch through the training transform `digits`, some 40 times as fast.

    .. math:: y = \mathrm{clip}(c \, \mathrm{clip}(b \, x) + (1 - c) \, m)

    where x is shifted by up to two pixels (its edge repeated), b and c are uniform in [0.8, 1.2]
    and m is the mean grey level of the brightened image; then normalised.

    Args:
        images: Pixels.
        data_config: See `make_transform`.
        generator: The source of all random draws, on the images' device.
    """
    size, device = (2, len(images)), images.device
    shifts = torch.randint(-_MAX_SHIFT, _MAX_SHIFT + 1, size, generator=generator, device=device)
    draws = torch.rand(*size, 1, 1, 1, generator=generator, device=device)
    brightness, contrast = 1 + _JITTER * (2 * draws - 1)
    pixels = _planes(_shifted(images, *shifts))
    pixels.mul_(brightness / 255).clamp_(max=1)
    grey = v2.functional.rgb_to_grayscale(pixels).mean((1, 2, 3), keepdim=True)
    pixels.mul_(contrast).add_((1 - contrast) * grey).clamp_(0, 1)
    return _normalise_(pixels, data_config)


def digits_eval_batch(
    images: UInt8[Tensor, "B S S 3"], data_config: DataConfig
) -> Float[Tensor, "B 3 S S"]:
    """A whole batch through the evaluation transform `digits`: only normalised."""
    return _normalise_(_planes(images).div_(255), data_config)


def _shifted(
    images: UInt8[Tensor, "B S S 3"], rows: Tensor, columns: Tensor
) -> UInt8[Tensor, "B S S 3"]:
    """Moves every image by its own number of rows and columns, and repeats its edge."""
    num, height, width, _ = images.shape
    y = (torch.arange(height, device=images.device) + rows[:, None]).clamp_(0, height - 1)
    x = (torch.arange(width, device=images.device) + columns[:, None]).clamp_(0, width - 1)
    first = torch.arange(num, device=images.device)[:, None] * height
    source = (first + y)[:, :, None] * width + x[:, None, :]
    # One flat index is three times as fast as one index per axis.
    return images.reshape(-1, 3).index_select(0, source.flatten()).view_as(images)


def _planes(images: UInt8[Tensor, "B S S 3"]) -> Float[Tensor, "B 3 S S"]:
    planes = images.permute(0, 3, 1, 2)
    return planes.to(torch.get_default_dtype(), memory_format=torch.contiguous_format)


def _normalise_(
    pixels: Float[Tensor, "B 3 S S"], data_config: DataConfig
) -> Float[Tensor, "B 3 S S"]:
    mean, std = (pixels.new_tensor(data_config[key]).view(3, 1, 1) for key in ("mean", "std"))
    return pixels.sub_(mean).div_(std)


def _timm_transform(training: bool, data_config: DataConfig) -> Transform:
    return create_transform(is_training=training, **data_config)  # type: ignore[return-value]


def _normalised(data_config: DataConfig) -> list[v2.Transform]:
    return [
        v2.PILToTensor(),
        v2.ToDtype(torch.get_default_dtype(), scale=True),
        v2.Normalize(mean=list(data_config["mean"]), std=list(data_config["std"])),
    ]


def _paper_training(size: tuple[int, ...]) -> list[v2.Transform]:
    return [
        v2.RandomResizedCrop(size, scale=(0.7, 1.0)),
        v2.RandomHorizontalFlip(),
        v2.ColorJitter(0.3, 0.3, 0.3, 0.3),
        v2.RandomGrayscale(0.1),
    ]


def _paper_evaluation(size: tuple[int, ...]) -> list[v2.Transform]:
    return [v2.Resize(size)]


def _digits_training(size: tuple[int, ...]) -> list[v2.Transform]:
    return [
        v2.RandomCrop(size, padding=_MAX_SHIFT, padding_mode="edge"),
        v2.ColorJitter(_JITTER, _JITTER),
    ]


def _digits_evaluation(size: tuple[int, ...]) -> list[v2.Transform]:
    return []


_STEPS: dict[tuple[str, bool], Callable[[tuple[int, ...]], list[v2.Transform]]] = {
    ("paper", True): _paper_training,
    ("paper", False): _paper_evaluation,
    ("digits", True): _digits_training,
    ("digits", False): _digits_evaluation,
}
