"""What an ordinary run and its linear counterparts decide on the same images.

Shapes: N images of an environment, M of a batch, C classes.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import Any

import numpy as np
from jaxtyping import Float
from torch import Tensor

from core.errors import InputError
from probes.linearity_bench import Bench
from probes.pairs import Pair
from probes.partial import PartialResults
from probes.run_kernel import RunKernel
from probes.sources import Indices, Source
from probes.training_space import (
    METHODS,
    ORDINARY,
    Decisions,
    Function,
    network_at,
    tangent_at,
)
from probes.twin_files import LinearTwin, read_linear_twin, read_tangent_twin, read_weights
from probes.twins import Twins

LABELS = "labels"  # stand beside the decisions of the methods


class Counterparts:
    """A run, its twins, and the regression with the kernel at its start; all files are checked.

    Attributes:
        pair: The run.
    """

    def __init__(
        self, bench: Bench, pair: Pair, source: Source, twins: Twins, results: PartialResults
    ) -> None:
        self.bench, self.pair, self.results = bench, pair, results
        self.files: dict[str, str] = {}
        self.weights0, self.sha0 = read_weights(bench.model, source.path / "init.safetensors")
        self.tangent, self.linear, self.kernel = None, None, None
        if twins.tangent is not None:
            self.tangent, sha = read_tangent_twin(
                twins.tangent, source, self.weights0, bench.model, bench.config.weights
            )
            self.files |= {"tangent": str(twins.tangent), "tangent_sha256": sha}
        if twins.linear is not None:
            self.linear = read_linear_twin(twins.linear, source, bench.comparison.domains)
            self.files |= {"linear": str(twins.linear), "linear_sha256": self.linear.sha256}
        if bench.config.kernel_train:
            self.kernel = RunKernel(bench, source, self.weights0, self.sha0, results)

    @property
    def facts(self) -> dict[str, Any]:
        """Which files the counterparts are, and how the kernel was fitted."""
        return self.files | ({} if self.kernel is None else {"kernel": self.kernel.facts})

    def decisions(self) -> dict[str, Decisions]:
        """The class that each method chooses for the images, and the labels, by environment.

        Raises:
            InputError: If the logits of a method are not finite, or see `RunKernel`.
        """
        functions = cache(self._functions)  # on the device until all environments are done
        found = {}
        for env, images in self.pair.images.items():
            few = images[: self.bench.config.samples]
            compute = partial(self._computed, env, few, functions)
            chosen = self.results.load_or_compute(self._identity(env, few), compute)
            chosen = chosen | _chosen_by(self.linear, env, few)
            # Files do not keep the order.
            found[env] = {name: chosen[name] for name in (*METHODS, LABELS) if name in chosen}
        return found

    def _computed(
        self, env: str, images: Indices, functions: Callable[[], Mapping[str, Function]]
    ) -> Decisions:
        chosen: dict[str, list[np.ndarray]] = defaultdict(list)
        for x, labels in self.bench.loader(self.bench.comparison.domains, env, images):
            x = x.to(self.bench.device, self.bench.dtype)
            for method, function in functions().items():
                chosen[method].append(self._chosen(method, function(x), env))
            chosen[LABELS].append(labels.numpy())
        return {name: np.concatenate(parts) for name, parts in chosen.items()}

    def _chosen(self, method: str, logits: Float[Tensor, "M C"], env: str) -> np.ndarray:
        if not logits.isfinite().all():
            raise InputError(
                f"the logits of the {method} counterpart of run '{self.pair.run}' are NaN or "
                f"infinite on images of '{env}'; finite numbers were expected: leave the "
                "comparison out with --twins none, or give --dtype float64"
            )
        return logits.argmax(1).cpu().numpy()

    def _functions(self) -> dict[str, Function]:
        """What is to be evaluated on images, from images to logits."""
        model, on_device = self.bench.model, partial(self.bench.to_device, dtype=self.bench.dtype)
        functions = {ORDINARY: network_at(model, on_device(self.pair.weights1))}
        if self.tangent is not None:
            weights0, trained = on_device(self.weights0), on_device(self.tangent)
            functions["tangent"] = tangent_at(model, weights0, trained)
            functions["transplanted"] = network_at(model, trained)
        if self.kernel is not None:
            functions["kernel"] = self.kernel.function()
        return functions

    def _identity(self, env: str, images: Indices) -> dict[str, object]:
        """Everything that the decisions depend on."""
        return {
            "part": "training space",
            "env": env,
            "images": images.tolist(),
            "checkpoints": [self.pair.facts["sha256"], self.sha0],
            "tangent": self.files.get("tangent_sha256"),
            "kernel": None if self.kernel is None else self.kernel.identity,
            **self.bench.identity(),
        }


def _chosen_by(linear: LinearTwin | None, env: str, images: Indices) -> Decisions:
    """The decisions of the linear model, which has made them for all images."""
    if linear is None:
        return {}
    return {
        f"linear_model_{iteration}": logits[env][images].argmax(1).numpy()
        for iteration, logits in linear.logits.items()
    }
