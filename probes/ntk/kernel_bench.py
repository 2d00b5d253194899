"""The kernels of a run at both ends, along its path and after random moves.

Shapes: N examples of a split.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from analysis.intervals import Row
from core.checkpoints import load_checkpoint
from core.errors import InputError
from core.linearization import Weights
from core.loaders import InOrder, image_loader
from core.models import classifier_name, float_state
from core.records import provenance
from probes import kernel_space as ks
from probes.linearity_bench import probe_device
from probes.ntk.config import NtkConfig
from probes.ntk.exact import empirical_ntk
from probes.ntk.examples import text_digest, weights_digest
from probes.ntk.ledger import mapped
from probes.ntk.stored import stored_ntk
from probes.nulls import random_displacement
from probes.pairs import OWN_HEAD, Comparison, Pair
from probes.partial import PartialResults

CHECKED_IN_FLOAT64 = 4  # images; enough to see rounding, cheap on any network
WHOLE = ""  # name of the only block of a kernel that is not divided
Blocks = Mapping[str, np.ndarray]
Kernel = TypeVar("Kernel")


@dataclass(frozen=True)
class Examples:
    """Images of some environments, ordered by class and then by environment.

    Attributes:
        x: The images.
        labels: Their classes.
        envs: The environment of each, as its position among those of the data set.
        images: The index of each in its environment.
    """

    x: Float[Tensor, "N ..."]
    labels: Int64[np.ndarray, " N"]
    envs: Int64[np.ndarray, " N"]
    images: Int64[np.ndarray, " N"]


@dataclass(frozen=True)
class Kernels:
    """All kernels of one run on the examples of one split.

    Attributes:
        before: At the pretrained weights, by block.
        after: At the fine-tuned weights, by block.
        nulls: After random moves of the same size, by block.
        path: Steps and kernels of the checkpoints along the run, the ends among them.
    """

    before: Blocks
    after: Blocks
    nulls: Sequence[Blocks]
    path: Sequence[tuple[int, np.ndarray]]


class KernelBench:
    """The network on its device, and the kernels that are computed with it."""

    def __init__(self, config: NtkConfig, comparison: Comparison, partial: PartialResults) -> None:
        self.config, self.comparison, self.partial = config, comparison, partial
        self.device, self.dtype = probe_device(config.device), getattr(torch, config.dtype)
        self.model = comparison.model.to(self.device)
        self.head = classifier_name(self.model) + "."
        self.env_names = list(comparison.domains.environments)

    def examples(self, pair: Pair, envs: Sequence[str]) -> Examples:
        """The images of some environments."""
        x, labels, places, images = [], [], [], []
        for env in envs:
            chosen = pair.images[env][: self.config.samples]
            for batch, y in self._loader(env, chosen):
                x.append(batch)
                labels.append(y.numpy())
            places.append(np.full(len(chosen), self.env_names.index(env)))
            images.append(chosen)
        y, place, image = (np.concatenate(part) for part in (labels, places, images))
        order = np.lexsort((place, y))
        return Examples(torch.cat(x)[order], y[order], place[order], image[order])

    def kernels(self, pair: Pair, examples: Examples) -> Kernels:
        """The kernels of a run, computed now or by an earlier process."""
        before, after = self.ends(pair)
        path = [
            (step, self._kernel(pair, weights, examples)[WHOLE])
            for step, weights in self._between(pair)
        ]
        blocks = [
            self._kernel(pair, weights, examples, blocks=True) for weights in (before, after)
        ]
        if path:
            path.insert(0, (0, total(blocks[0])))
            if path[-1][0] < pair.facts["steps"]:
                path.append((pair.facts["steps"], total(blocks[1])))
        nulls = [
            self._kernel(pair, self._moved(before, after, i), examples, blocks=True)
            for i in range(self.config.draws)
        ]
        return Kernels(blocks[0], blocks[1], nulls, path)

    def ends(self, pair: Pair) -> tuple[Weights, Weights]:
        """Weights before and after, with the classifier that was asked for."""
        return self._with_head(pair, pair.weights0), pair.weights1

    def float64_gap(self, pair: Pair, examples: Examples) -> Row:
        """How far the kernel distance of a few images moves when computed in float64."""
        x = examples.x[:: -(-len(examples.x) // CHECKED_IN_FLOAT64)]
        kernels = (
            [self._computed(empirical_ntk, pair, w, x, dtype=dtype) for w in self.ends(pair)]
            for dtype in (self.dtype, torch.float64)
        )
        distances = [ks.kernel_distance(*(k.cpu().numpy() for k in both)) for both in kernels]  # type: ignore[union-attr]
        return {"value": abs(distances[0] - distances[1]), "num_examples": len(x)}

    def _kernel(
        self, pair: Pair, weights: Weights, examples: Examples, *, blocks: bool = False
    ) -> dict[str, np.ndarray]:
        """A kernel by block, in the order of the network; computed, continued or found.

        Runs that began with the same weights share the kernel there.
        """
        name = text_digest(self._identity(weights, examples, blocks=blocks))[:24]
        path = self.partial.folder / f"{name}.npy"
        if not path.exists():
            options = {"output": path, "blocks": blocks, "dtype": self.dtype, "progress": True}
            options |= {"jobs": self.config.jobs, "disk": self.config.disk}
            self._computed(stored_ntk, pair, weights, examples.x, **options)
        kernel = mapped(path)
        names = kernel.dtype.names
        return {n: np.array(kernel[n]) for n in names} if names else {WHOLE: np.array(kernel)}

    def _computed(
        self,
        compute: Callable[..., Kernel],
        pair: Pair,
        weights: Weights,
        x: Tensor,
        **options: object,
    ) -> Kernel:
        try:
            return compute(
                self.model,
                {name: tensor.to(self.device) for name, tensor in weights.items()},
                x,
                outputs="trace",
                layer=self.config.layer,
                memory=self.config.memory,
                **options,
            )
        except InputError as error:
            raise InputError(f"run '{pair.run}': {error}") from error

    def _with_head(self, pair: Pair, weights: Weights) -> Weights:
        if self.config.head == "own":
            return weights
        head = {n: w for n, w in pair.weights1.items() if n.startswith(self.head)}
        return {**weights, **head}

    def _moved(self, before: Weights, after: Weights, draw: int) -> Weights:
        """A random move of the same size, weight by weight."""
        generator = torch.Generator().manual_seed(self.config.seed + draw)
        parameters = dict(self.model.named_parameters())
        delta = {name: after[name] - before[name] for name in before}
        move = random_displacement(delta, parameters, generator)
        return {name: before[name] + move[name] for name in before}

    def _between(self, pair: Pair) -> Iterator[tuple[int, Weights]]:
        """Step and weights of the checkpoints that a run folder kept along the way."""
        final, most = Path(pair.facts["checkpoint"]), self.config.checkpoints
        from_init = pair.facts["steps"] and pair.facts["head"] == OWN_HEAD
        if not from_init or final.name != "final.safetensors":
            return  # the path has to begin and end where the run did
        files = sorted(final.parent.glob("step_[0-9]*.safetensors"))
        for i in _evenly(len(files), most):
            load_checkpoint(self.model, files[i])
            weights = {n: w.clone() for n, w in float_state(self.model).items()}
            yield int(files[i].stem.removeprefix("step_")), self._with_head(pair, weights)

    def _loader(self, env: str, images: np.ndarray) -> torch.utils.data.DataLoader:
        comparison = self.comparison
        return image_loader(
            comparison.domains,
            InOrder(self.env_names.index(env), images, self.config.samples),
            comparison.transform,
            comparison.data_config,
            training=False,
            workers=self.config.workers,
        )

    def _identity(
        self, weights: Weights, examples: Examples, *, blocks: bool
    ) -> dict[str, object]:
        """Everything that a kernel depends on."""
        config, comparison = self.config, self.comparison
        options = ("layer", "memory", "dtype", "device")
        return {
            "weights": weights_digest(weights),
            "blocks": blocks,
            "envs": examples.envs.tolist(),
            "images": examples.images.tolist(),
            "data": comparison.domains.fingerprint,
            "data_config": comparison.data_config,
            "model": [comparison.model_name, comparison.model_kwargs],
            "transform": comparison.transform,
            "versions": provenance()["versions"],
            **{name: getattr(config, name) for name in options},
        }


def _evenly(num: int, most: int) -> list[int]:
    """At most `most` of `num` positions, evenly spaced, the last one included.

    Example:
        >>> _evenly(10, 3), _evenly(2, 3)
        ([2, 6, 9], [0, 1])
    """
    return [round((i + 1) * num / min(num, most)) - 1 for i in range(min(num, most))]


def total(blocks: Blocks) -> np.ndarray:
    """The whole kernel from its blocks."""
    return np.sum(list(blocks.values()), axis=0)
