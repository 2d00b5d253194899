"""Tests for analysis/permutations.py."""

import numpy as np

from analysis.permutations import exchangeable, num_permutations, permutations

BLOCK = np.array(
    [0, 0, 1, 1, 2, 2, 0, 1, 2]
)  # three blocks, two rows in one stratum, one in the next
STRATUM = np.array([0, 0, 0, 0, 0, 0, 1, 1, 1])


def test_blocks_move_as_a_whole_and_alike_in_all_strata() -> None:
    groups = exchangeable(BLOCK, STRATUM)
    found = permutations(groups)
    assert num_permutations(groups) == len(found) == 6
    assert found[0].tolist() == list(range(9))
    assert len({tuple(row) for row in found.tolist()}) == 6
    for row in found:
        assert (STRATUM[row] == STRATUM).all()
        moved = BLOCK[row]
        assert all(len(set(moved[one == BLOCK])) == 1 for one in range(3))


def test_blocks_that_lack_a_row_trade_places_with_their_like_only() -> None:
    kept = np.arange(9) != 8
    groups = exchangeable(BLOCK[kept], STRATUM[kept])
    assert num_permutations(groups) == 2
    swapped = permutations(groups)[1]
    assert swapped.tolist() == [2, 3, 0, 1, 4, 5, 7, 6]


def test_many_are_drawn_at_random_with_the_rows_as_they_stand_first() -> None:
    groups = exchangeable(np.arange(8), np.zeros(8, np.int64))
    found = permutations(groups, seed=1, num=500)
    assert found.shape == (500, 8) and found[0].tolist() == list(range(8))
    assert (np.sort(found, axis=1) == np.arange(8)).all()
    assert abs(found[1:].mean(0) - 3.5).max() < 4 * found.std() / 500**0.5
    again = permutations(groups, seed=1, num=500)
    assert (found == again).all() and (found != permutations(groups, seed=2, num=500)).any()
