"""How much of the paper's study is run: a budget that a person can choose.

Every protocol asks all claims; what it has fewer of is runs, and intervals are wider for it.
Learning rates and decays are factors on those of the study, so that one table serves all data.

| protocol | for | on the embedded digits |
|---|---|---|
| smoke | seeing that everything works | minutes on two cores |
| mini | a first answer | an hour or two on two cores |
| paper | the paper's grid, its steps and its rates | days; elsewhere a GPU |
"""

from dataclasses import dataclass
from typing import Literal

from analysis.runs import DROP_RATE

Name = Literal["smoke", "mini", "paper"]
Cell = tuple[float, float]  # factors on learning rate and weight decay


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """What is varied, and how far.

    The comparison holds every environment, cell, seed and rate; what goes beyond it is run in the
    first cell alone, the fast head in as many as it is given.

    Attributes:
        num_envs: Environments held out, each in turn; None for all.
        cells: Factors on learning rate and weight decay; the first is (1, 1).
        seeds: Of the first environment (see `seeds_by_environment`); each has its own hold-out,
            classifier, batches and masks.
        drop_rates: Dropout rates at the head, 0 and the paper's 0.9 among them.
        steps: Optimiser steps; None for the preset's.
        fast_cells: How many of the cells the fast head has, too.
        every: Steps between evaluations and between the checkpoints that ensembles and averages
            along a run are made of; None for the preset's.
        batch_size: Images per training environment and step.
        fractions: Shares of the training images, at every rate.
        scratch_rates: Dropout rates from random weights.
        scratch_lr: Factor on the learning rate from random weights.
        noises: Rivals of dropout, at rate 0.9.
        placements: Places of dropout other than the head.
        placed_rates: Rates there.
        tangent_rates: Rates of the tangent twins.
        samples: Images per environment and split that probes look at; 0 for all.
        rich_samples: The same for measures of richness, some of which look at images that two
            seeds with other hold-outs have in common.
        curve_rates: Rates of linear layers trained with dropout beside their closed form.
        curve_steps: Of that training; enough for the squared loss to be seen to converge.
        permutations: Of the images, for the null of feature creation.
        draws: Subsets of runs for each size of an ensemble.
        timed: Pairs of runs, with dropout and without, that have the machine to themselves.
    """

    num_envs: int | None = None
    cells: tuple[Cell, ...]
    seeds: tuple[int, ...]
    drop_rates: tuple[float, ...]
    fast_cells: int
    steps: int | None = None
    every: int | None = None
    batch_size: int = 32
    fractions: tuple[float, ...]
    scratch_rates: tuple[float, ...]
    scratch_lr: float = 1.0
    noises: tuple[str, ...]
    placements: tuple[str, ...]
    placed_rates: tuple[float, ...]
    tangent_rates: tuple[float, ...] = (0.0, DROP_RATE)
    samples: int = 0
    rich_samples: int = 0
    curve_rates: tuple[float, ...]
    curve_steps: int = 6_000
    permutations: int = 20
    draws: int = 10
    timed: int


_NOISES = ("gaussian", "masksembles", "block", "batch", "dropconnect", "mixout")
_GRID = ((1.0, 1.0), (1.0, 0.5), (1.0, 0.1), (0.5, 1.0), (0.5, 0.5), (0.5, 0.1))
_RATES = (0.0, 0.5, DROP_RATE, 0.95)

PROTOCOLS: dict[Name, Protocol] = {
    "smoke": Protocol(
        num_envs=2,
        cells=((1.0, 1.0), (0.3, 1.0)),
        seeds=(0, 1),
        drop_rates=(0.0, 0.5, DROP_RATE),
        fast_cells=1,
        steps=20,
        every=10,
        batch_size=8,
        fractions=(0.25,),
        scratch_rates=(0.0, DROP_RATE),
        noises=("gaussian",),
        placements=("stages",),
        placed_rates=(0.5,),
        tangent_rates=(0.0,),
        samples=64,
        curve_rates=(DROP_RATE,),
        curve_steps=5_000,
        permutations=5,
        draws=4,
        timed=3,
    ),
    "mini": Protocol(
        cells=((1.0, 1.0), (1.0, 0.1), (0.5, 1.0)),
        seeds=(0, 1),
        drop_rates=(0.0, 0.5, DROP_RATE),
        fast_cells=1,
        steps=200,
        every=40,
        batch_size=16,
        fractions=(0.1,),
        scratch_rates=(0.0, DROP_RATE),
        noises=("gaussian", "masksembles", "mixout"),
        placements=("stages", "blocks"),
        placed_rates=(0.5,),
        samples=256,
        curve_rates=(DROP_RATE,),
        timed=6,
    ),
    "paper": Protocol(  # 2403.00946, section 3 and appendix A
        cells=_GRID,
        seeds=(0, 1, 2),
        drop_rates=_RATES,
        fast_cells=len(_GRID),
        fractions=(0.1, 0.3),
        scratch_rates=_RATES,
        scratch_lr=5.0,
        noises=_NOISES,
        placements=("stages", "blocks"),
        placed_rates=(0.1, 0.5, DROP_RATE),
        tangent_rates=_RATES,
        samples=1_000,
        rich_samples=1_000,
        curve_rates=(0.5, DROP_RATE, 0.95),
        timed=12,
    ),
}
