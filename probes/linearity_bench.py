"""The stages of the linearity probe: images through the network, sums out.

Shapes: N images of an environment.
"""

import copy

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from core.command_line import parse_bytes
from core.device import select_device
from core.domains import Domains
from core.errors import InputError
from core.linearization import Weights
from core.loaders import InOrder, image_loader
from core.models import residual_blocks, weight_groups
from core.records import provenance
from probes.linearity_config import LinearityConfig
from probes.memory import batch_size
from probes.pairs import Comparison, Pair
from probes.partial import PartialResults
from probes.sums import FEATURES, Key, Sums, block_sums, curvature_sums, null_sums, path_sums

LARGEST_BATCH = 64
CHECKED_IN_FLOAT64 = 8  # images; enough to see cancellation, cheap on any network
Measured = dict[Key, np.ndarray]


class Bench:
    """The network on its device, and the parts of the measurement that it goes through."""

    def __init__(self, config: LinearityConfig, comparison: Comparison) -> None:
        self.config, self.comparison = config, comparison
        self.device, self.dtype = probe_device(config.device), getattr(torch, config.dtype)
        self.model = comparison.model.to(self.device, self.dtype)
        self.blocks = residual_blocks(self.model)
        self.parts = {"path": config.samples, "detail": config.detail_samples}
        one = torch.zeros(1, *comparison.data_config["input_size"]).to(self.device, self.dtype)
        budget = parse_bytes(config.memory)
        self.batch_size = batch_size(self.model, one, budget, LARGEST_BATCH)
        few = min(CHECKED_IN_FLOAT64, self.batch_size)
        widening = torch.float64.itemsize // self.dtype.itemsize
        self.num_checked = batch_size(self.model, one, budget, few, widening=widening)

    def measured(self, pair: Pair, env: str, part: str, partial: PartialResults) -> Measured:
        """Sums of one part in one environment, computed now or by an earlier process."""
        found = partial.load_or_compute(
            self._identity(pair, env, part), lambda: self._compute(pair, env, part)
        )
        return {_parse_key(name): found[name] for name in sorted(found)}

    def float64_gap(self, pair: Pair) -> dict[str, float | int]:
        """How far R2 of the features moves when a few images are computed in float64."""
        env = next(iter(pair.images))
        images = pair.images[env][: self.num_checked]
        values = [
            self._explained_displacement(pair, env, images, dtype)
            for dtype in (self.dtype, torch.float64)
        ]
        return {"value": abs(values[0] - values[1]), "num_examples": len(images)}

    def _explained_displacement(
        self, pair: Pair, env: str, images: np.ndarray, dtype: torch.dtype
    ) -> float:
        model = copy.deepcopy(self.model).to(dtype)
        weights0, weights1 = (self.to_device(w, dtype) for w in (pair.weights0, pair.weights1))
        x, y = next(iter(self.loader(self.comparison.domains, env, images)))
        x, y = x.to(self.device, dtype), y.to(self.device)
        sums = path_sums(model, weights0, weights1, x, y, alphas=(), blocks=())
        numerator, denominator = sums[Key("explained_displacement", FEATURES, 1.0)]
        return 1 - float(numerator.sum() / denominator.sum())

    def _compute(self, pair: Pair, env: str, part: str) -> dict[str, np.ndarray]:
        images = pair.images[env][: self.parts[part]]
        weights0, weights1 = (
            self.to_device(w, self.dtype) for w in (pair.weights0, pair.weights1)
        )
        measure_batch = {"path": self._path, "detail": self._detail}[part]
        batches = []
        for x, y in self.loader(self.comparison.domains, env, images):
            x, y = x.to(self.device, self.dtype), y.to(self.device)
            sums = measure_batch(weights0, weights1, x, y)
            batches.append({k: torch.stack(both).cpu().numpy() for k, both in sums.items()})
        return {  # numbered, since a file does not keep the order of the blocks
            "|".join([f"{i:04d}", *map(str, key)]): np.concatenate([b[key] for b in batches], 1)
            for i, key in enumerate(batches[0])
        }

    def _path(self, weights0: Weights, weights1: Weights, x: Tensor, y: Tensor) -> Sums:
        options = {"alphas": self.config.alphas, "blocks": self.blocks}
        return path_sums(self.model, weights0, weights1, x, y, **options)

    def _detail(self, weights0: Weights, weights1: Weights, x: Tensor, _: Tensor) -> Sums:
        ends = (weights0, weights1)
        nulls = {"num_draws": self.config.draws, "seed": self.config.seed}
        return {
            **curvature_sums(self.model, *ends, x),
            **block_sums(self.model, *ends, x, weight_groups(self.model)),
            **null_sums(self.model, *ends, x, **nulls),
        }

    def loader(self, domains: Domains, env: str, images: np.ndarray) -> DataLoader:
        """Some images of an environment and their labels, batch by batch, in order."""
        comparison = self.comparison
        index = list(domains.environments).index(env)
        return image_loader(
            domains,
            InOrder(index, images, self.batch_size),
            comparison.transform,
            comparison.data_config,
            training=False,
            workers=self.config.workers,
        )

    def to_device(self, weights: Weights, dtype: torch.dtype) -> Weights:
        """The weights where the network is."""
        return {name: tensor.to(self.device, dtype) for name, tensor in weights.items()}

    def _identity(self, pair: Pair, env: str, part: str) -> dict[str, object]:
        """Everything that a part's numbers depend on."""
        return {
            "part": part,
            "env": env,
            "images": pair.images[env][: self.parts[part]].tolist(),
            "head": pair.facts["head"],
            "checkpoints": [pair.facts["pretrained_sha256"], pair.facts["sha256"]],
            **{name: getattr(self.config, name) for name in ("alphas", "draws")},
            **self.identity(),
        }

    def identity(self) -> dict[str, object]:
        """Everything that all parts' numbers depend on."""
        comparison, options = self.comparison, ("seed", "dtype", "device")
        return {
            "data": comparison.domains.fingerprint,
            "data_config": comparison.data_config,
            "model": [comparison.model_name, comparison.model_kwargs],
            "transform": comparison.transform,
            "versions": provenance()["versions"],
            "batch_size": self.batch_size,
            **{name: getattr(self.config, name) for name in options},
        }


def probe_device(name: str) -> torch.device:
    """The device to probe on, which must know float64.

    Raises:
        InputError: If Apple's MPS is asked for; `auto` takes the CPU there.
    """
    device = select_device(name)
    if device.type != "mps":
        return device
    if name == "auto":
        return torch.device("cpu")
    raise InputError("--device mps has no float64, which the sums need; choose cpu")


def _parse_key(name: str) -> Key:
    _, metric, layer, at = name.split("|")
    return Key(metric, layer, None if at == "None" else float(at))
