"""Pretrain the embedded benchmark's network on letters and symbols: minutes on two cores.

    python -m scripts.pretrain_glyphs --recipe rich --output glyphnet_rich.safetensors

The file holds every parameter and buffer, the classifier included, in half precision, and one JSON
string of metadata. The same seed gives the same file on the same machine and number of threads.

Shapes: N images, S pixels a side.
"""

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from jaxtyping import Float, Int64
from torch import Generator, Tensor
from torch.nn import Module
from torch.nn.functional import cross_entropy
from torch.optim import SGD
from torch.optim.lr_scheduler import OneCycleLR
from tqdm import tqdm

from core import command_line
from core.checkpoints import save_state_dict
from core.errors import InputError
from core.glyphs import GLYPHS, Recipe, glyph_images, glyph_masks
from core.models import create_model

Batch = tuple[Float[Tensor, "N 3 S S"], Int64[Tensor, " N"]]


@dataclass(frozen=True, kw_only=True)
class PretrainConfig:
    """How to pretrain a glyphnet."""

    recipe: Recipe
    """How glyphs become images: `plain` or `rich`."""
    output: Path
    """Safetensors file to write."""
    steps: int = 2000
    """Optimiser steps."""
    batch_size: int = 128
    """Images a step, each rendered anew."""
    lr: float = 0.1
    """Peak of the one-cycle learning rate."""
    weight_decay: float = 5e-4
    """L2 penalty."""
    seed: int = 0
    """Seed of the initial weights and of every rendering."""

    def __post_init__(self) -> None:
        if not self.output.parent.is_dir():
            raise InputError(
                f"there is no folder '{self.output.parent}' to write '{self.output.name}' to; "
                "an existing folder was expected; create it first"
            )
        if min(self.steps, self.batch_size) < 2:
            raise InputError(
                f"found {self.steps} steps of {self.batch_size} images; "
                "at least two of each were expected"
            )


def pretrain(config: PretrainConfig) -> None:
    """Train a glyphnet by SGD on one recipe, validate it on both and write its weights."""
    torch.manual_seed(config.seed)
    model = create_model("glyphnet", len(GLYPHS))
    train(model, tqdm(training_batches(config), total=config.steps, desc=config.recipe), config)
    recipes: tuple[Recipe, ...] = ("plain", "rich")
    scores = {f"accuracy_{recipe}": round(accuracy(model, recipe), 4) for recipe in recipes}
    print(f"on fonts held out from training: {scores}")
    # The number of threads decides the order of sums, and with it the last bits.
    metadata = asdict(config) | {"threads": torch.get_num_threads(), "classes": "".join(GLYPHS)}
    del metadata["output"]
    half = {k: v.half() if v.is_floating_point() else v for k, v in model.state_dict().items()}
    save_state_dict(half, config.output, metadata | scores)


def training_batches(config: PretrainConfig) -> Iterator[Batch]:
    """Fresh renderings of glyphs drawn with replacement, in the pixel range of the network."""
    masks, labels = glyph_masks("train")
    generator = Generator().manual_seed(config.seed)
    for _ in range(config.steps):
        drawn = torch.randint(len(masks), (config.batch_size,), generator=generator)
        yield normalize(glyph_images(masks[drawn], config.recipe, generator)), labels[drawn]


def train(model: Module, batches: Iterable[Batch], config: PretrainConfig) -> None:
    """Cross-entropy by SGD with Nesterov momentum on a one-cycle schedule."""
    model.train().to(memory_format=torch.channels_last)
    sgd = SGD(
        model.parameters(),
        config.lr,
        momentum=0.9,
        weight_decay=config.weight_decay,
        nesterov=True,
    )
    schedule = OneCycleLR(sgd, config.lr, total_steps=config.steps, pct_start=0.1)
    for images, labels in batches:
        sgd.zero_grad()
        cross_entropy(model(images), labels).backward()
        sgd.step()
        schedule.step()


@torch.no_grad()
def accuracy(model: Module, recipe: Recipe, renderings: int = 10) -> float:
    """Fraction of the validation glyphs that are named right, over several renderings each."""
    model.eval()
    generator = Generator().manual_seed(0)
    masks, labels = glyph_masks("validation")
    images = (normalize(glyph_images(masks, recipe, generator)) for _ in range(renderings))
    hits = [(model(batch).argmax(1) == labels).double().mean() for batch in images]
    return torch.stack(hits).mean().item()


def normalize(images: Float[Tensor, "N 3 S S"]) -> Float[Tensor, "N 3 S S"]:
    """From [0, 1] to [-1, 1]: the mean and deviation of 0.5 in the network's configuration."""
    return images * 2 - 1


if __name__ == "__main__":
    command_line.run(pretrain, PretrainConfig)
