"""The runs of the study: a comparison over environments, seeds and rates, and a grid."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from finetuning.config import TrainConfig, resolve
from finetuning.sweep import RunConfig
from scripts.linear_study.config import LinearStudyConfig
from scripts.study_options import linear, ordinary, seeds_by_environment


@dataclass(frozen=True)
class Trained:
    """An ordinary run and the counterparts that are trained beside it.

    Attributes:
        group: What is probed together: those that hold out one environment, or `GRID`.
        run: The ordinary run.
        twins: Its counterparts.
    """

    group: str
    run: TrainConfig
    twins: tuple[RunConfig, ...]


GRID = "grid"


def comparison(config: LinearStudyConfig, envs: Sequence[str]) -> list[Trained]:
    """Ordinary, tangent and linear (1) at every environment, seed and rate."""
    return [
        _with_twins(config, env, seed, rate)
        for env, seeds in seeds_by_environment(config.seeds, envs).items()
        for seed, rate in product(seeds, config.drop_rates)
    ]


def _with_twins(config: LinearStudyConfig, env: str, seed: int, rate: float) -> Trained:
    name = Path(config.output) / "runs" / f"{env}-s{seed}-r{rate:g}"
    options = {"test_env": (env,), "seed": seed, "drop_rate": rate}
    run = ordinary(config, output=str(name), **options)
    tangent = ordinary(config, output=f"{name}-tangent", tangent=True, **options)
    model = linear(config, output=f"{name}-linear", **options)
    return Trained(f"{env} held out", run, (tangent, model))


def grid(config: LinearStudyConfig, env: str) -> list[Trained]:
    """Ordinary and tangent over learning rate, steps and set size; from scratch at the end.

    From scratch BatchNorm has no statistics to be kept, around which a network could be linear in
    its weights, and there is no tangent twin.
    """
    return [trained for seed in config.seeds for trained in _of_seed(config, env, seed)]


def _of_seed(config: LinearStudyConfig, env: str, seed: int) -> Iterator[Trained]:
    base = resolve(ordinary(config, test_env=(env,), seed=seed, drop_rate=0.0))
    folder = Path(config.output) / GRID
    places = product(config.lr_factors, config.step_factors, config.train_fractions)
    for lr, steps, fraction in places:
        run = scaled(base, folder, lr=lr, steps=steps, fraction=fraction)
        yield Trained(GRID, run, (_tangent(run),))
    last = max(config.step_factors)
    yield Trained(GRID, scaled(base, folder, steps=last, pretrained="none", freeze_bn=False), ())


def scaled(
    base: TrainConfig,
    folder: Path,
    *,
    lr: float = 1.0,
    steps: float = 1.0,
    fraction: float = 1.0,
    **own: object,
) -> TrainConfig:
    """A run with multiples of another's learning rate and steps, its schedule stretched along.

    Example:
        >>> base = resolve(TrainConfig(seed=1))
        >>> run = scaled(base, Path("grid"), lr=0.1, steps=0.25)
        >>> run.output, run.steps, run.milestones
        ('grid/lr0.001-n100-f1-s1', 100, (75,))
    """
    assert base.lr is not None and base.steps is not None and base.eval_every is not None
    num = max(1, round(base.steps * steps))
    start = "scratch-" if own.get("pretrained") == "none" else ""
    changed = {
        "lr": base.lr * lr,
        "steps": num,
        "milestones": tuple(round(m * steps) for m in base.milestones or ()),
        "eval_every": min(base.eval_every, num),
        "train_fraction": fraction,
        "output": str(folder / f"{start}lr{base.lr * lr:g}-n{num}-f{fraction:g}-s{base.seed}"),
    }
    return TrainConfig(**(vars(base) | changed | own))  # type: ignore[arg-type]


def _tangent(run: TrainConfig) -> TrainConfig:
    return TrainConfig(**(vars(run) | {"output": f"{run.output}-tangent", "tangent": True}))


def configs(trained: Sequence[Trained]) -> list[RunConfig]:
    """Every run to be made, the slow ones first, so that none is left alone at the end."""
    runs = [run for one in trained for run in (one.run, *one.twins)]
    return sorted(runs, key=lambda run: (not getattr(run, "tangent", False), -(run.steps or 0)))
