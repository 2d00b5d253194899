"""Tests for analysis/clusters.py."""

import pandas as pd
import pytest
from numpy.testing import assert_allclose

from analysis.clusters import Clusters, clusters, nested_weights
from tests.analysis.study_data import grid, own_seeds


def sizes(design: Clusters) -> list[int]:
    """Clusters of every stratum, of all ways one after the other."""
    return [int(num) for way in design.ways for num in way.sizes]


def test_cells_are_drawn_for_all_environments_together() -> None:
    frame = own_seeds(grid(cells=("a", "b", "c")))
    design = clusters(frame)
    assert design.varies == "cells" and sizes(design) == [3] and design.reason == ""
    (way,) = design.ways
    of_cell = {frame["cell"].iloc[i]: way.cluster[i] for i in range(len(frame))}
    assert (way.cluster == frame["cell"].map(of_cell)).all() and len(set(of_cell.values())) == 3


def test_several_data_sets_are_strata() -> None:
    frame = own_seeds(grid(cells=("a", "b")))
    design = clusters(pd.concat([frame, frame.assign(dataset="PACS")]))
    assert sizes(design) == [2, 2]


def test_seeds_of_several_cells_are_drawn_as_well() -> None:
    frame = grid(cells=("a", "b", "c"))
    design = clusters(frame)
    assert design.varies == "cells and seeds" and sizes(design) == [3, 2]
    assert (design.ways[1].cluster == frame["seed"]).all() and design.degrees == 1
    assert sizes(clusters(frame, level="seeds")) == [2]


def test_seeds_of_one_environment_are_drawn_there() -> None:
    frame = grid(cells=("a", "b", "c"))
    frame["seed"] += 10 * frame.groupby("env").ngroup()
    design = clusters(frame)
    assert sizes(design) == [3, 2, 2, 2, 2] and design.degrees == 2
    assert sizes(clusters(frame, level="seeds")) == [2, 2, 2, 2]
    linked = frame.assign(seed=frame["seed"].replace({10: 0}))  # in two environments
    assert sizes(clusters(linked)) == [3, 3, 2, 2]


@pytest.mark.parametrize(
    ("cells", "seeds", "level", "varies", "reason"),
    [
        (("a", "b"), (0,), "cells", "cells", "one seed in all cells: what it does to all"),
        (("a",), (0, 1), "cells", "seeds", "one cell: over seeds and splits only"),
        (("a", "b"), (0, 1), "seeds", "seeds", "over seeds and splits, for these cells"),
        (("a",), (0,), "cells", "", "one run an environment: nothing varies"),
        (("a", "b"), (0,), "seeds", "", "some cell or environment has one run only"),
    ],
)
def test_what_varies_is_said(
    cells: tuple[str, ...], seeds: tuple[int, ...], level: str, varies: str, reason: str
) -> None:
    design = clusters(grid(cells=cells, seeds=seeds), level=level)
    assert design.varies == varies and design.reason.startswith(reason)


def test_one_run_a_cell_holds_both_cells_and_seeds() -> None:
    design = clusters(own_seeds(grid(cells=("a", "b"), seeds=(0,))))
    assert design.varies == "cells" and design.reason.startswith("one run a cell: cells and seeds")


def test_an_environment_with_one_cell_leaves_the_seeds_to_vary() -> None:
    frame = grid(cells=("a", "b"))
    frame = frame[(frame["env"] != "ink") | (frame["cell"] == "a")]
    design = clusters(frame)
    assert design.varies == "seeds" and design.reason.startswith("an environment with one cell")


def test_environments_count_alike_and_cells_within_them() -> None:
    frame = grid(envs=("ink", "photo"), cells=("a", "b"))
    frame = frame.drop(index=[1, 4, 5])  # ink: a once, b twice; photo: b twice
    weights = nested_weights(frame)
    assert_allclose(weights, [1 / 4, 1 / 8, 1 / 8, 1 / 4, 1 / 4])
