r"""How far sketches of the tangent kernel are from it: docs/sketch_error.md and its figure.

    python -m scripts.sketch_error

A sketch's error is that of single replicates, relative to the exact kernel in double precision, in
Frobenius norm: of the full kernel K0, of its trace over outputs, and of the change K1 - K0 under
one projection at both ends. The slope against the number of features k is fitted to the
logarithms of all replicates' errors. Standard errors are those of `estimated_kernel` on groups of
`GROUP` replicates; the calibration is the share of entries whose error is below twice theirs.

Shapes: S replicates, N examples, C outputs, k features.
"""

import os
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import matplotlib as mpl
import numpy as np
import pandas as pd
import timm
import torch
from matplotlib.figure import Figure
from scipy.stats import linregress
from scipy.stats import t as student
from torch import Tensor
from torch.nn import Module

import core.glyphnet  # ruff: ignore[unused-import] - registers glyphnet
from core.checkpoints import load_checkpoint
from core.command_line import run
from core.digits import digit_environments
from core.linearization import Weights
from probes.ntk import empirical_ntk, estimated_kernel, sketched_features
from probes.ntk.sketch import Kind

DOCS = Path(__file__).parents[1] / "docs"
EXAMPLE = Path(__file__).parents[1] / "probes/examples/erm-s0"
KINDS: tuple[Kind, ...] = ("count", "kronecker")
ERRORS = {"kernel": "K0", "trace": "trace of K0", "change": "K1 - K0"}
FEATURES = (256, 512, 1024, 2048, 4096)
GROUP = 8  # replicates behind one standard error
WITHIN = 1 - 2 * student.sf(2, GROUP - 1)  # of normal estimates with that many replicates


class Problem(NamedTuple):
    """A network at two ends, images, and replicates per sketch."""

    title: str
    model: Module
    params0: Weights
    params1: Weights
    x: Tensor
    replicates: int


@dataclass(frozen=True, kw_only=True)
class SketchErrorConfig:
    """Options of the measurement."""

    problems: tuple[str, ...] = ("glyphnet", "resnet18")
    """Which networks."""
    repeats: int = 3
    """Alternating timings; ratios are of medians."""
    folder: str = str(DOCS)
    """Where the page goes."""


def glyphnet() -> Problem:
    """The embedded fine-tuning on digits, before and after."""
    model = timm.create_model("glyphnet", num_classes=10).eval()

    def end(name: str) -> Weights:
        load_checkpoint(model, EXAMPLE / f"{name}.safetensors")
        return {name: p.detach().clone() for name, p in model.named_parameters()}

    before, after = end("init"), end("final")
    images = torch.from_numpy(digit_environments()["ink"][0][:16]).permute(0, 3, 1, 2)
    title = "glyphnet, fine-tuned on digits, 16 images of 32 px, 10 outputs"
    return Problem(title, model, before, after, images / 127.5 - 1, 4 * GROUP)


def resnet18() -> Problem:
    """Random weights and a random displacement of one hundredth of their size."""
    torch.manual_seed(0)
    model = timm.create_model("resnet18", num_classes=7).eval()
    before = {name: p.detach() for name, p in model.named_parameters()}
    moves = {n: torch.randn_like(p) * p.square().mean().sqrt() for n, p in before.items()}
    after = {name: p + 0.01 * moves[name] for name, p in before.items()}
    title = "resnet18, random weights moved by 1 %, 4 images of 64 px, 7 outputs"
    return Problem(title, model, before, after, torch.randn(4, 3, 64, 64), GROUP)


PROBLEMS: dict[str, Callable[[], Problem]] = {"glyphnet": glyphnet, "resnet18": resnet18}


def exact(problem: Problem, params: Weights) -> Tensor:
    """The full kernel in double precision."""
    kernel = empirical_ntk(problem.model, params, problem.x, dtype=torch.float64)
    assert isinstance(kernel, Tensor)
    return kernel


def sketched(problem: Problem, params: Weights, kind: Kind, num_features: int) -> Tensor:
    """Features of all replicates; every k has projections of its own."""
    options = {"num_features": num_features, "kind": kind, "replicates": problem.replicates}
    return sketched_features(
        problem.model, params, problem.x, seed=num_features, batch_size=4, **options
    )


def errors(problem: Problem) -> pd.DataFrame:
    """One row a kind, k, replicate and error; shares within two standard errors on top."""
    truth0, truth1 = (exact(problem, params) for params in (problem.params0, problem.params1))
    rows = []
    for kind in KINDS:
        for num_features in FEATURES:
            before, after = (
                sketched(problem, params, kind, num_features)
                for params in (problem.params0, problem.params1)
            )
            shares = within(before, truth0)
            for replicate, (a, b) in enumerate(zip(before, after, strict=True)):
                start, end = (torch.einsum("nck,mdk->ncmd", f, f).double() for f in (a, b))
                found = {
                    "kernel": apart(start, truth0),
                    "trace": apart(*(torch.einsum("ncmc->nm", k) for k in (start, truth0))),
                    "change": apart(end - start, truth1 - truth0),
                }
                rows += [(kind, num_features, replicate, n, e, shares) for n, e in found.items()]
    return pd.DataFrame(rows, columns=["kind", "k", "replicate", "error", "value", "within"])  # type: ignore


def apart(found: Tensor, truth: Tensor) -> float:
    """The relative error in Frobenius norm."""
    return float((found - truth).norm() / truth.norm())


def within(features: Tensor, truth: Tensor) -> float:
    """Share of entries that are less than two standard errors off."""
    shares = []
    for group in features.split(GROUP):
        mean, stderr = estimated_kernel(group)
        shares.append(float(((mean - truth).abs() < 2 * stderr).double().mean()))
    return statistics.mean(shares)


def slope(rows: pd.DataFrame) -> tuple[float, float]:
    """The exponent of k and the half width of its 95 % interval."""
    fit = linregress(np.log(rows["k"]), np.log(rows["value"]))
    return fit.slope, fit.stderr * student.ppf(0.975, len(rows) - 2)  # type: ignore


def costs(problem: Problem, repeats: int) -> dict[tuple[str, int], float]:
    """Seconds of one sketch over those of the exact kernel, for the first and last k."""
    calls: dict[tuple[str, int], Callable[[], object]] = {
        (kind, k): lambda kind=kind, k=k: sketched(
            problem._replace(replicates=1), problem.params0, kind, k
        )
        for kind in KINDS
        for k in FEATURES
    }
    calls["exact", 0] = lambda: empirical_ntk(problem.model, problem.params0, problem.x)
    seconds: dict[tuple[str, int], list[float]] = {key: [] for key in calls}
    for _ in range(repeats):
        for key, call in calls.items():
            began = time.perf_counter()
            call()
            seconds[key].append(time.perf_counter() - began)
    medians = {key: statistics.median(values) for key, values in seconds.items()}
    return {key: value / medians["exact", 0] for key, value in medians.items() if key[1]}


def section(problem: Problem, found: pd.DataFrame, cost: dict[tuple[str, int], float]) -> str:
    """A table of one network."""
    lines = [f"## {problem.title}", f"{problem.replicates} replicates.", ""]
    lines += _heads("sketch", "k", *ERRORS.values(), "within 2 stderr", "time")
    for (kind, k), rows in found.groupby(["kind", "k"], sort=False):  # type: ignore
        size = rows.groupby("error")["value"].apply(lambda v: (v**2).mean() ** 0.5)
        cells = [f"{size[name]:.3f}" for name in ERRORS]
        lines.append(
            _row([kind, k, *cells, f"{rows['within'].iloc[0]:.0%}", f"{cost[kind, k]:.2f}"])
        )
    lines += ["", "Exponents of k, with 95 % intervals:", ""]
    lines += _heads("sketch", *ERRORS.values())
    for kind, rows in found.groupby("kind", sort=False):
        fits = [slope(rows.query("error == @name")) for name in ERRORS]
        lines.append(_row([kind, *(f"{s:.3f} ± {half:.3f}" for s, half in fits)]))
    return "\n".join([*lines, ""])


def _heads(*cells: str) -> list[str]:
    return [_row(cells), _row(["---"] * len(cells))]


def _row(cells: Sequence[object]) -> str:
    return f"| {' | '.join(map(str, cells))} |"


INTRODUCTION = """# The error of a sketched kernel

Made by `python -m scripts.sketch_error` ({cores} cores, PyTorch {version}, {threads} thread).

Errors are relative to the exact kernel in Frobenius norm, root mean square over single
replicates. K1 - K0 is the change between two ends under one projection, and its error is relative
to the change: one that is small beside K0 takes many features. *Within 2 stderr* is the share of
entries of K0 for which the mean of {group} replicates is less than two of its standard errors
off; normal estimates would give {within:.0%}. *Time* is that of one replicate over that of the
exact full kernel of the same few images, where the exact kernel can be the faster one: a sketch's
cost grows with their number, that of the exact kernel's contractions with its square.

![Error against the number of features](sketch_error.svg)

"""


def draw(found: dict[str, pd.DataFrame], target: Path) -> None:
    """A panel for every network: errors with their root mean squares, and a slope of -1/2."""
    figure = Figure(figsize=(9, 3), layout="constrained")
    panels = figure.subplots(1, len(found), sharey=True, squeeze=False)[0]
    styles = {"kernel": "-", "trace": ":", "change": "--"}
    for axes, (name, frame) in zip(panels, found.items(), strict=True):
        for (kind, error), rows in frame.groupby(["kind", "error"], sort=False):  # type: ignore
            means = rows.groupby("k")["value"].apply(lambda v: (v**2).mean() ** 0.5)
            color = {"count": "C0", "kronecker": "C1"}[kind]
            label = f"{kind}, {ERRORS[error]}"
            axes.loglog(means.index, means, styles[error], marker="o", ms=3, c=color, label=label)
        ks = np.array(FEATURES)
        axes.loglog(ks, 0.5 * (ks / ks[0]) ** -0.5, c="0.6", lw=1, label=r"$1/\sqrt{k}$")
        axes.set(title=name, xlabel="features k")
        axes.set_xticks(FEATURES, FEATURES, minor=False)
        axes.set_xticks([], minor=True)
    panels[0].set_ylabel("relative error")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside right", frameon=False)
    with mpl.rc_context({"svg.hashsalt": "lazyrich"}):  # the same names of elements in every run
        figure.savefig(target, metadata={"Date": None})


def main(config: SketchErrorConfig) -> None:
    """Measure, and write the page."""
    problems = {name: PROBLEMS[name]() for name in config.problems}
    found = {name: errors(problem) for name, problem in problems.items()}
    parts = [section(p, found[n], costs(p, config.repeats)) for n, p in problems.items()]
    facts = {"cores": os.cpu_count(), "version": torch.__version__.split("+")[0]}
    facts |= {"threads": torch.get_num_threads(), "group": GROUP, "within": WITHIN}
    folder = Path(config.folder)
    draw(found, folder / "sketch_error.svg")
    page = INTRODUCTION.format(**facts) + "\n".join(parts)
    (folder / "sketch_error.md").write_text(page, encoding="utf-8")


if __name__ == "__main__":
    run(main, SketchErrorConfig)
