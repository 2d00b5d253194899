"""Tests for analysis/paired_examples.py: its formula, its coverage, few and equal examples."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from analysis.paired_examples import paired_difference

BITS = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=40)


@given(BITS)
def test_it_is_walds_interval_with_half_an_example_more_in_every_cell(
    pairs: list[tuple[bool, bool]],
) -> None:
    first, second = np.array(pairs, dtype=float).T
    row = paired_difference(first, second)
    # The four half examples have differences 1, 0, 0 and -1.
    differences = np.concatenate([first - second, [1, 0, 0, -1]])
    shares = np.concatenate([np.ones(len(pairs)), np.full(4, 0.5)]) / (len(pairs) + 2)
    mean = shares @ differences
    stderr = np.sqrt(shares @ (differences - mean) ** 2 / (len(pairs) + 2))
    half = norm.ppf(0.975) * stderr
    assert row["value"] == pytest.approx(first.mean() - second.mean(), abs=1e-12)
    assert row["stderr"] == pytest.approx(stderr)
    assert row["low"] == pytest.approx(max(-1, mean - half))
    assert row["high"] == pytest.approx(min(1, mean + half))
    assert row["low"] <= row["value"] + 1e-12
    assert row["value"] <= row["high"] + 1e-12
    assert row["num_examples"] == len(pairs)


@pytest.mark.parametrize("num", [20, 100])
@pytest.mark.parametrize(
    "cells", [(0.7, 0.15, 0.05, 0.1), (0.9, 0.05, 0.05, 0), (0.5, 0.3, 0, 0.2)]
)
def test_the_interval_covers_the_truth(num: int, cells: tuple[float, ...]) -> None:
    rng, hits, repeats = np.random.default_rng(0), 0, 1000
    both = np.array([(1.0, 1), (1, 0), (0, 1), (0, 0)])
    for _ in range(repeats):
        first, second = both[rng.choice(4, num, p=cells)].T
        row = paired_difference(first, second)
        hits += row["low"] <= cells[1] - cells[2] <= row["high"]
    # Four standard errors of a coverage of 0.95 are 0.03; above, the interval is conservative.
    assert hits / repeats >= 0.95 - 0.03


def test_pairing_tells_apart_what_single_intervals_do_not() -> None:
    second = np.tile([1.0, 0.0], 50)
    first = second.copy()
    first[1:20:2] = 1  # right on ten more, wrong on no other
    assert paired_difference(first, second)["low"] > 0
    shuffled = np.random.default_rng(0).permutation(first)
    assert paired_difference(shuffled, second)["low"] < 0
    swapped = paired_difference(second, first)
    assert swapped["high"] == -paired_difference(first, second)["low"]
