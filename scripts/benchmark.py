"""Speed and memory, as ratios of what is measured beside it in the same run.

    python -m scripts.benchmark

Linearised forward (f0 and J delta together, by `probes.taylor`) against a plain forward at batch
16; the training loop against a bare one (`scripts.benchmark_training`); a step of the tangent
model against an ordinary one, in time and peak memory; peak memory of the probe at one and eight
times the images. Repetitions alternate, so that a drifting machine hits both sides.
"""

import logging
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from core.command_line import run
from core.linearization import Weights, first_order
from core.models import create_model, float_state, insert_before_classifier
from finetuning.noise import dropout
from finetuning.progress import set_training_mode
from finetuning.tangent import TangentModel
from scripts import benchmark_training
from scripts.benchmark_training import TrainingBenchConfig
from scripts.timing import ratio

log = logging.getLogger(__name__)

HIGH_WATER = """
print(int(re.search(r"VmHWM:\\s+(\\d+)", pathlib.Path("/proc/self/status").read_text())[1]) / 1024)
"""  # of this process alone: ru_maxrss begins with that of the parent, even after an exec
PEAK = (
    """
import pathlib, re, sys
from probes.linearity import measure
from probes.linearity_config import LinearityConfig
num = int(sys.argv[2])
options = {"samples": num, "detail_samples": num, "draws": 1, "memory": "250MB", "device": "cpu"}
measure(LinearityConfig(output=sys.argv[1], **options))
"""
    + HIGH_WATER
)
STEP = (
    """
import pathlib, re, sys
from scripts.benchmark import training_step
step = training_step(sys.argv[1], tangent=bool(int(sys.argv[2])))
step(), step()
"""
    + HIGH_WATER
)


@dataclass(frozen=True, kw_only=True)
class BenchConfig:
    """Options of the benchmark."""

    models: tuple[str, ...] = (
        "resnet18",
        "resnet50",
        "vit_tiny_patch16_224",
        "mobilenetv2_100",
    )
    """Networks whose linearised forward is timed."""
    repeats: int = 5
    """Repetitions of each side; the median of the pairwise ratios is printed."""


def linearised(name: str, repeats: int) -> str:
    """Cost of f0 and J delta together in plain forwards."""
    model, x = create_model(name, 1000).eval(), torch.randn(16, 3, 224, 224)
    weights = float_state(model)
    delta = {n: 0.01 * torch.randn_like(w) for n, w in weights.items()}

    def function(w: Weights) -> torch.Tensor:
        return functional_call(model, w, (x,))

    def plain() -> torch.Tensor:
        with torch.no_grad():
            return model(x)

    return ratio(lambda: first_order(function, weights, delta), plain, repeats)


def training_step(name: str, *, tangent: bool) -> Callable[[], None]:
    """A step of SGD on 16 images with dropout 0.9, of a network or of its tangent model."""
    model = create_model(name, 7).train()
    set_training_mode(model, freeze_bn=True)
    insert_before_classifier(model, dropout(0.9))
    x, y = torch.randn(16, 3, 224, 224), torch.arange(16) % 7
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9)
    forward = TangentModel(model) if tangent else model

    def step() -> None:
        optimizer.zero_grad()
        cross_entropy(forward(x), y).backward()
        optimizer.step()

    return step


def step_memory(name: str, *, tangent: bool) -> float:
    """Peak resident memory of a process that takes two such steps, in megabytes."""
    command = [sys.executable, "-c", STEP, name, str(int(tangent))]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def peak_megabytes(samples: int) -> float:
    """Peak resident memory of a probe process that looks at so many images an environment."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-c", PEAK, str(Path(folder) / "record"), str(samples)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def bench(config: BenchConfig) -> None:
    """Measure everything and print it."""
    torch.manual_seed(0)
    benchmark_training.bench(TrainingBenchConfig(device="cpu", repeats=config.repeats))
    for name in config.models:
        cost = linearised(name, config.repeats)
        print(f"linearised / plain forward, {name}: {cost}", flush=True)
        ours, other = (training_step(name, tangent=tangent) for tangent in (True, False))
        cost = ratio(ours, other, config.repeats)
        memory = step_memory(name, tangent=True) / step_memory(name, tangent=False)
        print(f"tangent / ordinary step, {name}: {cost}, memory {memory:.2f}", flush=True)
    small, large = peak_megabytes(8), peak_megabytes(64)
    print(f"peak memory of the probe, 8 and 64 images: {small:.0f} MB, {large:.0f} MB", flush=True)


if __name__ == "__main__":
    run(bench, BenchConfig)
