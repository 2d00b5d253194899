r"""Which weights enter an average: greedy soups, DiWA's shared start, SWAD's window.

Shapes: M models, T evaluations along a run.

References:
    | Model soups (Wortsman et al., 2022), https://arxiv.org/abs/2203.05482
    | Diverse Weight Averaging (DiWA; Rame et al., 2022), https://arxiv.org/abs/2205.09739
    | SWAD: Domain Generalization by Seeking Flat Minima (Cha et al., 2021), Algorithm 1
    | https://arxiv.org/abs/2102.08604
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from core.errors import InputError
from finetuning.averaging import RunningAverage, State

# SWAD's own values, for losses measured every so many steps.
OPTIMUM_PATIENCE, OVERFIT_PATIENCE, TOLERANCE = 3, 6, 1.3


@dataclass(frozen=True)
class GreedySoup:
    """A greedy soup.

    Attributes:
        chosen: Positions of the models in it, in the order in which they entered.
        state: Their average.
        scores: The score of every soup that was tried, by the position of its newest model.
    """

    chosen: tuple[int, ...]
    state: dict[str, Tensor]
    scores: dict[int, float]


def greedy_order(accuracies: Sequence[float]) -> list[int]:
    """The order in which models are tried: by held-out accuracy, the best first.

    Of models that tie, the later one comes first: the published code sorts upwards and reverses.

    Example:
        >>> greedy_order([0.7, 0.9, 0.8, 0.8])
        [1, 3, 2, 0]
    """
    return sorted(range(len(accuracies)), key=accuracies.__getitem__)[::-1]


def greedy_soup(
    load: Callable[[int], State],
    accuracies: Sequence[float],
    score: Callable[[Mapping[str, Tensor]], float],
) -> GreedySoup:
    """Add one model after the other to an average, and keep it where the held-out score rises.

    A model stays only if it makes the soup strictly better. With the accuracies of DiWA's runs
    this is DiWA-restricted.

    Args:
        load: The weights of the model at a position.
        accuracies: The held-out accuracy of every model alone; also the first soup's score.
        score: The held-out accuracy of an average.
    """
    first, *others = greedy_order(accuracies)
    soup = RunningAverage()
    soup.update(load(first))
    chosen, best, scores = [first], accuracies[first], {first: accuracies[first]}
    for position in others:
        candidate = RunningAverage({n: t.clone() for n, t in soup.state.items()}, soup.count)
        candidate.update(load(position))
        scores[position] = score(candidate.state)
        if scores[position] > best:
            soup, best = candidate, scores[position]
            chosen.append(position)
    return GreedySoup(tuple(chosen), soup.state, scores)


def check_shared_start(starts: Sequence[State], names: Sequence[str]) -> None:
    """Refuse runs that did not begin at the same weights, classifier included, as DiWA's do.

    Raises:
        InputError: With the first run that began elsewhere.
    """
    for name, start in zip(names[1:], starts[1:], strict=True):
        differing = [
            n for n in starts[0] if n not in start or not torch.equal(starts[0][n], start[n])
        ]
        if differing:
            raise InputError(
                f"'{name}' began at another {differing[0]} than '{names[0]}'; DiWA averages runs "
                "that share their start, classifier included: train them with --head_start "
                "linear_probe and one --split_seed, or choose --method uniform_soup"
            )


def swad_window(
    losses: Sequence[float],
    *,
    optimum_patience: int = OPTIMUM_PATIENCE,
    overfit_patience: int = OVERFIT_PATIENCE,
    tolerance: float = TOLERANCE,
) -> range:
    r"""Positions of the evaluations between which SWAD averages.

    It starts at the first loss that none of the following :math:`N_s - 1` undercuts. Their mean,
    all :math:`N_s` of them, times the tolerance is the threshold; it ends before the first
    :math:`N_e` losses in a row that all exceed it, and otherwise with the run. Where no loss is
    such a first one, it is the whole run.

    Args:
        losses: Held-out loss at every evaluation, in order.
        optimum_patience: :math:`N_s`.
        overfit_patience: :math:`N_e`.
        tolerance: :math:`r`.

    Example:
        >>> swad_window([3.0, 2.0, 1.0, 1.1, 1.2, 9.0, 9.0], overfit_patience=2)
        range(2, 5)
    """
    start, threshold = 0, None
    for last in range(len(losses)):
        recent = losses[max(0, last - optimum_patience + 1) : last + 1]
        if threshold is None:
            if len(recent) == optimum_patience and recent[0] == min(recent):
                start = last - optimum_patience + 1
                threshold = tolerance * sum(recent) / optimum_patience
            continue
        first = last - overfit_patience + 1
        if first > start and min(losses[first : last + 1]) > threshold:
            return range(start, first)
    return range(start, len(losses))
