"""Studies simulated so that every claim holds, or that the opposite of every claim does.

`gain` is by how much dropout of 0.9 is better out of distribution, `extra` by how much averages
are, and so on: a world states each number that a claim is about.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from analysis.runs import check_runs
from tests.analysis.study_data import grid

ENVS, CELLS, SEEDS = ("ink", "photo", "rotated"), ("a", "b", "c", "d"), (0, 1, 2)
RATES = (0.0, 0.5, 0.9)


@dataclass(frozen=True, kw_only=True)
class World:
    """What is true; accuracies out of distribution unless they say otherwise.

    The defaults are the claims of the paper, `OPPOSITE` their negations, `NOTHING` no effects.
    """

    ood: tuple[float, float, float] = (0.50, 0.52, 0.54)  # at `RATES`
    large: tuple[float, float, float] = (0.50, 0.54, 0.52)  # the same at a larger training set
    scratch: tuple[float, float, float] = (0.30, 0.27, 0.24)
    dropout_iid: float = -0.01  # of dropout, beside 0.9
    ensemble: float = 0.005  # on plain runs
    average: float = 0.005
    on_dropout: float = 0.0  # of either on dropout
    fast_head: float = 0.0  # on dropout
    fast_plain: float = 0.01  # on plain runs
    rich: float = 0.10  # of richer weights
    linear: float = 0.0  # of linear fine-tuning
    gap: tuple[float, float] = (0.005, 0.08)  # mild, aggressive
    barrier: float = 0.0
    probe: float = 0.002
    r2: tuple[float, float] = (0.8, 0.6)  # at the small training set, at the large one
    richness: float = 0.05
    ridge: float = 0.0
    spread: float = 0.0  # of the cells of dropout
    seconds: float = 1.0  # ratio


CLAIMED = World()
OPPOSITE = World(
    ood=(0.54, 0.52, 0.50),
    large=(0.50, 0.52, 0.54),
    scratch=(0.24, 0.27, 0.30),
    dropout_iid=0.04,
    ensemble=0.005,
    average=-0.03,
    on_dropout=0.06,
    fast_head=0.05,
    rich=-0.10,
    linear=-0.05,
    gap=(0.08, 0.005),
    barrier=0.05,
    probe=-0.05,
    r2=(0.2, 0.5),
    richness=-0.05,
    ridge=0.05,
    spread=0.012,
    seconds=1.5,
)
NOTHING = World(
    ood=(0.5, 0.5, 0.5),
    large=(0.5, 0.5, 0.5),
    scratch=(0.5, 0.5, 0.5),
    ensemble=0.0,
    average=0.0,
    fast_plain=0.0,
    rich=0.0,
    gap=(0.02, 0.02),
    probe=-0.005,
    r2=(0.5, 0.5),
    richness=0.0,
    barrier=0.005,
)


def simulated(world: World, *, seed: int = 0, noise: float = 0.001) -> pd.DataFrame:
    """All runs of a study in which every claim can be tested."""
    generator = np.random.default_rng(seed)
    parts = [*_runs(world), *_averages(world), *_others(world)]
    frame = pd.concat(parts, ignore_index=True)
    measured = ["ood", "iid", *(name for name in MEASURES if name in frame)]
    for name in measured:
        frame[name] += noise * generator.standard_normal(len(frame))
    # Runs of one environment and seed have more in common than that, which cancels in pairs.
    shared = frame.groupby(["env", "seed"]).ngroup().to_numpy()
    frame["ood"] += 5 * noise * generator.standard_normal(shared.max() + 1)[shared]
    frame["seconds"] *= np.exp(noise * generator.standard_normal(len(frame)))
    return check_runs(frame)


MEASURES = (
    "interpolation_gap_max",
    "barrier",
    "creation_probe_difference",
    "creation_r2",
    "creation_r2_null",
    "rate_accuracy_difference",
    "subset_accuracy",
    "nc1",
    "cdnv",
    "target_probe_accuracy",
    "concatenation_gain",
)


def _base(**columns: object) -> pd.DataFrame:
    """Runs of the main setting."""
    setting = {"steps": 100, "train_size": 1000, "pretrained": "rich", "pretraining": 2.0}
    setting |= {"seconds": 10.0, "iid": 0.9, "selection": "final", "method": "erm"}
    frame = grid(envs=ENVS, cells=CELLS, seeds=SEEDS, **(setting | columns))
    lr = frame["cell"].map(dict(zip(CELLS, (1e-4, 2e-4, 5e-4, 1e-3), strict=True)))
    iid = frame["iid"] + 0.01 * np.log10(lr / 1e-3)  # larger rates are better, i.i.d. and o.o.d.
    return frame.assign(lr=lr, iid=iid, ood=frame["ood"] + 0.01 * np.log10(lr / 1e-3))


def _runs(world: World) -> list[pd.DataFrame]:
    """Single runs at all rates, with their measures."""
    mild, strong = world.gap
    number = {cell: i for i, cell in enumerate(CELLS)}
    parts = []
    for rate, ood in zip(RATES, world.ood, strict=True):
        method = "dropout" if rate else "erm"
        iid = 0.9 + world.dropout_iid * (rate == 0.9)
        frame = _base(method=method, drop_rate=rate, ood=ood, iid=iid)
        frame["ood"] += world.spread * (rate == 0.9) * (frame["cell"].map(number) - 1.5)
        richness = 0.5 + world.richness * (rate == 0.9)
        names = ("subset_accuracy", "nc1", "cdnv", "target_probe_accuracy")
        frame = frame.assign(**dict.fromkeys(names, richness), concatenation_gain=-richness)
        if rate == 0:
            measures = {"barrier": world.barrier, "creation_probe_difference": world.probe}
            measures |= {"creation_r2": world.r2[0], "creation_r2_null": 0.3}
            gap = frame["cell"].map(number) / 3 * (strong - mild) + mild
            frame = frame.assign(**measures, interpolation_gap_max=gap)
        else:
            frame = frame.assign(rate_accuracy_difference=world.ridge)
            frame["seconds"] *= world.seconds
        parts.append(frame)
    return parts


def _averages(world: World) -> list[pd.DataFrame]:
    """Averages of the runs at rates 0 and 0.9, and those of all runs of an environment."""
    parts = []
    for rate, ood in ((0.0, world.ood[0]), (0.9, world.ood[2])):
        gains = {"ensemble": world.ensemble, "average": world.average}
        for kind, gain in gains.items():
            ahead = world.on_dropout if rate else gain
            columns = {"method": f"{kind}_trajectory", "drop_rate": rate, "ood": ood + ahead}
            parts.append(_base(**columns, iid=0.9 + (0 if rate else gain)))
            if rate == 0:
                final = _base(method=f"{kind}_final", ood=ood + gain)
                parts.append(final.drop_duplicates("env").assign(cell="all", seed=-1))
    return parts


def _others(world: World) -> list[pd.DataFrame]:
    """A fast head, poorer weights, a larger training set, random weights, linear models."""
    at = dict(zip(RATES, world.ood, strict=True))
    dropout = {"method": "dropout", "drop_rate": 0.9}
    fast = {"head_lr_factor": 10.0}
    advanced = {"method": "average_trajectory", "drop_rate": 0.9, **fast}
    poor = {"pretrained": "poor", "pretraining": 1.0}
    parts = [
        _base(**dropout, **fast, ood=at[0.9] + world.fast_head),
        _base(**fast, ood=at[0.0] + world.fast_plain),
        _base(**advanced, **poor, ood=at[0.0] - world.rich),
        _base(method="linear", ood=at[0.0] + world.linear, iid=0.9 + world.linear),
    ]
    for rate, large, scratch in zip(RATES, world.large, world.scratch, strict=True):
        columns = {"method": "dropout" if rate else "erm", "drop_rate": rate}
        # Of fewer cells than the main setting, and better for more images.
        more = _base(**columns, train_size=100_000, ood=large + 0.1).query("cell != 'd'")
        parts.append(more.assign(creation_r2=world.r2[1]) if not rate else more)
        parts.append(_base(**columns, from_scratch=True, ood=scratch, iid=scratch + 0.3))
    return parts
