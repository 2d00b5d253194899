"""The runs of a study, group by group."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Literal

from analysis.runs import DROP_RATE
from finetuning.config import TrainConfig
from finetuning.sweep import RunConfig
from scripts.study.config import StudyConfig, base_run, settled
from scripts.study_options import held_out, linear, ordinary, seeds_by_environment

Group = Literal[
    "main", "fast", "size", "scratch", "poorer", "noise", "placement", "tangent", "linear"
]
RUNS = "runs"
FAST_HEAD = 10.0  # the paper's factor on the learning rate of the head
ENDS = (0.0, DROP_RATE)  # the rates that most claims compare


@dataclass(frozen=True)
class Planned:
    """One run, and what it is for.

    Attributes:
        group: `main` is the comparison; all others vary something else.
        config: The run.
    """

    group: Group
    config: RunConfig

    @property
    def name(self) -> str:
        """What its folder and its records are called."""
        return Path(self.config.output).name

    @property
    def trajectory(self) -> bool:
        """Whether checkpoints along the run are kept."""
        return isinstance(self.config, TrainConfig) and bool(self.config.checkpoint_every)


def environments(config: StudyConfig) -> tuple[str, ...]:
    """Those that were asked for, or the last ones, as many as the protocol holds out.

    Raises:
        InputError: See `held_out`.
    """
    envs = held_out(config)
    num = len(envs) if config.test_env else config.scale.num_envs
    return envs[-num:] if num else envs


def plan(config: StudyConfig, envs: Sequence[str]) -> list[Planned]:
    """All runs, each with a folder of its own; those that are slow come first."""
    planner = _Planner(config)
    seeds = seeds_by_environment(settled(config).seeds, envs)
    planned = [one for env in envs for seed in seeds[env] for one in planner.runs(env, seed)]
    return sorted(planned, key=lambda one: one.group != "tangent")


class _Planner:
    """Makes the runs of one environment and seed."""

    def __init__(self, config: StudyConfig) -> None:
        self.config, self.scale = settled(config), config.scale
        self.base, self.poorer = base_run(config), config.poorer_weights

    def runs(self, env: str, seed: int) -> Iterator[Planned]:
        """All groups."""
        scale, place = self.scale, {"test_env": (env,), "seed": seed}
        for cell, rate in product(range(len(scale.cells)), scale.drop_rates):
            yield self.run("main", place, rate, cell)
        for cell, rate in product(range(scale.fast_cells), ENDS):
            yield self.run("fast", place, rate, cell, head_lr_factor=FAST_HEAD)
        for share, rate in product(scale.fractions, scale.drop_rates):
            yield self.run("size", place, rate, label=f"size{share:g}", train_fraction=share)
        for rate in scale.scratch_rates:
            yield self.scratch(place, rate)
        if self.poorer:
            for factor, rate in ((1.0, 0.0), (FAST_HEAD, DROP_RATE)):  # naive, and advanced
                own = {"pretrained": self.poorer, "head_lr_factor": factor}
                yield self.run("poorer", place, rate, label=f"poorer{factor:g}", **own)
        for noise in scale.noises:
            yield self.run("noise", place, DROP_RATE, label=noise, noise=noise)
        for where, rate in product(scale.placements, scale.placed_rates):
            yield self.run("placement", place, rate, label=where, placement=where)
        for rate in scale.tangent_rates:
            yield self.run("tangent", place, rate, tangent=True)
        for rate in scale.drop_rates:
            yield self.linear(place, rate)

    def run(
        self,
        group: Group,
        place: dict[str, object],
        rate: float,
        cell: int = 0,
        label: str | None = None,
        lr_factor: float = 1.0,
        **own: object,
    ) -> Planned:
        """A run in a cell, with some options of its own."""
        assert self.base.lr is not None and self.base.weight_decay is not None
        factor, decay = self.scale.cells[cell]
        options = {
            "lr": self.base.lr * factor * lr_factor,
            "weight_decay": self.base.weight_decay * decay,
            "drop_rate": rate,
        }
        name = self._name(label or group, place, f"c{cell}", rate)
        advanced = group in {"fast", "poorer"} and rate == DROP_RATE
        along = advanced or (group == "main" and rate in ENDS)
        kept = self._trajectory() if along else {}
        run = ordinary(self.config, **(place | options | kept | own), output=name)
        return Planned(group, run)

    def _trajectory(self) -> dict[str, object]:
        every = self.base.eval_every
        return {"checkpoint_every": every, "average": (every,), "average_from": every}

    def scratch(self, place: dict[str, object], rate: float) -> Planned:
        """From random weights, whose BatchNorm has no statistics that could be kept."""
        own = {"pretrained": "none", "freeze_bn": False}
        return self.run("scratch", place, rate, lr_factor=self.scale.scratch_lr, **own)

    def linear(self, place: dict[str, object], rate: float) -> Planned:
        """The linear model (1), with the learning rates of all cells and its own decays."""
        assert self.base.lr is not None
        lrs = sorted({self.base.lr * factor for factor, _ in self.scale.cells})
        own = {"drop_rate": rate, "lr": self.config.linear_lr or tuple(lrs)}
        name = self._name("linear", place, "grid", rate)
        return Planned("linear", linear(self.config, **(place | own), output=name))

    def _name(self, label: str, place: dict[str, object], cell: str, rate: float) -> str:
        (env,) = place["test_env"]  # type: ignore[misc]
        name = f"{env}-{label}-{cell}-r{rate:g}-s{place['seed']}"
        return str(Path(self.config.output) / RUNS / name)


def by_environment(planned: Sequence[Planned]) -> list[list[Planned]]:
    """Runs that hold out the same, together, in the order of the first of each."""
    groups: dict[tuple[str, ...], list[Planned]] = {}
    for one in planned:
        groups.setdefault(one.config.test_env, []).append(one)
    return list(groups.values())


def network_runs(planned: Sequence[Planned], group: Group) -> list[TrainConfig]:
    """The runs of a group whose network moves."""
    found = [one.config for one in planned if one.group == group]
    return [run for run in found if isinstance(run, TrainConfig)]


def in_first_cell(config: StudyConfig, runs: Sequence[TrainConfig]) -> list[TrainConfig]:
    """Those with the learning rate and decay of the study, unscaled."""
    base = base_run(config)
    return [r for r in runs if (r.lr, r.weight_decay) == (base.lr, base.weight_decay)]


def timed_pairs(
    config: StudyConfig, planned: Sequence[Planned]
) -> list[tuple[TrainConfig, TrainConfig]]:
    """Plain runs and their partners with dropout, whose order alternates from pair to pair.

    What slows the machine down over time then slows both kinds down alike.
    """
    runs: dict[tuple[object, ...], list[TrainConfig]] = {}
    for run in network_runs(planned, "main"):
        if run.drop_rate in ENDS:
            key = (run.lr, run.weight_decay, run.seed, run.test_env)
            runs.setdefault(key, []).append(run)
    chosen = list(runs.values())[: config.scale.timed]
    return [(one, other) if i % 2 == 0 else (other, one) for i, (one, other) in enumerate(chosen)]
