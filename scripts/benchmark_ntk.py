"""Speed and memory of the exact tangent kernel beside PyTorch's own ways to it and other packages.

    scripts/bench ntk
    scripts/bench ntk --workloads cnn --reductions full --examples 8 --repeats 1
    scripts/bench ntk --workloads large --reductions trace --rivals [] --device cuda --memory 60GB

Every measurement is a process of its own, and the methods alternate, so that a drifting machine
hits all of them. `contraction` is the Jacobian contraction of PyTorch's tutorial on neural tangent
kernels, with both Jacobians computed, in blocks of examples where they would not fit in memory;
`products` is the tutorial's method of NTK-vector products, on the tutorial's own network; it is
timed on two rows of the kernel, and the time is that of all rows at the same pace. Packages that
are installed take part (scripts/ntk_peers.py). Every kernel is compared with the structured one:
a rival is timed only if they are equal, otherwise its line says what was wrong.

The floor is the arithmetic that no method here avoids, one forward pass, one backward pass for
gradients of activations per output, and the cheapest contraction of every weight, at the rate of
a large matrix product on the same machine, in single precision throughout. Memory is the peak
above what the process held before the call, or of the GPU.
"""

import json
import resource
import statistics
import subprocess
import sys
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
import timm
import torch
from torch import Tensor, nn

from core.command_line import parse_bytes, run
from core.device import full_precision, select_device
from core.errors import InputError
from probes.ntk import empirical_ntk
from scripts.ntk_floor import floor
from scripts.ntk_peers import PEERS, Call, installed, kernel_by
from scripts.ntk_tutorial import PAIRED, contraction, products
from scripts.timing import timed

EQUAL = 1e-4  # largest relative difference of kernels in single precision, in Frobenius norm


class Workload(NamedTuple):
    """A network, the side of its images, their number, and how many the tutorial can hold."""

    model: str
    side: int
    num: int
    num_outputs: int
    at_once: int


WORKLOADS = {
    "cnn": Workload("cnn", 32, 64, 10, 64),
    "resnet18": Workload("resnet18", 64, 32, 7, 8),
    "resnet50": Workload("resnet50", 112, 16, 7, 4),
    "vit_tiny": Workload("vit_tiny_patch16_224", 224, 16, 7, 16),
    "mobilenetv2": Workload("mobilenetv2_100", 128, 32, 7, 16),
    "large": Workload("resnet50", 224, 1000, 7, 8),
}
TUTORIAL = ("contraction", "products")


@dataclass(frozen=True, kw_only=True)
class NTKBenchConfig:
    """Options of the benchmark."""

    workloads: tuple[str, ...] = ("cnn", "resnet18", "resnet50", "vit_tiny", "mobilenetv2")
    """Which of these; `large`, a thousand images of 224 pixels, is for a GPU."""
    reductions: tuple[str, ...] = ("full", "trace")
    """Which kernels."""
    repeats: int = 3
    """Alternating repetitions; ratios are of medians."""
    memory: str = "2GB"
    """Budget of the structured method."""
    rivals: tuple[str, ...] = (*TUTORIAL, *PEERS)
    """Which other methods; packages take part if they are installed."""
    device: str = "cpu"
    """Where all of them compute."""
    examples: int | None = None
    """Examples in place of the workload's own number."""
    patience: int = 1800
    """Seconds after which a package is given up."""
    most: str = "16GB"
    """Memory that a package may take."""


class TutorialCNN(nn.Sequential):
    """The network of the tutorial."""

    def __init__(self) -> None:
        convolutions = [nn.Conv2d(3, 32, 3), nn.ReLU(), nn.Conv2d(32, 32, 3), nn.ReLU()]
        super().__init__(*convolutions, nn.Conv2d(32, 32, 3), nn.Flatten(), nn.Linear(21632, 10))


class Measured(NamedTuple):
    """Seconds, megabytes and the kernel; or why there are none."""

    seconds: float = 0.0
    megabytes: float = 0.0
    kernel: np.ndarray = np.zeros(0)
    failure: str = ""


def build(workload: Workload, device: torch.device) -> tuple[nn.Module, dict[str, Tensor], Tensor]:
    """The network, its weights and random images."""
    torch.manual_seed(0)
    name, classes = workload.model, workload.num_outputs
    model = TutorialCNN() if name == "cnn" else timm.create_model(name, num_classes=classes)
    model.eval().to(device)
    params = {name: p.detach() for name, p in model.named_parameters()}
    x = torch.randn(workload.num, 3, workload.side, workload.side)
    return model, params, x.to(device)


def method_call(method: str, workload: Workload, options: dict) -> Call:
    """What is timed; a package is stopped where it would fill the machine."""
    model, params, x = build(workload, torch.device(options["device"]))
    reduction = options["reduction"]
    if method == "structured":
        memory = options["memory"]
        return lambda: empirical_ntk(model, params, x, outputs=reduction, memory=memory)  # type: ignore
    if method in PEERS:
        resource.setrlimit(resource.RLIMIT_DATA, (options["most"], resource.RLIM_INFINITY))
        return kernel_by(method, model, x, reduction, workload.at_once)
    if method == "contraction":
        return contraction(model, params, x, reduction, workload.at_once)
    return products(model, params, x, reduction, workload.num_outputs)


@full_precision()
def measure_here(target: str, method: str, name: str, num: int, options: dict) -> None:
    """Seconds and megabytes of one method, in a process of its own; the kernel to a file."""
    workload, device = WORKLOADS[name]._replace(num=num), torch.device(options["device"])
    if method == "floor":
        print(json.dumps([floor(*build(workload, device), options["reduction"]), 0]))
        return
    kernel, duration, megabytes = with_peak(method_call(method, workload, options), device)
    duration *= num / PAIRED if method == "products" else 1
    np.save(target, kernel.detach().double().cpu().numpy())
    print(json.dumps([duration, megabytes]))


def with_peak(call: Call, device: torch.device) -> tuple[Tensor, float, float]:
    """The result, seconds, and megabytes of the peak above what was held before."""
    if device.type == "cuda":
        before = torch.cuda.memory_allocated()
        kernel, duration = timed(call, device)
        return kernel, duration, (torch.cuda.max_memory_allocated() - before) / 2**20
    # Linux restarts the peak (VmHWM) at the memory held now (VmRSS).
    Path("/proc/self/clear_refs").write_text("5")
    before = _status("VmRSS")
    kernel, duration = timed(call, device)
    return kernel, duration, _status("VmHWM") - before


def _status(key: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(key))


def in_a_process(method: str, name: str, reduction: str, config: NTKBenchConfig) -> Measured:
    """One measurement; a package that fails, or takes too long, is reported."""
    code = (
        "import json, sys; from scripts.benchmark_ntk import measure_here; "
        "measure_here(*json.loads(sys.argv[1]))"
    )
    options = {"reduction": reduction, "memory": config.memory, "most": parse_bytes(config.most)}
    options["device"] = str(select_device(config.device))
    num = config.examples or WORKLOADS[name].num
    with TemporaryDirectory() as folder:
        target = Path(folder) / "kernel.npy"
        argument = json.dumps([str(target), method, name, num, options])
        command = [sys.executable, "-W", "ignore", "-c", code, argument]
        patience = config.patience if method in PEERS else None
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=patience)
        except subprocess.TimeoutExpired:
            return Measured(failure=f"more than {patience} s")
        if done.returncode and method in PEERS:
            return Measured(failure=_reason(done.stderr, done.returncode))
        if done.returncode:
            raise RuntimeError(f"{method} on {name} failed:\n{done.stderr}")
        seconds, megabytes = json.loads(done.stdout.splitlines()[-1])
        kernel = np.load(target) if target.exists() else np.zeros(0)
        return Measured(seconds, megabytes, kernel)


def _reason(stderr: str, code: int) -> str:
    """The error at the end of a traceback."""
    lines = stderr.splitlines()
    begins = [i for i, line in enumerate(lines) if line.startswith("Traceback")]
    if code < 0 or not begins:
        return f"ended with status {code}"
    errors = [line for line in lines[begins[-1] + 1 :] if line and not line.startswith(" ")]
    return errors[0][:120]


def compared(found: Measured, truth: Measured) -> Measured:
    """The measurement itself if its rows of the kernel are right."""
    if found.failure or not found.kernel.size:
        return found
    known = truth.kernel[: len(found.kernel)]
    if found.kernel.shape != known.shape:
        return Measured(failure=f"wrong: a kernel of shape {found.kernel.shape}")
    apart = np.linalg.norm(found.kernel - known) / np.linalg.norm(known)
    # Not the other way round, since NaN is wrong as well.
    return found if apart < EQUAL else Measured(failure=f"wrong by {apart:.1g} of the kernel")


def bench(config: NTKBenchConfig) -> None:
    """Measure everything and print one row after another.

    Raises:
        InputError: If there is no such workload or rival.
    """
    _check_known(config.workloads, WORKLOADS, "workload")
    _check_known(config.rivals, (*TUTORIAL, *PEERS), "rival")
    for name in config.workloads:
        for reduction in config.reductions:
            _bench_row(name, reduction, config)


def _check_known(names: Iterable[str], known: Collection[str], what: str) -> None:
    for name in names:
        if name not in known:
            raise InputError(f"there is no {what} '{name}'; expected some of {', '.join(known)}")


def _bench_row(name: str, reduction: str, config: NTKBenchConfig) -> None:
    possible = {"contraction", *(["products"] if name == "cnn" else []), *installed()}
    rivals = [rival for rival in config.rivals if rival in possible]
    found: dict[str, list[Measured]] = {m: [] for m in ["structured", "floor", *rivals]}
    failures: dict[str, str] = {}
    for _ in range(config.repeats):
        for method, results in found.items():
            if method in failures:
                continue
            measured = in_a_process(method, name, reduction, config)
            results.append(compared(measured, (found["structured"] or [measured])[0]))
            if results[-1].failure:
                failures[method] = results[-1].failure
    _print_row(f"{name}, {reduction}", found, failures)


def _print_row(title: str, found: dict[str, list[Measured]], failures: dict[str, str]) -> None:
    times = {m: statistics.median(r.seconds for r in f) for m, f in found.items()}
    peak = {m: statistics.median(r.megabytes for r in f) for m, f in found.items()}
    ours, memory = times["structured"], peak["structured"]
    share = times["floor"] / ours
    print(f"{title}: structured {ours:.2f} s, {memory:.0f} MB, {share:.0%} of it the floor")
    for method in found:
        if method in failures:
            print(f"    {method:16} {failures[method]}")
        elif method not in ("structured", "floor"):
            longer, larger = times[method] / ours, peak[method] / memory
            print(f"    {method:16} {longer:.1f} x the time, {larger:.1f} x the memory")
    sys.stdout.flush()


if __name__ == "__main__":
    run(bench, NTKBenchConfig)
