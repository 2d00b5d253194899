r"""Where noise on features is put: before the classifier, after stages, or after every block.

A unit is a feature, or a whole channel: one multiplier at all positions of a map, for all tokens.

Shapes: N examples, D units.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import Module

from core.models import insert_before_classifier, residual_blocks
from core.pooling import Size, channel_axis
from finetuning.noise import Noise

Placement = Literal["head", "stages", "blocks"]
Output = Tensor | tuple | list


@dataclass
class _Pass:
    """What the places of one forward pass share: the image's size and, where tied, the masks."""

    image: Size = (0, 0)
    masks: dict[int, Float[Tensor, "N D"]] = field(default_factory=dict)


def insert_noise(model: Module, noise: Noise, placement: Placement, *, tied: bool = False) -> None:
    """Put noise into a network, in training mode only.

    Args:
        model: The network.
        noise: What multiplies units by random numbers.
        placement: Before the classifier (`head`), or on what stages or residual blocks return.
        tied: All places of equal width share one draw: the same coordinates of the residual
            stream are lost along the whole stage. Otherwise every place draws its own.

    Raises:
        InputError: In the forward pass, if it cannot be told which axis holds the channels.
    """
    if placement == "head":
        insert_before_classifier(model, lambda x: noise(x.flatten(1)).view_as(x))  # 1 x 1 maps
        return
    blocks = residual_blocks(model)
    shared = _Pass()
    model.register_forward_pre_hook(_begin(shared))
    for name in blocks if placement == "blocks" else stage_ends(blocks):
        hook = _after_block(model, noise, shared, tied=tied)
        model.get_submodule(name).register_forward_hook(hook)


def stage_ends(blocks: tuple[str, ...]) -> tuple[str, ...]:
    """The last of every run of blocks with the same parent.

    A network whose blocks all have the same parent, such as a ViT, is one stage.

    Example:
        >>> stage_ends(("layer1.0", "layer1.1", "layer2.0"))
        ('layer1.1', 'layer2.0')
    """
    parents = [name.rpartition(".")[0] for name in blocks]
    following = [*parents[1:], None]
    return tuple(b for b, p, n in zip(blocks, parents, following, strict=True) if p != n)


def _begin(shared: _Pass) -> Callable[[Module, tuple], None]:
    def hook(_model: Module, args: tuple[Tensor, ...]) -> None:
        height, width = args[0].shape[-2:]
        shared.image = (height, width)
        shared.masks.clear()

    return hook


def _after_block(
    model: Module, noise: Noise, shared: _Pass, *, tied: bool
) -> Callable[[Module, tuple, Output], Output | None]:
    def hook(module: Module, _args: tuple, output: Output) -> Output | None:
        if not module.training:
            return None
        if isinstance(output, Tensor):
            return noisy(output)
        # Some blocks also return a state for the next one; the features come first.
        return type(output)([noisy(output[0]), *output[1:]])

    def noisy(x: Float[Tensor, "N ..."]) -> Float[Tensor, "N ..."]:
        axis = channel_axis(x.shape, model, shared.image)
        shape = [len(x), *([1] * (x.ndim - 1))]
        shape[axis] = x.shape[axis]
        return x * multipliers(x, x.shape[axis]).view(shape)

    def multipliers(x: Float[Tensor, "N ..."], width: int) -> Float[Tensor, "N D"]:
        if not tied or width not in shared.masks:
            ones = torch.ones(len(x), width, dtype=x.dtype, device=x.device)
            shared.masks[width] = noise(ones)
        return shared.masks[width]

    return hook
