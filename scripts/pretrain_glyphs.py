"""Pretrain the embedded benchmark's network on letters and symbols (minutes on two cores).

    python -m scripts.pretrain_glyphs --recipe plain --output core/weights/glyphnet_plain.safetensors
    python -m scripts.pretrain_glyphs --recipe rich --output core/weights/glyphnet_rich.safetensors

The file holds every parameter and buffer, the classifier included, in half precision, and one JSON
string of metadata. The same seed gives the same file on the same machine.

Shapes: N images, C classes, S pixels a side.
"""

from collections.abc import Iterator
from pathlib import Path

import timm
import torch
from jaxtyping import Float, Int64
from jsonargparse import auto_cli
from torch import Generator, Tensor
from torch.nn import Module
from torch.nn.functional import cross_entropy
from torch.optim import SGD
from torch.optim.lr_scheduler import OneCycleLR
from tqdm import tqdm

import core.glyphnet  # noqa: F401  (registers the network with timm)
from core.tensor_files import save_state_dict
from core.glyphs import GLYPHS, Recipe, glyph_images, glyph_masks

Batch = tuple[Float[Tensor, "N 3 S S"], Int64[Tensor, " N"]]


def pretrain(
    recipe: Recipe,
    output: Path,
    *,
    steps: int = 2000,
    batch_size: int = 128,
    lr: float = 0.1,
    weight_decay: float = 5e-4,
    seed: int = 0,
) -> None:
    """Train a glyphnet by SGD on one recipe and write its weights.

    Args:
        recipe: how glyphs become images
        output: safetensors file to write
        steps: optimiser steps
        batch_size: images a step, each rendered anew
        lr: peak of the one-cycle learning rate
        weight_decay: L2 penalty
        seed: of the initial weights and of every rendering
    """
    settings = {"recipe": recipe, "steps": steps, "batch_size": batch_size, "lr": lr}
    settings |= {"weight_decay": weight_decay, "seed": seed}
    torch.manual_seed(seed)
    model = timm.create_model("glyphnet", num_classes=len(GLYPHS))
    batches = training_batches(recipe, steps, batch_size, Generator().manual_seed(seed))
    train(model, tqdm(batches, total=steps, desc=recipe), steps, lr, weight_decay)
    scores = {f"accuracy_on_{name}": accuracy(model, name) for name in ("plain", "rich")}
    print(settings | scores)
    half = {k: v.half() if v.is_floating_point() else v for k, v in model.state_dict().items()}
    save_state_dict(half, output, settings | scores | {"classes": "".join(GLYPHS)})


def training_batches(
    recipe: Recipe, steps: int, batch_size: int, generator: Generator
) -> Iterator[Batch]:
    """Fresh renderings of glyphs drawn with replacement, in the pixel range of the network."""
    masks, labels = glyph_masks("train")
    for _ in range(steps):
        drawn = torch.randint(len(masks), (batch_size,), generator=generator)
        yield normalize(glyph_images(masks[drawn], recipe, generator)), labels[drawn]


def train(
    model: Module, batches: Iterator[Batch], steps: int, lr: float, weight_decay: float
) -> None:
    """SGD with Nesterov momentum and a one-cycle schedule, cross-entropy."""
    model.train().to(memory_format=torch.channels_last)
    sgd = SGD(model.parameters(), lr, momentum=0.9, weight_decay=weight_decay, nesterov=True)
    schedule = OneCycleLR(sgd, lr, total_steps=steps, pct_start=0.1)
    for images, labels in batches:
        sgd.zero_grad()
        cross_entropy(model(images), labels).backward()
        sgd.step()
        schedule.step()


@torch.no_grad()
def accuracy(model: Module, recipe: Recipe, renderings: int = 10) -> float:
    """Fraction of validation glyphs, in fonts held out from training, that are named right."""
    model.eval()
    generator = Generator().manual_seed(0)
    masks, labels = glyph_masks("validation")
    images = (normalize(glyph_images(masks, recipe, generator)) for _ in range(renderings))
    hits = [(model(batch).argmax(1) == labels).double().mean() for batch in images]
    return torch.stack(hits).mean().item()


def normalize(images: Float[Tensor, "N 3 S S"]) -> Float[Tensor, "N 3 S S"]:
    """From [0, 1] to [-1, 1], the mean and deviation of 0.5 in the network's configuration."""
    return images * 2 - 1


if __name__ == "__main__":
    auto_cli(pretrain)
