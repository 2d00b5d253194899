r"""What varies between runs: the clusters that a hierarchical bootstrap draws again.

Environments are fixed: a study asks about these, not about a population of environments. Cells of
hyper-parameters are a sample, and so are seeds and splits. Runs of one cell move together, so that
the cell is drawn as a whole, all its runs with it.

Runs of one seed and split move together, too, where the same seed runs in several cells: its
hold-out, its classifier and its batches are those of all of them, and what they do does not cancel
in a mean over cells. Cells and seeds are then crossed, and the error is that of two ways of
drawing, the sum of both. Where every cell has seeds of its own, the variance between the means of
cells holds that of their seeds already, and cells alone are drawn.

What has the same name is the same draw in every environment: where a large learning rate suits one
environment it may suit all of them, and a seed used in all of them has the same classifier there.
Such cells and seeds are drawn once for all environments, and an interval over two of them is wide,
as it should be; seeds with names of their own in every environment are drawn by environment.
Intervals that ignore any of this are narrower, and wrong (docs/coverage.md has the numbers).

Where cells do not vary the seeds do, and the interval holds for the one cell there is; where
nothing varies there is no interval. The reason is part of the result.

Shapes: N rows.

References:
    | Bootstrap Methods and their Application (Davison & Hinkley, 1997), section 3.8
    | Bootstrapping clustered data (Field & Welsh, 2007)
    | https://doi.org/10.1111/j.1467-9868.2007.00593.x
    | Robust Inference with Multiway Clustering (Cameron, Gelbach & Miller, 2011)
    | https://doi.org/10.1198/jbes.2010.07136
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

Level = Literal["cells", "seeds"]

PLACE = ["dataset", "env"]
CELL = [*PLACE, "cell"]
RUN = [*CELL, "seed", "split"]
SEED = ["dataset", "seed", "split"]


@dataclass(frozen=True, kw_only=True)
class Way:
    """One way in which rows are drawn together.

    Attributes:
        cluster: Cluster of every row, numbered from 0.
        stratum: Stratum of every row, numbered from 0; clusters are drawn within it.
    """

    cluster: Int[np.ndarray, " N"]
    stratum: Int[np.ndarray, " N"]

    @property
    def stratum_of_clusters(self) -> Int[np.ndarray, " _"]:
        """Stratum of every cluster."""
        stratum = np.empty(int(self.cluster.max()) + 1, np.int64)
        stratum[self.cluster] = self.stratum
        return stratum

    @property
    def sizes(self) -> Int[np.ndarray, " _"]:
        """Clusters of each stratum."""
        return np.bincount(self.stratum_of_clusters)


@dataclass(frozen=True, kw_only=True)
class Clusters:
    """What is drawn together, and from among what.

    Attributes:
        ways: Cells, seeds, or both, one after the other; none where nothing varies.
        weight: Weight of every row in a mean in which environments count alike, cells within
            environments, and runs within cells; the weights sum to one.
        level: Weighted means of these groups of rows are fixed: environments where cells vary,
            cells where only seeds do.
        varies: `cells`, `seeds`, `cells and seeds`, or nothing.
        reason: What an interval over these clusters does not cover; why there is none where
            nothing varies.
    """

    ways: tuple[Way, ...]
    weight: Float[np.ndarray, " N"]
    level: Int[np.ndarray, " N"]
    varies: str
    reason: str = ""

    @property
    def degrees(self) -> float:
        """Degrees of freedom of the way that has the fewest."""
        return min(float((way.sizes - 1).sum()) for way in self.ways)


def clusters(frame: pd.DataFrame, *, level: Level = "cells") -> Clusters:
    """The clusters of a frame with the columns dataset, env, cell, seed and split.

    Args:
        frame: Runs, or pairs of runs.
        level: `seeds` where the question is about these very cells, so that they are fixed.
    """
    place, cell = (numbered(frame, names) for names in (PLACE, CELL))
    if level == "cells" and _least(cell, within=place) > 1:
        return _over_cells(frame, place, cell)
    seed = numbered(frame, SEED)
    varies = _least(seed, within=cell) > 1
    return Clusters(
        ways=(_way(seed, within=cell),) if varies else (),
        weight=nested_weights(frame),
        level=cell,
        varies="seeds" if varies else "",
        reason=_about_cells(frame, level) if varies else _nothing_varies(frame),
    )


def _over_cells(frame: pd.DataFrame, place: np.ndarray, cell: np.ndarray) -> Clusters:
    """Cells, and seeds as well where the same ones run in several cells of an environment."""
    seed, in_place = numbered(frame, SEED), numbered(frame, [*PLACE, *SEED[1:]])
    crossed = len(set(in_place)) < len(set(numbered(frame, RUN)))
    several = _least(seed, within=place) > 1
    ways = [_way(numbered(frame, ["dataset", "cell"]), within=place)]
    if crossed and several:
        ways.append(_way(seed, within=place))
    return Clusters(
        ways=tuple(ways),
        weight=nested_weights(frame),
        level=place,
        varies="cells and seeds" if len(ways) > 1 else "cells",
        reason=_about_seeds(cell, shared=crossed and not several),
    )


def _way(cluster: np.ndarray, *, within: np.ndarray) -> Way:
    """Clusters, drawn from among those of all groups that they link with each other."""
    groups, nodes = int(within.max()) + 1, int(within.max() + cluster.max()) + 2
    links = (np.ones(len(cluster)), (within, groups + cluster))
    _, part = connected_components(coo_array(links, shape=(nodes, nodes)), directed=False)
    stratum = np.unique(part[within], return_inverse=True)[1]
    return Way(cluster=cluster, stratum=stratum.astype(np.int64))


def numbered(frame: pd.DataFrame, names: Sequence[str]) -> Int[np.ndarray, " N"]:
    """A number from 0 on for every row, equal where the columns are.

    Example:
        >>> numbered(pd.DataFrame({"env": ["b", "a", "b"], "seed": [0, 0, 0]}), ["env", "seed"])
        array([1, 0, 1])
    """
    codes = [pd.factorize(frame[n], sort=True, use_na_sentinel=False)[0] for n in names]
    return np.unique(np.stack(codes), axis=1, return_inverse=True)[1].astype(np.int64)


def nested_weights(frame: pd.DataFrame) -> Float[np.ndarray, " N"]:
    """Weights of a mean in which environments count alike, and cells within them."""
    place, cell = numbered(frame, PLACE), numbered(frame, CELL)
    cells_of = np.bincount(np.unique(np.stack([place, cell]), axis=1)[0])
    return 1 / (len(cells_of) * cells_of[place] * np.bincount(cell)[cell])


def _least(inner: np.ndarray, *, within: np.ndarray) -> int:
    """The fewest groups that a group around them holds."""
    pairs = np.unique(np.stack([within, inner]), axis=1)
    return int(np.bincount(pairs[0]).min())


def _about_seeds(cell: np.ndarray, *, shared: bool) -> str:
    if shared:
        return "one seed in all cells: what it does to all of them is not in the interval"
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
