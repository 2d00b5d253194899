"""A bottleneck ResNet for 32 x 32 images, registered with timm as `glyphnet`.

Importing this module is enough for timm to build it and to load its weights without a network:

    timm.create_model("glyphnet.rich", pretrained=True, num_classes=10)

A ResNet-50 in small: bottleneck blocks, three of them in the last stage, and a representation Phi
of 512 dimensions. 0.9 M parameters, 5.5 million multiply-adds an image.
"""

from pathlib import Path
from typing import Any

import timm.models.resnet as timm_resnet
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from torch.nn import Identity

from core.glyphs import GLYPHS

_FOLDER = Path(__file__).parent / "weights"
WEIGHTS: dict[str, Path] = {
    "glyphnet.plain": _FOLDER / "glyphnet_plain.safetensors",
    "glyphnet.rich": _FOLDER / "glyphnet_rich.safetensors",
}


def _pretrained_cfg(weights: Path) -> dict[str, object]:
    return {
        "file": str(weights),
        "num_classes": len(GLYPHS),
        "input_size": (3, 32, 32),
        "pool_size": (2, 2),
        "crop_pct": 1.0,
        "interpolation": "bicubic",
        "mean": (0.5, 0.5, 0.5),
        "std": (0.5, 0.5, 0.5),
        "first_conv": "conv1.0",
        "classifier": "fc",
        "license": "mit",
    }


# timm reads this name when the model below is registered.
default_cfgs = generate_default_cfgs({name: _pretrained_cfg(f) for name, f in WEIGHTS.items()})


class GlyphNet(timm_resnet.ResNet):
    """timm's ResNet without the pooling after its stem, for images of 32 pixels."""

    def __init__(self, **kwargs: Any) -> None:  # ruff: ignore[any-type] - timm's own arguments
        super().__init__(**kwargs)
        self.maxpool = Identity()
        # timm counts the pooling that is gone.
        self.feature_info[1:] = [
            {**info, "reduction": int(info["reduction"]) // 2} for info in self.feature_info[1:]
        ]


@register_model
def glyphnet(
    pretrained: bool = False,
    **kwargs: Any,  # ruff: ignore[any-type] - timm's own arguments
) -> GlyphNet:
    """The network of this module; further arguments are those of timm's `ResNet`."""
    architecture: dict[str, Any] = {
        "block": timm_resnet.Bottleneck,
        "layers": (1, 1, 2, 3),
        "channels": (8, 16, 32, 128),
        "stem_type": "deep",
        "stem_width": 8,
        # A last BatchNorm scale of zero would put every block of a random network on the kink of
        # its ReLU, where no derivative says what a step will do.
        "zero_init_last": False,
    }
    return build_model_with_cfg(GlyphNet, "glyphnet", pretrained, **(architecture | kwargs))
