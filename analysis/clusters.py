r"""What varies between runs: the clusters that a hierarchical bootstrap draws again.

Environments are fixed: a study asks about these, not about a population of environments. Cells of
hyper-parameters are a sample, and so are seeds and splits within a cell. Runs of one cell move
together, so that the cell is drawn as a whole, all its seeds with it: the variance between the
means of cells holds that of their seeds already, and drawing seeds again within the cells that
were drawn would count it twice.

A cell is the same cell in every environment: where a large learning rate suits one environment it
may suit all of them. Cells are therefore drawn once for all environments, and an interval over
two cells is wide, as it should be. Intervals that let every environment draw cells for itself are
narrower, and wrong where cells act alike (docs/coverage.md has the numbers).

Where cells do not vary the seeds do, and the interval holds for the one cell there is; where
nothing varies there is no interval. The reason is part of the result.

Shapes: N rows.

References:
    | Bootstrap Methods and their Application (Davison & Hinkley, 1997), section 3.8
    | Bootstrapping clustered data (Field & Welsh, 2007)
    | https://doi.org/10.1111/j.1467-9868.2007.00593.x
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

Level = Literal["cells", "seeds"]

PLACE = ["dataset", "env"]
CELL = [*PLACE, "cell"]
RUN = [*CELL, "seed", "split"]


@dataclass(frozen=True, kw_only=True)
class Clusters:
    """What is drawn together, and from among what.

    Attributes:
        cluster: Cluster of every row, numbered from 0.
        stratum: Stratum of every row; clusters are drawn within it.
        weight: Weight of every row in a mean in which environments count alike, cells within
            environments, and runs within cells; the weights sum to one.
        level: Weighted means of these groups of rows are fixed: environments where cells vary,
            cells where only seeds do.
        varies: `cells`, `seeds`, or nothing.
        reason: What an interval over these clusters does not cover; why there is none where
            nothing varies.
    """

    cluster: Int[np.ndarray, " N"]
    stratum: Int[np.ndarray, " N"]
    weight: Float[np.ndarray, " N"]
    level: Int[np.ndarray, " N"]
    varies: str
    reason: str = ""

    @property
    def sizes(self) -> Int[np.ndarray, " _"]:
        """Clusters of each stratum."""
        pairs = np.unique(np.stack([self.stratum, self.cluster]), axis=1)
        return np.bincount(pairs[0])


def clusters(frame: pd.DataFrame, *, level: Level = "cells") -> Clusters:
    """The clusters of a frame with the columns dataset, env, cell, seed and split.

    Args:
        frame: Runs, or pairs of runs.
        level: `seeds` where the question is about these very cells, so that they are fixed.
    """
    place, cell, run = (numbered(frame, names) for names in (PLACE, CELL, RUN))
    weight = nested_weights(frame)
    if level == "cells" and _least(cell, within=place) > 1:
        return Clusters(
            cluster=numbered(frame, ["dataset", "cell"]),
            stratum=numbered(frame, ["dataset"]),
            weight=weight,
            level=place,
            varies="cells",
            reason=_about_seeds(cell),
        )
    varies = "seeds" if _least(run, within=cell) > 1 else ""
    return Clusters(
        cluster=run,
        stratum=cell,
        weight=weight,
        level=cell,
        varies=varies,
        reason=_about_cells(frame, level) if varies else _nothing_varies(frame),
    )


def numbered(frame: pd.DataFrame, names: Sequence[str]) -> Int[np.ndarray, " N"]:
    """A number from 0 on for every row, equal where the columns are.

    Example:
        >>> numbered(pd.DataFrame({"env": ["b", "a", "b"], "seed": [0, 0, 0]}), ["env", "seed"])
        array([1, 0, 1])
    """
    return frame.groupby(list(names), dropna=False).ngroup().to_numpy(np.int64)


def nested_weights(frame: pd.DataFrame) -> Float[np.ndarray, " N"]:
    """Weights of a mean in which environments count alike, and cells within them."""
    num_places = len(frame[PLACE].drop_duplicates())
    in_place = frame.groupby(PLACE)["cell"].transform("nunique").to_numpy(np.float64)
    in_cell = frame.groupby(CELL)["cell"].transform("size").to_numpy(np.float64)
    return 1 / (num_places * in_place * in_cell)


def _least(inner: np.ndarray, *, within: np.ndarray) -> int:
    """The fewest groups that a group around them holds."""
    pairs = np.unique(np.stack([within, inner]), axis=1)
    return int(np.bincount(pairs[0]).min())


def _about_seeds(cell: np.ndarray) -> str:
    single = bool((np.bincount(cell) == 1).all())
    return "one run a cell: cells and seeds vary together" if single else ""


def _about_cells(frame: pd.DataFrame, level: Level) -> str:
    if level == "seeds":
        return "over seeds and splits, for these cells"
    few = "one cell" if len(set(frame["cell"])) == 1 else "an environment with one cell"
    return f"{few}: over seeds and splits only, for the cells at hand"


def _nothing_varies(frame: pd.DataFrame) -> str:
    num = len(frame[PLACE].drop_duplicates())
    if len(frame) == num:
        return "one run an environment: nothing varies, so that there is no interval"
    return "some cell or environment has one run only, so that there is no interval"
