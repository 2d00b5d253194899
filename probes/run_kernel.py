"""Regression with the tangent kernel at the start of a run, on some of its training images.

Shapes: N images.
"""

import logging
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from core.command_line import parse_bytes
from core.documents import read_json
from core.domains import Domains, load_domains
from core.errors import InputError
from core.linearization import Weights
from probes.kernel_prediction import KernelFit, fit_kernel, predictor
from probes.kernel_regression import RIDGES
from probes.linearity_bench import Bench
from probes.partial import Arrays, PartialResults
from probes.sources import Indices, RunFacts, Source
from probes.training_space import Function

log = logging.getLogger(__name__)


class RunKernel:
    """The kernel at a run's initial weights, its classifier among them.

    Attributes:
        identity: Everything that the regression depends on.
    """

    def __init__(
        self, bench: Bench, source: Source, weights0: Weights, sha0: str, partial: PartialResults
    ) -> None:
        self.bench, self.path, self.partial = bench, source.path, partial
        self.weights0 = bench.to_device(weights0, bench.dtype)
        self.domains, self.images = training_images(
            source, bench.comparison.domains, bench.config.kernel_train, bench.config.seed
        )
        self.identity = {
            "part": "kernel regression",
            "images": {env: chosen.tolist() for env, chosen in self.images.items()},
            "of": self.domains.fingerprint,
            "start": sha0,
            "memory": bench.config.memory,
            **bench.identity(),
        }

    @cached_property
    def fit(self) -> KernelFit:
        """The regression, done now or by an earlier process.

        Raises:
            InputError: If memory or precision do not suffice.
        """
        try:
            fit = _from_arrays(self.partial.load_or_compute(self.identity, self._fitted))
        except InputError as error:
            raise InputError(
                f"kernel regression at the start of '{self.path}': {error}; or leave it out: "
                "--kernel_train 0"
            ) from error
        if fit.ridge in (RIDGES[0], RIDGES[-1]):
            log.warning(
                "kernel regression at the start of '%s': leave-one-out chose the ridge %.2g, at "
                "an end of the grid (%.2g to %.2g); a better one may lie beyond",
                *(self.path, fit.ridge, RIDGES[0], RIDGES[-1]),
            )
        return fit

    @property
    def facts(self) -> dict[str, Any]:
        """What a record keeps of the regression."""
        features = {} if self.fit.kind == "exact" else {"features": len(self.fit.coefficients)}
        return {
            "kind": self.fit.kind,
            **features,
            "images": {env: len(chosen) for env, chosen in self.images.items()},
            "ridge": self.fit.ridge,
            "leave_one_out_error": self.fit.error,
        }

    def function(self) -> Function:
        """From images to logits; see `fit` for what may be raised."""
        x, _ = self._examples()
        return predictor(self.bench.model, self.weights0, x, self.fit, **self._options())

    def _fitted(self) -> Arrays:
        x, labels = self._examples()
        memory = parse_bytes(self.bench.config.memory)
        fit = fit_kernel(
            self.bench.model, self.weights0, x, labels, memory=memory, **self._options()
        )
        return _as_arrays(fit)

    def _options(self) -> dict[str, int]:
        return {"batch_size": self.bench.batch_size, "seed": self.bench.config.seed}

    def _examples(self) -> tuple[Float[Tensor, "N ..."], Int64[Tensor, " N"]]:
        batches = [
            batch
            for env, chosen in self.images.items()
            for batch in self.bench.loader(self.domains, env, chosen)
        ]
        x, labels = (
            torch.cat(parts).to(self.bench.device) for parts in zip(*batches, strict=True)
        )
        return x.to(self.bench.dtype), labels


def training_images(
    source: Source, domains: Domains, num: int, seed: int
) -> tuple[Domains, dict[str, Indices]]:
    """Images that a run was trained on, as many of every training environment as can be.

    Within an environment they are as many of every class as can be, so that the regression has
    another share of the classes than the run had where its images are not balanced.

    Args:
        source: The run folder.
        domains: The images of the probe; the run's own are opened where these lack a training
            environment.
        num: How many, over all environments.
        seed: Another seed, other images.

    Returns:
        Where the images are, and their indices by environment.
    """
    run = source.run_options
    assert run is not None  # only run folders have twins
    envs = read_json(source.path / "run.json", RunFacts)["train_envs"]
    if not domains.environments.keys() >= set(envs):
        skip = run["skip_unreadable"]
        domains = load_domains(run["data"], envs=run["envs"], skip_unreadable=skip)
    chosen = {}
    for i, env in enumerate(envs):
        pool, _ = source.parts(domains, env, "iid")
        share = num // len(envs) + (i < num % len(envs))
        labels = domains.environments[env].labels[pool]
        chosen[env] = pool[balanced(labels, share, np.random.default_rng([seed, i]))]
    return domains, chosen


def balanced(labels: Int64[np.ndarray, " N"], num: int, rng: np.random.Generator) -> Indices:
    """Indices drawn at random, as many of every class as there can be.

    Returns:
        `num` of them, or all where there are fewer.

    Example:
        >>> labels = np.array([0, 0, 0, 0, 1, 2, 2])
        >>> sorted(labels[balanced(labels, 5, np.random.default_rng(0))].tolist())
        [0, 0, 1, 2, 2]
    """
    order = rng.permutation(len(labels))
    of_its_class = pd.Series(order).groupby(labels[order]).cumcount()
    return order[np.argsort(of_its_class, kind="stable")[:num]]


def _as_arrays(fit: KernelFit) -> Arrays:
    return {
        "coefficients": fit.coefficients.cpu().numpy(),
        "ridge": np.array([fit.ridge]),
        "error": np.array([fit.error]),
    }


def _from_arrays(found: Arrays) -> KernelFit:
    coefficients = torch.from_numpy(found["coefficients"])
    return KernelFit(
        kind="exact" if coefficients.ndim == 2 else "sketched",
        coefficients=coefficients,
        ridge=float(found["ridge"][0]),
        error=float(found["error"][0]),
    )
