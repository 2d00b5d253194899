r"""One vector per image from what a layer returns: over which axes, and without which tokens.

timm's blocks return N x D x H x W (convolutions), N x H x W x D (Swin, MambaOut and others; some
families mix both) or N x T x D (tokens), and a block does not say which. What is spatial can be
seen: it has the shape of the image.

Shapes: N images, D features (channels), H x W positions, T tokens.
"""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import Module

from core.errors import InputError

Pooling = Literal["avg", "token"]
Size = tuple[int, int]


def pool(
    output: Float[Tensor, "N ..."], model: Module, image: Size, pooling: Pooling = "avg"
) -> Float[Tensor, "N D"]:
    r"""One vector per image.

    .. math:: \phi(x) = \frac{1}{HW} \sum_{p} h_p(x)

    Class and register tokens are no positions: `avg` leaves them out and `token` takes the class
    token instead, both as timm's `global_pool` has it. Vectors stay as they are.

    Args:
        output: What the layer returned.
        model: The network, for its number of prefix tokens and its declared layout.
        image: Height and width of the input, in pixels.
        pooling: `avg` or `token`.

    Raises:
        InputError: If it cannot be told which axes are spatial, or there is no class token.

    Example:
        >>> x = torch.randn(2, 7, 7, 96)
        >>> torch.equal(pool(x, torch.nn.Identity(), (224, 224)), x.mean((1, 2)))
        True
    """
    if output.ndim == 2:
        return output
    if output.ndim == 3:
        num_prefix = _num_prefix(output.shape[1], model, image)
        if pooling == "avg":
            return output[:, num_prefix:].mean(1)
        if num_prefix and getattr(model, "cls_token", None) is not None:
            return output[:, 0]
    elif output.ndim == 4 and pooling == "avg":
        return output.mean(_spatial_axes(output.shape, model, image))
    if pooling == "token":
        raise InputError(
            f"an array of {_size(output.shape)} holds no class token; choose --pooling avg"
        )
    raise _unknown(output.shape, image)


def channel_axis(shape: torch.Size, model: Module, image: Size) -> int:
    """The axis of an output's channels: the last of tokens, the one that is not spatial of maps.

    Raises:
        InputError: If it cannot be told which axes are spatial.

    Example:
        >>> channel_axis(torch.Size([2, 7, 7, 96]), torch.nn.Identity(), (224, 224))
        3
    """
    if len(shape) in {2, 3}:
        return len(shape) - 1
    if len(shape) != 4:
        raise _unknown(shape, image)
    return 1 if _spatial_axes(shape, model, image) == (2, 3) else 3


def _spatial_axes(shape: torch.Size, model: Module, image: Size) -> tuple[int, int]:
    """Axes 2 and 3 (channels first) or 1 and 2 (channels last)."""
    first, last = _misfit(shape[2:], image), _misfit(shape[1:3], image)
    if min(first, last) > 1:
        raise _unknown(shape, image)
    if first == last:  # as many channels as rows: only the model can tell
        return (1, 2) if getattr(model, "output_fmt", "NCHW") == "NHWC" else (2, 3)
    return (2, 3) if first < last else (1, 2)


def _num_prefix(num_tokens: int, model: Module, image: Size) -> int:
    """Tokens before those of positions; some families add them only in their last blocks."""
    for num_prefix in (int(getattr(model, "num_prefix_tokens", None) or 0), 0):
        if _is_grid(num_tokens - num_prefix, image):
            return num_prefix
    raise _unknown(torch.Size([num_tokens]), image)


def _is_grid(num: int, image: Size) -> bool:
    heights = (height for height in range(1, num + 1) if num % height == 0)
    return any(_misfit((height, num // height), image) <= 1 for height in heights)


def _misfit(grid: tuple[int, ...], image: Size) -> float:
    """How far a grid is from the image's shape, in positions (odd sizes are rounded: up to 1)."""
    (height, width), (rows, columns) = image, grid
    return abs(rows * width - columns * height) / max(height, width)


def _unknown(shape: torch.Size, image: Size) -> InputError:
    return InputError(
        f"in an array of {_size(shape)} it cannot be told which axes are positions in an image of "
        f"{_size(torch.Size(image))} pixels; N x D, N x D x H x W, N x H x W x D or N x T x D was "
        "expected: choose another layer"
    )


def _size(shape: torch.Size) -> str:
    return " x ".join(map(str, shape))
