r"""The layers of a network by name, and what they return for a batch of images.

`features` is the penultimate :math:`\Phi`, exactly what the classifier reads; `logits` what it
returns; residual blocks have the names that the network gives them.

Shapes: B images of H x W pixels.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import Module

from core.errors import InputError
from core.models import capture, classifier_name, residual_blocks
from core.pooling import Pooling, pool

FEATURES, LOGITS, BLOCKS = "features", "logits", "blocks"


def chosen_layers(model: Module, layers: Sequence[str]) -> tuple[str, ...]:
    """Layers by name, each once; `blocks` means all residual blocks.

    Raises:
        InputError: If there is no such layer, or none is asked for.

    Example:
        >>> import timm
        >>> chosen_layers(timm.create_model("test_resnet"), ["features", "blocks"])
        ('features', 'layer1.0', 'layer2.0', 'layer3.0', 'layer4.0')
    """
    blocks = residual_blocks(model)
    known = (FEATURES, LOGITS, BLOCKS, *blocks)
    for layer in layers:
        if layer not in known:
            raise InputError(
                f"layer '{layer}' is not in {type(model).__name__}; expected {FEATURES}, {LOGITS},"
                f" {BLOCKS} (all of them) or one of the blocks {', '.join(blocks)}"
            )
    if not layers:
        raise InputError(f"--layers is empty; expected at least one, such as {FEATURES}")
    each = [blocks if layer == BLOCKS else (layer,) for layer in layers]
    return tuple(dict.fromkeys(layer for group in each for layer in group))


@torch.no_grad()
def layer_outputs(
    model: Module,
    x: Float[Tensor, "B 3 H W"],
    layers: Sequence[str],
    pooling: Pooling = "avg",
) -> dict[str, Float[Tensor, "B _"]]:
    """What the layers return for a batch, in one pass, pooled to one vector per image.

    Raises:
        InputError: If a block's output cannot be pooled (see `core.pooling.pool`).
    """
    head = classifier_name(model)
    blocks = [layer for layer in layers if layer not in {FEATURES, LOGITS}]
    with capture(model, blocks, inputs_of=[head]) as seen:
        logits = model(x)
    whole = {FEATURES: seen[head].flatten(1), LOGITS: logits}
    size = (x.shape[2], x.shape[3])
    return {
        layer: whole[layer]
        if layer in whole
        else _pooled(layer, seen[layer], model, size, pooling)
        for layer in layers
    }


def _pooled(
    layer: str, output: Float[Tensor, "B ..."], model: Module, size: tuple[int, int], how: Pooling
) -> Float[Tensor, "B D"]:
    try:
        return pool(output, model, size, how)
    except InputError as error:
        raise InputError(f"layer '{layer}' of {type(model).__name__}: {error}") from error
