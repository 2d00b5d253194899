"""Average the weights of finished runs, or of one run along its way, into a run folder.

    python -m finetuning.average --runs runs/a runs/b runs/c --method greedy_soup --output soup
    python -m finetuning.average --runs runs/a --method swad --output runs/a-swad

The folder is read like a run's: `init` (the mean of the runs' starts), `final` (the average),
metrics, and `config.yaml` with the first run's options, the method and its own options, the runs,
and how many sets of weights were averaged (`ensemble_size`). `trace.jsonl` has a line for
everything that was tried, with its i.i.d. and o.o.d. accuracy. Only i.i.d. accuracy or loss ever
decides.
"""

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import yaml
from torch import Tensor

from analysis.intervals import proportion_interval
from core.checkpoints import save_state_dict
from core.command_line import as_yaml, run
from core.errors import InputError
from core.outputs import check_new, new_folder
from finetuning.averaging import average, interpolate
from finetuning.config import TrainConfig
from finetuning.evaluation import Correct, estimate_statistics, evaluate, held_out_loss, summary
from finetuning.members import (
    DEFAULTS,
    Member,
    Weights,
    check_used,
    prepare_members,
    read_members,
)
from finetuning.setup import Setup
from finetuning.soups import check_shared_start, greedy_soup, swad_window

OF_RUNS = ("uniform_soup", "greedy_soup", "diwa")
USED = {  # options by method
    **dict.fromkeys(OF_RUNS, ("weights",)),
    **{"trajectory": ("first_step",), "swad": (), "wise": ("weights", "alphas")},
}
USERS = {
    "weights": "averages of several runs and wise",
    "first_step": "trajectory (swad sees all steps that were kept)",
    "alphas": "wise",
}
ALPHAS = tuple(round(0.1 * i, 1) for i in range(11))

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Mixture:
    """What a method has averaged.

    Attributes:
        state: The average.
        size: How many sets of weights are in it.
    """

    state: Mapping[str, Tensor]
    size: int


@dataclass(frozen=True, kw_only=True)
class AverageConfig:
    """Options of `python -m finetuning.average`."""

    runs: tuple[str, ...] = ()
    """Finished run folders; several for the soups and diwa, one for the others."""
    method: Literal["uniform_soup", "greedy_soup", "diwa", "trajectory", "swad", "wise"] = (
        "uniform_soup"
    )
    """uniform_soup (all runs), greedy_soup (while i.i.d. accuracy rises), diwa (all, of runs with
    a shared start), trajectory (all kept steps of a run), swad (steps around the lowest i.i.d.
    loss), wise (between start and end, by i.i.d. accuracy)."""
    output: str = "runs/average"
    """Folder to create."""
    weights: Weights | None = None
    """Which weights of a run: after the last step (`final`, the default), or of the `best` i.i.d.
    accuracy; for all methods but trajectory and swad."""
    first_step: int | None = None
    """First step of a trajectory (default: 300); SWAD sees all that were kept."""
    alphas: tuple[float, ...] | None = None
    """Points of the WiSE path, 0 at the start of the run and 1 at its end (default: every 0.1)."""
    device: str = "auto"
    """`cpu`, `cuda`, `cuda:1`, `mps`; `auto` takes a GPU where there is one."""
    workers: int = 0
    """Processes that decode images; 0 does it in the main process."""

    def __post_init__(self) -> None:
        several = self.method in OF_RUNS
        if self.runs and several != (len(self.runs) > 1):
            raise InputError(
                f"--runs names {len(self.runs)}; --method {self.method} averages "
                f"{'several runs' if several else 'along one run'}: give "
                f"{'more' if several else 'one'}, or choose another method"
            )
        used = USED[self.method]
        check_used({n: getattr(self, n) for n in USERS}, used, f"--method {self.method}", USERS)
        if self.alphas is not None and not (self.alphas and all(0 <= a <= 1 for a in self.alphas)):
            raise InputError(f"--alphas is {self.alphas}; numbers from 0 to 1 were expected")

    @property
    def own(self) -> dict[str, Any]:
        """The options that the method uses, what was left out filled in."""
        found = {name: getattr(self, name) for name in USED[self.method]}
        defaults = DEFAULTS | {"alphas": ALPHAS}
        return {n: defaults[n] if value is None else value for n, value in found.items()}


@dataclass
class Kitchen:
    """Measures averages: the runs, their images, and what has been tried so far."""

    config: AverageConfig
    members: list[Member]
    training: TrainConfig
    setup: Setup
    trace: list[dict[str, Any]] = field(default_factory=list)

    def measure(self, state: Mapping[str, Tensor], **what: object) -> dict[str, Any]:
        """Accuracies of weights as they are, as a line of the trace."""
        self.load(state)
        found = summary(evaluate(self.training, self.setup, self.setup.model), self.setup)
        self.trace.append(what | found)
        return self.trace[-1]

    def measure_average(self, state: Mapping[str, Tensor], **what: object) -> dict[str, Any]:
        """Accuracies of an average, as a line of the trace."""
        return self.measure(self.finished(state), **what)

    def finished(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The average with BatchNorm statistics of its own, unless they were frozen."""
        self.load(state)
        estimate_statistics(self.training, self.setup, self.setup.model)
        return {n: t.detach().cpu().clone() for n, t in self.setup.model.state_dict().items()}

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Put weights into the network."""
        self.setup.model.load_state_dict(state)


def make_average(config: AverageConfig) -> Path:
    """Average as configured and return the folder.

    Raises:
        InputError: If the runs do not fit each other or the method, the images have changed, or
            the output exists.
    """
    check_new(Path(config.output))
    members = read_members(config.runs)
    kitchen = Kitchen(config, members, *prepare_members(members, config.device, config.workers))
    mixture = METHODS[config.method](kitchen)
    state = kitchen.finished(mixture.state)
    kitchen.load(state)
    correct = evaluate(kitchen.training, kitchen.setup, kitchen.setup.model)
    _write(kitchen, Mixture(state, mixture.size), summary(correct, kitchen.setup))
    for line in sentences(correct, kitchen.setup):
        log.info("%s", line)
    return Path(config.output)


def _uniform(kitchen: Kitchen) -> Mixture:
    weights, members = kitchen.config.own["weights"], kitchen.members
    for member in members:
        kitchen.measure(member.state(weights), run=str(member.path), chosen=True)
    return Mixture(average(member.state(weights) for member in members), len(members))


def _diwa(kitchen: Kitchen) -> Mixture:
    starts = [member.state("init") for member in kitchen.members]
    check_shared_start(starts, [str(member.path) for member in kitchen.members])
    return _uniform(kitchen)


def _greedy(kitchen: Kitchen) -> Mixture:
    load = lambda position: kitchen.members[position].state(kitchen.config.own["weights"])
    paths = [str(member.path) for member in kitchen.members]
    alone = [kitchen.measure(load(i), run=path) for i, path in enumerate(paths)]
    soup = greedy_soup(
        load,
        [line["iid_accuracy"] for line in alone],
        lambda state: kitchen.measure_average(state, soup=True)["iid_accuracy"],
    )
    for position, line in enumerate(alone):
        line |= {"soup_score": soup.scores[position], "chosen": position in soup.chosen}
    log.info("chosen, in this order: %s", ", ".join(paths[i] for i in soup.chosen))
    return Mixture(soup.state, len(soup.chosen))


def _trajectory(kitchen: Kitchen) -> Mixture:
    (member,) = kitchen.members
    steps = member.trajectory(kitchen.config.own["first_step"])
    for step, name in steps:
        kitchen.measure(member.state(name), step=step, chosen=True)
    return Mixture(average(member.state(name) for _, name in steps), len(steps))


def _swad(kitchen: Kitchen) -> Mixture:
    (member,) = kitchen.members
    steps = member.trajectory(first_step=1)
    losses = []
    for step, name in steps:
        line = kitchen.measure(member.state(name), step=step)
        losses.append(held_out_loss(kitchen.training, kitchen.setup, kitchen.setup.model))
        line["iid_loss"] = losses[-1]
    window = swad_window(losses)
    for position, line in enumerate(kitchen.trace):
        line["chosen"] = position in window
    inside = [steps[position] for position in window]
    log.info(
        "from step %d to step %d, %d sets of weights", inside[0][0], inside[-1][0], len(inside)
    )
    return Mixture(average(member.state(name) for _, name in inside), len(inside))


def _wise(kitchen: Kitchen) -> Mixture:
    (member,) = kitchen.members
    own = kitchen.config.own
    start, end = member.state("init"), member.state(own["weights"])
    for alpha in own["alphas"]:
        line = kitchen.measure_average(interpolate(start, end, alpha), alpha=alpha, chosen=False)
        shown = {n: line[n] for n in ("iid_accuracy", "ood_accuracy") if line[n] is not None}
        log.info("alpha %g: %s", alpha, ", ".join(f"{n} {v:.3f}" for n, v in shown.items()))
    best = max(kitchen.trace, key=lambda line: line["iid_accuracy"])
    best["chosen"] = True
    alpha = best["alpha"]
    return Mixture(interpolate(start, end, alpha), (alpha < 1) + (alpha > 0))


METHODS = {
    "uniform_soup": _uniform,
    "greedy_soup": _greedy,
    "diwa": _diwa,
    "trajectory": _trajectory,
    "swad": _swad,
    "wise": _wise,
}


def _write(kitchen: Kitchen, mixture: Mixture, accuracies: dict[str, Any]) -> None:
    config, first = kitchen.config, kitchen.members[0]
    step = first.config.steps
    said = yaml.safe_load(as_yaml(first.config)) | {
        "output": config.output,
        "average_method": config.method,
        "averaged_runs": [str(member.path) for member in kitchen.members],
        "ensemble_size": mixture.size,
        **_told(config.own),
    }
    metadata = {"model": first.config.model, "step": step, "method": config.method}
    init = average(member.state("init") for member in kitchen.members)
    line = {"step": step, "lr": first.config.lr, "train_loss": None, **accuracies}
    with new_folder(Path(config.output)) as folder:
        text = yaml.safe_dump(said, sort_keys=False, allow_unicode=True)
        (folder / "config.yaml").write_text(text, encoding="utf-8")
        (folder / "run.json").write_text(json.dumps(first.facts, indent=2) + "\n")
        (folder / "metrics.jsonl").write_text(json.dumps(line) + "\n")
        tried = "".join(json.dumps(line) + "\n" for line in kitchen.trace)
        (folder / "trace.jsonl").write_text(tried)
        save_state_dict(init, folder / "init.safetensors", metadata | {"step": 0})
        save_state_dict(mixture.state, folder / "final.safetensors", metadata)


def _told(own: Mapping[str, Any]) -> dict[str, Any]:
    """Options of a method as YAML takes them: `averaged_weights`, `averaged_first_step`, ..."""
    plain = {name: list(v) if isinstance(v, tuple) else v for name, v in own.items()}
    return {f"averaged_{name}": value for name, value in plain.items()}


def sentences(correct: Mapping[str, Correct], setup: Setup) -> list[str]:
    """Accuracy in every environment, with Wilson's interval over its images."""
    rows = {name: proportion_interval(c.astype(np.float64)) for name, c in correct.items()}
    return [
        f"{'i.i.d.' if name in setup.train else 'o.o.d.'} {name}: {row['value']:.3f} "
        f"[{row['low']:.3f}, {row['high']:.3f}] of {row['num_examples']} images"
        for name, row in rows.items()
    ]


def main() -> None:
    """Entry point of `python -m finetuning.average`."""
    run(lambda config: log.info("run folder: %s", make_average(config)), AverageConfig)


if __name__ == "__main__":
    main()
