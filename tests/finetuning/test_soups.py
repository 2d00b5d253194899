"""Tests for finetuning/soups.py: examples worked by hand, and what was published."""

from collections.abc import Mapping

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from core.errors import InputError
from finetuning.soups import check_shared_start, greedy_order, greedy_soup, swad_window

# Held-out accuracies (of 26,000 images) of models 0 to 9 and 41 to 50 of the published 72,
# mlfoundations/model-soups, individual_model_results.jsonl. 4 and 5 are the same.
PUBLISHED = {
    **{0: 0.7808076923076923, 1: 0.7984615384615384, 2: 0.7942692307692307},
    **{3: 0.8137307692307693, 4: 0.7852692307692307, 5: 0.7852692307692307},
    **{6: 0.8115769230769231, 7: 0.8015384615384615, 8: 0.8014615384615384},
    **{9: 0.8136923076923077, 41: 0.7907307692307692, 42: 0.8153846153846154},
    **{43: 0.8305, 44: 0.829, 45: 0.8138846153846154, 46: 0.8168076923076923},
    **{47: 0.8146538461538462, 48: 0.824076923076923, 49: 0.8152307692307692},
    **{50: 0.8139615384615385},
}


def test_the_published_order_follows_from_the_accuracies() -> None:
    models = list(PUBLISHED)
    order = [models[i] for i in greedy_order(list(PUBLISHED.values()))]

    assert order == [
        *(43, 44, 48, 46, 42, 49, 47, 50, 45, 3, 9, 6, 7, 8, 1, 2, 41),
        *(5, 4, 0),  # of the two that tie, the published code takes the later one
    ]


def soup_of(weights: list[float], target: float) -> tuple[tuple[int, ...], float]:
    """A greedy soup of single numbers; the nearer to the target, the better."""
    score = lambda state: -abs(state["w"].item() - target)
    states = [{"w": torch.tensor([w])} for w in weights]
    found = greedy_soup(states.__getitem__, [score(state) for state in states], score)
    return found.chosen, found.state["w"].item()


# Numbers, what they should be near to, and the greedy soup by hand.
SOUPS = [
    # Tried as 1, 2, -3, -5. With 2: 1.5, farther than 1. With -3: -1, as far. With -5: -2.
    ([1.0, 2.0, -3.0, -5.0], 0.0, (0,), 1.0),
    # 2; with -3: -0.5, nearer. With 4 as well: 1, farther. With 6: 5 / 3.
    ([6.0, -3.0, 4.0, 2.0], 0.0, (3, 1), -0.5),
    # 9; with 2: 5.5, nearer. With 10.5 as well: 43 / 6, farther.
    ([9.0, 2.0, 10.5], 6.0, (0, 1), 5.5),
    # 2; with -4: -1, nearer. With 6 as well: 4 / 3, farther.
    ([2.0, -4.0, 6.0], 0.0, (0, 1), -1.0),
    # 2; with -4: -1; with 4.5 as well: 2.5 / 3, nearer: all three count the same.
    ([2.0, -4.0, 4.5], 0.0, (0, 1, 2), 2.5 / 3),
]


@pytest.mark.parametrize(("weights", "target", "chosen", "mean"), SOUPS)
def test_greedy_soups_worked_by_hand(
    weights: list[float], target: float, chosen: tuple[int, ...], mean: float
) -> None:
    assert soup_of(weights, target) == (chosen, pytest.approx(mean))


@given(st.lists(st.integers(-20, 20), min_size=1, max_size=8), st.integers(-20, 20))
def test_a_greedy_soup_is_never_worse_than_the_best_and_is_a_mean(
    weights: list[int], target: int
) -> None:
    chosen, mean = soup_of([float(w) for w in weights], float(target))

    assert abs(mean - target) <= min(abs(w - target) for w in weights) + 1e-12
    assert mean == pytest.approx(sum(weights[i] for i in chosen) / len(chosen), abs=1e-12)


def start(value: float) -> Mapping[str, Tensor]:
    return {"fc.weight": torch.tensor([value]), "conv.weight": torch.ones(2)}


def test_diwa_takes_runs_from_one_start_only() -> None:
    check_shared_start([start(1.0), start(1.0)], ["a", "b"])

    with pytest.raises(InputError, match="'c' began at another fc.weight than 'a'"):
        check_shared_start([start(1.0), start(1.0), start(2.0)], ["a", "b", "c"])


# Losses, N_s, N_e, tolerance, and the window by hand.
SWAD = [
    # 1.0 at 2 is the first that the next two do not undercut; threshold 1.3 * 1.1 = 1.43; the
    # losses 5 and 6 are above it, and the next one as well: both in a row at 6 end it before 5.
    ([3.0, 2.0, 1.0, 1.1, 1.2, 1.5, 1.6, 1.0], (3, 2, 1.3), range(2, 5)),
    # The same with more patience: the last loss, below the threshold, keeps it going.
    ([3.0, 2.0, 1.0, 1.1, 1.2, 1.5, 1.6, 1.0], (3, 3, 1.3), range(2, 8)),
    # With a tolerance of 1.5 the threshold is 1.65.
    ([3.0, 2.0, 1.0, 1.1, 1.2, 1.5, 1.6, 1.0], (3, 2, 1.5), range(2, 8)),
    # A loss that keeps falling has no such point: the whole run.
    ([5.0, 4.0, 3.0, 2.0, 1.0], (3, 6, 1.3), range(5)),
    # A tie is no undercutting.
    ([1.0, 1.0, 1.0, 9.0], (3, 1, 1.3), range(3)),
    # Too few evaluations to judge.
    ([1.0, 2.0], (3, 6, 1.3), range(2)),
    # A patience of one starts at once and ends at the first loss above.
    ([1.0, 1.2, 1.4, 1.0], (1, 1, 1.3), range(2)),
]


@pytest.mark.parametrize(("losses", "options", "window"), SWAD)
def test_windows_worked_by_hand(losses: list[float], options: tuple, window: range) -> None:
    optimum, overfit, tolerance = options
    assert window == swad_window(
        losses, optimum_patience=optimum, overfit_patience=overfit, tolerance=tolerance
    )


@given(st.lists(st.floats(0.1, 10), min_size=1, max_size=30))
def test_a_window_lies_in_the_run_and_does_not_depend_on_the_unit(losses: list[float]) -> None:
    window = swad_window(losses)

    assert 0 <= window.start < window.stop <= len(losses)
    assert swad_window([4 * loss for loss in losses]) == window
