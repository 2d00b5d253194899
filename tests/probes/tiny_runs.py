"""A run on two environments of the digits, its twins, and the probe of it."""

from pathlib import Path
from typing import Any, NamedTuple

from finetuning.config import TrainConfig
from finetuning.linear.__main__ import fit_linear
from finetuning.linear.config import LinearConfig
from finetuning.train import train
from probes.linearity_config import LinearityConfig

SHARED: dict[str, Any] = {"envs": ("ink", "rotated"), "drop_rate": 0.5, "steps": 12}
SHARED |= {"eval_every": 12, "device": "cpu"}
PROBE: dict[str, Any] = {"samples": 20, "detail_samples": 2, "draws": 1, "alphas": (1.0,)}
PROBE |= {"kernel_samples": 0, "kernel_train": 6, "device": "cpu"}


class Runs(NamedTuple):
    """Folders beside each other."""

    ordinary: Path
    tangent: Path
    linear: Path


def make_runs(folder: Path) -> Runs:
    """An ordinary run and both of its twins."""
    ordinary, tangent = (
        train(
            TrainConfig(output=str(folder / name), batch_size=8, tangent=name != "run", **SHARED)
        )
        for name in ("run", "run-tangent")
    )
    linear = fit_linear(
        LinearConfig(
            output=str(folder / "run-linear"),
            cache=str(folder / "cache"),
            layers=("layer4.1", "layer4.2"),
            **SHARED,
        )
    )
    return Runs(ordinary, tangent, linear)


def linearity_config(runs: Runs, output: Path, **options: object) -> LinearityConfig:
    """A probe of few images."""
    chosen = {"finetuned": (str(runs.ordinary),), "output": str(output)} | PROBE | options
    return LinearityConfig(**chosen)  # type: ignore[arg-type]
