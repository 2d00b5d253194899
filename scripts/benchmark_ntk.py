"""Speed and memory of the exact tangent kernel beside PyTorch's own ways to it.

    scripts/bench ntk

Every measurement is a process of its own, and the methods alternate, so that a drifting machine
hits all of them. `contraction` is the Jacobian contraction of PyTorch's tutorial on neural tangent
kernels, with both Jacobians computed, in blocks of examples where they would not fit in memory;
`products` is the tutorial's method of NTK-vector products, on the tutorial's own network; it is
timed on two rows of the kernel, and the time is that of all rows at the same pace.

The floor is the arithmetic that no method here avoids, one forward pass, one backward pass for
gradients of activations per output, and the cheapest contraction of every weight, at the rate of
a large matrix product on the same machine.
"""

import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import timm
import torch
from torch import Tensor, nn
from torch.func import functional_call, jacrev, jvp, vjp, vmap
from torch.utils.flop_counter import FlopCounterMode

from core.command_line import run
from probes.ntk import empirical_ntk
from probes.ntk.capture import capture
from probes.ntk.checks import network_of
from probes.ntk.factors import Factor, Outer, contraction_costs

Reduction = Literal["full", "trace"]
PAIRED = 2  # rows of the kernel by products, which cost the same each; minutes for all


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
}


@dataclass(frozen=True, kw_only=True)
class NTKBenchConfig:
    """Options of the benchmark."""

    workloads: tuple[str, ...] = tuple(WORKLOADS)
    """Which of cnn, resnet18, resnet50, vit_tiny and mobilenetv2."""
    reductions: tuple[str, ...] = ("full", "trace")
    """Which kernels."""
    repeats: int = 3
    """Alternating repetitions; ratios are of medians."""
    memory: str = "2GB"
    """Budget of the structured method."""


class TutorialCNN(nn.Sequential):
    """The network of the tutorial."""

    def __init__(self) -> None:
        convolutions = [nn.Conv2d(3, 32, 3), nn.ReLU(), nn.Conv2d(32, 32, 3), nn.ReLU()]
        super().__init__(*convolutions, nn.Conv2d(32, 32, 3), nn.Flatten(), nn.Linear(21632, 10))


def build(workload: Workload) -> tuple[nn.Module, dict[str, Tensor], Tensor]:
    """The network, its weights and random images."""
    torch.manual_seed(0)
    name, classes = workload.model, workload.num_outputs
    model = TutorialCNN() if name == "cnn" else timm.create_model(name, num_classes=classes)
    params = {name: p.detach() for name, p in model.named_parameters()}
    return model.eval(), params, torch.randn(workload.num, 3, workload.side, workload.side)


def contraction(workload: Workload, reduction: Reduction) -> Callable[[], Tensor]:
    """The tutorial's Jacobian contraction."""
    model, params, x = build(workload)
    equation = {"full": "ncp,mdp->ncmd", "trace": "ncp,mcp->nm"}[reduction]

    def jacobian(part: Tensor) -> list[Tensor]:
        one = lambda params, x: functional_call(model, params, (x[None],))[0]
        found = vmap(jacrev(one), (None, 0))(params, part)
        return [rows.flatten(2) for rows in found.values()]

    def tile(left: Tensor, right: Tensor) -> Tensor:
        pairs = zip(jacobian(left), jacobian(right), strict=True)
        return torch.stack([torch.einsum(equation, a, b) for a, b in pairs]).sum(0)

    blocks = x.split(workload.at_once)
    axis = 2 if reduction == "full" else 1
    return lambda: torch.cat([torch.cat([tile(a, b) for b in blocks], axis) for a in blocks])


def products(workload: Workload, reduction: Reduction) -> Callable[[], Tensor]:
    """The tutorial's NTK-vector products."""
    model, params, x = build(workload)
    basis = torch.eye(workload.num_outputs)

    def pair(a: Tensor, b: Tensor) -> Tensor:
        at = lambda x: lambda params: functional_call(model, params, (x[None],))[0]
        back = vjp(at(b), params)[1]
        kernel = vmap(lambda v: jvp(at(a), (params,), back(v))[1])(basis)
        return kernel.trace() if reduction == "trace" else kernel

    return lambda: torch.stack(
        [vmap(lambda b, a=a: pair(a, b), chunk_size=16)(x) for a in x[:PAIRED]]
    )


def structured(workload: Workload, reduction: Reduction, memory: str) -> Callable[[], Tensor]:
    """The project's method."""
    model, params, x = build(workload)
    return lambda: empirical_ntk(model, params, x, outputs=reduction, memory=memory)  # type: ignore


def measure_here(method: str, name: str, reduction: Reduction, memory: str) -> None:
    """Print seconds and megabytes of one method, in a process of its own."""
    workload = WORKLOADS[name]
    if method == "floor":
        print(json.dumps([floor(workload, reduction), 0]))
        return
    make = {"contraction": contraction, "products": products}.get(method)
    call = make(workload, reduction) if make else structured(workload, reduction, memory)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.perf_counter()
    call()
    seconds = time.perf_counter() - began
    seconds *= workload.num / PAIRED if method == "products" else 1
    used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(json.dumps([seconds, used / 1024]))


def floor(workload: Workload, reduction: Reduction) -> float:
    """Seconds of the unavoidable arithmetic."""
    model, params, x = build(workload)
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    x.requires_grad_()
    with FlopCounterMode(display=False) as forward:
        outputs = model(x)
    with FlopCounterMode(display=False) as backward:
        torch.autograd.grad(outputs.sum(), x)
    passes = forward.get_total_flops() + workload.num_outputs * backward.get_total_flops()
    network = network_of(model, params, "logits", None)
    factors = capture(network, x.detach()[:1]).values()
    products = 2 * sum(_cheapest(factor, workload.num, reduction) for factor in factors)
    return (passes + products) / gemm_rate()


def _cheapest(factor: Factor, num: int, reduction: Reduction) -> float:
    """Multiply-adds of a weight's contraction, for N examples like the given one."""
    if isinstance(factor, Outer):
        many = Outer(*(t.expand(num, *t.shape[1:]) for t in (factor.inputs, factor.grads)))
        return min(contraction_costs(many, many, reduction, traffic=0).values())
    outputs = factor.rows.shape[1]
    return num**2 * factor.rows[0].numel() * (outputs if reduction == "full" else 1)


def gemm_rate() -> float:
    """Operations a second of a large matrix product."""
    a = torch.randn(2048, 2048)
    a @ a
    began = time.perf_counter()
    for _ in range(5):
        a @ a
    return 5 * 2 * 2048**3 / (time.perf_counter() - began)


def in_a_process(method: str, name: str, reduction: str, memory: str) -> tuple[float, float]:
    """Seconds and megabytes above what the process held before."""
    code = (
        "import sys; from scripts.benchmark_ntk import measure_here; measure_here(*sys.argv[1:])"
    )
    command = [sys.executable, "-W", "ignore", "-c", code, method, name, reduction, memory]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    seconds, megabytes = json.loads(done.stdout.splitlines()[-1])
    return seconds, megabytes


def bench(config: NTKBenchConfig) -> None:
    """Measure everything and print one row after another."""
    for name in config.workloads:
        for reduction in config.reductions:
            _bench_row(name, reduction, config)


def _bench_row(name: str, reduction: str, config: NTKBenchConfig) -> None:
    methods = ["structured", "contraction", "floor"] + (["products"] if name == "cnn" else [])
    found: dict[str, list[tuple[float, float]]] = {method: [] for method in methods}
    for _ in range(config.repeats):
        for method in methods:
            found[method].append(in_a_process(method, name, reduction, config.memory))
    seconds = {m: statistics.median(s for s, _ in f) for m, f in found.items()}
    peak = {m: statistics.median(mb for _, mb in f) for m, f in found.items()}
    others = ", ".join(
        f"{method} {seconds[method] / seconds['structured']:.1f} x the time and "
        f"{peak[method] / peak['structured']:.1f} x the memory"
        for method in methods
        if method not in ("structured", "floor")
    )
    share = seconds["floor"] / seconds["structured"]
    print(
        f"{name}, {reduction}: structured {seconds['structured']:.2f} s, "
        f"{peak['structured']:.0f} MB, {share:.0%} of the floor; {others}",
        flush=True,
    )


if __name__ == "__main__":
    run(bench, NTKBenchConfig)
