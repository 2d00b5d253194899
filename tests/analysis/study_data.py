"""Simulated studies: runs frames of which the truth is known."""

from itertools import product

import numpy as np
import pandas as pd

ENVS = ("ink", "photo", "rotated", "sketch")
CELLS = ("a", "b", "c", "d", "e", "f")
SEEDS = (0, 1)


def grid(
    *,
    envs: tuple[str, ...] = ENVS,
    cells: tuple[str, ...] = CELLS,
    seeds: tuple[int, ...] = SEEDS,
    **columns: object,
) -> pd.DataFrame:
    """One row an environment, cell and seed, and what is the same in all of them."""
    frame = pd.DataFrame(list(product(envs, cells, seeds)), columns=["env", "cell", "seed"])
    fixed = {"dataset": "digits", "method": "erm", "drop_rate": 0.0, "split": 0}
    return frame.assign(**(fixed | columns))


def accuracies(
    frame: pd.DataFrame,
    ood: float | np.ndarray,
    iid: float | np.ndarray = 0.9,
    *,
    seed: int = 0,
    noise: float = 0.002,
) -> pd.DataFrame:
    """Accuracies with normal noise of every run."""
    generator = np.random.default_rng(seed)
    noisy = lambda mean: mean + noise * generator.standard_normal(len(frame))
    return frame.assign(ood=noisy(ood), iid=noisy(iid))


def differing_cells(seed: int = 0, **of_grid: tuple) -> pd.DataFrame:
    """Differences in which environments and cells differ."""
    frame = grid(**of_grid)
    generator = np.random.default_rng(seed)
    between = {cell: generator.normal() for cell in sorted(set(frame["cell"]))}
    noise = generator.normal(size=len(frame))
    return frame.assign(difference=1 + frame["cell"].map(between) + 0.5 * noise)


def own_seeds(frame: pd.DataFrame) -> pd.DataFrame:
    """The same with seeds that no other environment or cell has."""
    place = frame.groupby(["env", "cell"]).ngroup()
    return frame.assign(seed=frame["seed"] + 100 * place)
