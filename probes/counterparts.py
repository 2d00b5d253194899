"""What an ordinary run and its linear counterparts decide on the same images.

Shapes: N images of an environment, M of a batch, C classes.
"""

from collections import defaultdict
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Float, Int64
from torch import Tensor

from core.errors import InputError
from probes.kernel_prediction import Function
from probes.linearity_bench import Bench
from probes.pairs import Pair
from probes.partial import PartialResults
from probes.run_kernel import RunKernel
from probes.sources import Indices, Source
from probes.training_space import ORDINARY, network_logits, tangent_logits
from probes.twin_files import LinearTwin, read_linear_twin, read_tangent_twin, read_weights
from probes.twins import Twins

LABELS = "labels"
Decisions = dict[str, Int64[np.ndarray, " N"]]  # by method; the labels beside them


class Counterparts:
    """A run, its twins, and the regression with the kernel at its start.

    Attributes:
        pair: The run.
        facts: Which files the counterparts are, and how the kernel was fitted.
    """

    def __init__(
        self, bench: Bench, pair: Pair, source: Source, twins: Twins, partial: PartialResults
    ) -> None:
        self.bench, self.pair, self.partial = bench, pair, partial
        self.facts: dict[str, Any] = {}
        weights0, self.sha0 = read_weights(bench.model, source.path / "init.safetensors")
        self.weights0 = bench.to_device(weights0, bench.dtype)
        self.weights1 = bench.to_device(pair.weights1, bench.dtype)
        self.tangent, self.linear, self.kernel = None, None, None
        if twins.tangent is not None:
            self.tangent, sha = read_tangent_twin(
                twins.tangent, weights0, bench.model, bench.config.weights
            )
            self.facts |= {"tangent": str(twins.tangent), "tangent_sha256": sha}
        if twins.linear is not None:
            self.linear = read_linear_twin(twins.linear, bench.comparison.domains)
            self.facts |= {"linear": str(twins.linear), "linear_sha256": self.linear.sha256}
        if bench.config.kernel_train:
            self.kernel = RunKernel(bench, source, self.weights0, self.sha0, partial)
            self.facts["kernel"] = self.kernel.facts

    def decisions(self, env: str) -> Decisions:
        """The class that each method chooses for the images of an environment, and the labels."""
        images = self.pair.images[env][: self.bench.config.samples]
        found = self.partial.load_or_compute(
            self._identity(env, images), lambda: self._computed(env, images)
        )
        return found | _chosen_by(self.linear, env, images)

    def _computed(self, env: str, images: Indices) -> Decisions:
        chosen: dict[str, list[np.ndarray]] = defaultdict(list)
        for x, labels in self.bench.loader(self.bench.comparison.domains, env, images):
            x = x.to(self.bench.device, self.bench.dtype)
            for method, logits in self._logits(x).items():
                if not logits.isfinite().all():
                    raise InputError(
                        f"the logits of the {method} counterpart of run '{self.pair.run}' are NaN "
                        f"or infinite on images of '{env}'; finite numbers were expected: leave "
                        "the comparison out with --twins none, or give --dtype float64"
                    )
                chosen[method].append(logits.argmax(1).cpu().numpy())
            chosen[LABELS].append(labels.numpy())
        return {name: np.concatenate(parts) for name, parts in chosen.items()}

    def _logits(self, x: Float[Tensor, "M ..."]) -> dict[str, Float[Tensor, "M C"]]:
        model = self.bench.model
        logits = {ORDINARY: network_logits(model, self.weights1, x)}
        if self.tangent is not None:
            logits |= tangent_logits(model, self.weights0, self.tangent, x)
        if self.kernel is not None:
            logits["kernel"] = self._predict_by_kernel(x)
        return logits

    @cached_property
    def _predict_by_kernel(self) -> Function:
        assert self.kernel is not None
        return self.kernel.function()

    def _identity(self, env: str, images: Indices) -> dict[str, object]:
        """Everything that the decisions depend on."""
        return {
            "part": "training space",
            "env": env,
            "images": images.tolist(),
            "checkpoints": [self.pair.facts["sha256"], self.sha0],
            "tangent": self.facts.get("tangent_sha256"),
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
