"""What the intervals of `analysis.bootstrap` cover, in simulated studies: docs/coverage.md.

    python -m scripts.coverage

A study is a table of paired differences: four environments, whose noise differs, cells of
hyper-parameters, seeds. Cells differ by an effect of their own in every environment, by one that
all environments share, or by both. Every run has a seed of its own, or the cells of an environment
have the same seeds, or all environments have; what a seed does to a run may then be what it does
to all of its runs. The truth is the mean over all cells and seeds.

Shapes: E environments, H cells, S seeds, B resamples.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.stats import t as student
from tqdm import tqdm

from analysis.bootstrap import Mean, mean_error
from analysis.clusters import Clusters, clusters
from core.command_line import run
from core.outputs import whole_file

DOCS = Path(__file__).parents[1] / "docs"
TRUTH, BETWEEN_CELLS, BETWEEN_SEEDS = 0.01, 0.006, 0.005  # as of gains in accuracy
ENV_MEANS = np.array([-0.02, 0.0, 0.01, 0.01])  # what each environment's gain differs by
ENV_NOISE = np.array([0.5, 1.0, 1.0, 2.0])
SIZES = tuple((cells, seeds) for cells in (2, 3, 4, 6) for seeds in (2, 3))
ONE_CELL = ((1, 2), (1, 3))
NUM_RESAMPLES = 400  # of the plain bootstrap

Study = Float[np.ndarray, "E H S"]
Interval = tuple[float, float]
Table = dict[tuple["World", tuple[int, int]], dict[str, tuple[float, float]]]


Seeds = Literal["of a run", "of an environment", "of all"]


class World(NamedTuple):
    """How the variance between cells divides, and what the runs of a seed have in common."""

    title: str
    shared: float  # share of the variance that all environments have in common
    heavy: bool = False  # Student's t with three degrees of freedom in place of normal noise
    seeds: Seeds = "of a run"
    of_seeds: float = 0.0  # share of the variance of runs that those of one seed have in common


WORLDS = (
    World("cells differ by environment", 0.0),
    World("half of that is shared", 0.5),
    World("cells act alike everywhere", 1.0),
    World("half is shared, heavy tails", 0.5, heavy=True),
)
CROSSED_WORLDS = (
    World("seeds of an environment, no effect", 0.5, seeds="of an environment"),
    World("seeds of an environment, half of it", 0.5, seeds="of an environment", of_seeds=0.5),
    World("seeds of an environment, all of it", 0.5, seeds="of an environment", of_seeds=1.0),
    World("seeds of all, no effect", 0.5, seeds="of all"),
    World("seeds of all, half of it", 0.5, seeds="of all", of_seeds=0.5),
    World("seeds of all, all of it", 0.5, seeds="of all", of_seeds=1.0),
)
ONE_CELL_WORLDS = (World("normal noise", 0.0), World("heavy tails", 0.0, heavy=True))


@dataclass(frozen=True, kw_only=True)
class CoverageConfig:
    """Options of the simulation."""

    simulations: int = 2000
    """Studies of every kind."""
    seed: int = 0
    """Seed of all studies."""
    output: str = str(DOCS / "coverage.md")
    """The page."""


def study(world: World, cells: int, seeds: int, generator: np.random.Generator) -> Study:
    """Paired differences of one simulated study, in the order environment, cell, seed."""
    between = BETWEEN_CELLS if cells > 1 else 0.0  # a single cell is all that is asked about
    alike = between * world.shared**0.5 * _noise(world, generator, (1, cells, 1))
    own = between * (1 - world.shared) ** 0.5 * _noise(world, generator, (4, cells, 1))
    places = 1 if world.seeds == "of all" else 4
    common = world.of_seeds**0.5 * _noise(world, generator, (places, 1, seeds))
    noise = (1 - world.of_seeds) ** 0.5 * _noise(world, generator, (4, cells, seeds))
    spread = ENV_NOISE[:, None, None]
    own = own + BETWEEN_SEEDS * (common + noise)
    return TRUTH + ENV_MEANS[:, None, None] + alike + spread * own


def _noise(world: World, generator: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Of variance one."""
    if world.heavy:
        return generator.standard_t(3, shape) / 3**0.5
    return generator.standard_normal(shape)


@cache
def design(shape: tuple[int, int, int], seeds: Seeds) -> Clusters:
    """The clusters of a study's differences, one after the other."""
    env, cell, seed = np.indices(shape).reshape(3, -1)
    own = {"of a run": np.arange(len(seed)), "of an environment": 100 * env + seed}
    columns = {"env": env, "cell": cell, "seed": own.get(seeds, seed)}
    return clusters(pd.DataFrame(columns | {"dataset": "simulated", "split": 0}))


def plain(differences: Study, _: Seeds, generator: np.random.Generator) -> Interval:
    """Percentiles of cells drawn again within environments, and seeds within cells."""
    num_envs, num_cells, num_seeds = differences.shape
    envs = np.arange(num_envs)[None, :, None, None]
    drawn = generator.integers(num_cells, size=(NUM_RESAMPLES, num_envs, num_cells, 1))
    shape = (NUM_RESAMPLES, num_envs, num_cells, num_seeds)
    resampled = differences[envs, drawn, generator.integers(num_seeds, size=shape)]
    low, high = np.quantile(resampled.mean((1, 2, 3)), [0.025, 0.975])
    return float(low), float(high)


def stratified(differences: Study, *_: object) -> Interval:
    """Student's t with cells that every environment draws for itself."""
    cells = differences.mean(2)
    num_envs, num_cells = cells.shape
    stderr = np.sqrt(cells.var(1, ddof=1).sum() / num_cells) / num_envs
    half = student.ppf(0.975, num_envs * (num_cells - 1)) * stderr
    return float(cells.mean() - half), float(cells.mean() + half)


def over_cells(differences: Study, _: Seeds, generator: np.random.Generator) -> Interval:
    """Student's t over the means of cells, as if every run had a seed of its own."""
    return ours(differences, "of a run", generator)


def ours(differences: Study, seeds: Seeds, _: np.random.Generator) -> Interval:
    """What the project reports."""
    stderr, degrees = mean_error(differences.ravel(), design(differences.shape, seeds))
    value, num = float(differences.mean()), differences.size
    return Mean(value=value, stderr=stderr, degrees=degrees, num=num).interval()


METHODS = {"plain percentiles": plain, "t, cells drawn by environment": stratified, "ours": ours}
CROSSED_METHODS = {"t over cells": over_cells, "ours": ours}
ONE_CELL_METHODS = {"plain percentiles": plain, "ours": ours}


def covered(
    world: World, size: tuple[int, int], config: CoverageConfig
) -> dict[str, tuple[float, float]]:
    """Share of studies whose interval holds the truth, and its mean width, by method."""
    several = METHODS if world.seeds == "of a run" else CROSSED_METHODS
    methods = ONE_CELL_METHODS if size[0] == 1 else several
    found = {name: np.empty((config.simulations, 2)) for name in methods}
    for number in range(config.simulations):
        generator = np.random.default_rng((config.seed, *size, number))
        differences = study(world, *size, generator)
        for name, method in methods.items():
            found[name][number] = method(differences, world.seeds, generator)
    return {name: _summary(ends) for name, ends in found.items()}


def _summary(ends: Float[np.ndarray, "B 2"]) -> tuple[float, float]:
    low, high = ends.T
    return float(np.mean((low <= TRUTH) & (high >= TRUTH))), float(np.mean(high - low))


def all_covered(
    worlds: Sequence[World], sizes: Sequence[tuple[int, int]], config: CoverageConfig
) -> Table:
    """`covered` for every kind of study."""
    kinds = list(product(worlds, sizes))
    shares = (covered(world, size, config) for world, size in tqdm(kinds, "kinds of study"))
    return dict(zip(kinds, shares, strict=True))


def lines(found: Table) -> Iterator[str]:
    """Lines of a table of coverage, with the mean width in points of accuracy."""
    methods = list(next(iter(found.values())))
    yield f"| studies | cells | seeds | {' | '.join(methods)} |"
    yield "| --- " * (3 + len(methods)) + "|"
    for (world, size), shares in found.items():
        numbers = " | ".join(f"{s:.1%} ({100 * width:.2f})" for s, width in shares.values())
        yield f"| {world.title} | {size[0]} | {size[1]} | {numbers} |"


PAGE = """# What the intervals of paired differences cover

Made by `python -m scripts.coverage`: {simulations:,} simulated studies a row, of four environments
with unequal noise ({noise} times {seeds} between seeds and {cells} between cells).
The interval of `analysis.bootstrap.hierarchical_mean` for the mean paired difference should hold
the truth in 95 % of them: it does in {least:.1%} to {most:.1%}, over all rows. The standard
error of a share is {error:.1%}. In brackets the mean width of the interval, in points of accuracy.

Environments are fixed and cells are a sample. The plain bootstrap draws cells within every
environment and seeds within every cell, and takes percentiles: with two to six cells it is much
too narrow. Student's t with cells drawn by environment is too narrow as well where cells act alike
in several environments, as learning rates may. Ours draws cells for all environments
together; what it costs is width: of two cells it says little, so that a study which is to decide
anything needs three or more, or one (below).

{several}

Where the same seeds run in several cells, what they do does not average out over cells ("half of
it": half of the noise of a run is its seed's). Ours adds the variance between seeds to that
between cells. Seeds that only one environment has are drawn there; seeds that all environments
have are drawn for all together, and two of them say little where they do much: give every
environment seeds of its own, or three seeds.

{crossed}

With one cell the interval is over seeds, and the truth that of this one cell.

{single}
"""


def main(config: CoverageConfig) -> None:
    """Simulate, and write the page."""
    facts = {"simulations": config.simulations, "noise": ", ".join(map(str, ENV_NOISE))}
    facts |= {"seeds": BETWEEN_SEEDS, "cells": BETWEEN_CELLS}
    facts |= {"error": (0.95 * 0.05 / config.simulations) ** 0.5}
    several = all_covered(WORLDS, SIZES, config)
    crossed = all_covered(CROSSED_WORLDS, SIZES, config)
    single = all_covered(ONE_CELL_WORLDS, ONE_CELL, config)
    of_ours = [shares["ours"][0] for shares in (several | crossed | single).values()]
    facts |= {"least": min(of_ours), "most": max(of_ours)}
    tables = {"several": several, "crossed": crossed, "single": single}
    text = PAGE.format(**{name: "\n".join(lines(t)) for name, t in tables.items()}, **facts)
    with whole_file(Path(config.output)) as file:
        file.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    run(main, CoverageConfig)
