"""Let finished runs, or the kept steps of one run, answer together: accuracy by ensemble size.

    python -m finetuning.ensemble --runs runs/a runs/b runs/c --output runs/ensemble
    python -m finetuning.ensemble --runs runs/a --trajectory --output runs/a-trajectory

Four ways to answer together: the mean of logits (the paper's), of probabilities, of features under
the mean classifier, and a classifier fitted to all features side by side. The folder is a record:
`accuracy` by way (column `layer`), environment and number of members (column `at`).
"""

import functools
import itertools
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Int64
from torch import Tensor

from analysis.intervals import Row
from core.command_line import run
from core.errors import InputError
from core.records import Metric, Record, check_new, new_folder, provenance, tidy
from finetuning.answers import Answers, Panel, ask
from finetuning.ensembles import (
    ConcatenationHead,
    concatenation,
    mean_logits,
    mean_probabilities,
    shared_head,
    size_interval,
    subsets,
)
from finetuning.members import (
    DEFAULTS,
    Member,
    Weights,
    check_used,
    prepare_members,
    read_members,
)

Members = tuple[int, ...]
Classes = Int64[np.ndarray, " N"]

ACCURACY = Metric(
    title="accuracy of the ensemble",
    direction="higher",
    low=0,
    high=1,
    coordinate="members",
    reference="https://arxiv.org/abs/2403.00946",
)

USERS = {"first_step": "--trajectory", "weights": "several runs"}

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class EnsembleConfig:
    """Options of `python -m finetuning.ensemble`."""

    runs: tuple[str, ...] = ()
    """Finished run folders: the members; with --trajectory one of them."""
    trajectory: bool = False
    """The members are the weights that one run kept along its way (--checkpoint_every)."""
    first_step: int | None = None
    """First step of a trajectory (default: 300)."""
    weights: Weights | None = None
    """Which weights of several runs: after the last step (`final`, the default), or of the `best`
    i.i.d. accuracy."""
    augment_iid: bool = False
    """Show every member its own augmentation of the i.i.d. images, as the released code did: a
    test-time augmentation that single networks do not get."""
    subsets: int = 50
    """How many ensembles of each size are looked at, where there are more."""
    output: str = "runs/ensemble"
    """Folder to create."""
    seed: int = 0
    """Seed of the subsets and of the intervals."""
    device: str = "auto"
    """`cpu`, `cuda`, `cuda:1`, `mps`; `auto` takes a GPU where there is one."""
    workers: int = 0
    """Processes that decode images; 0 does it in the main process."""

    def __post_init__(self) -> None:
        if self.runs and self.trajectory != (len(self.runs) == 1):
            raise InputError(
                f"--runs names {len(self.runs)}; one run with --trajectory, or several without, "
                "were expected: change one of the two"
            )
        what = "--trajectory" if self.trajectory else "several runs"
        check_used({n: getattr(self, n) for n in USERS}, (self.used,), what, USERS)
        if self.subsets < 1:
            raise InputError(f"--subsets is {self.subsets}; a positive number was expected")

    @property
    def used(self) -> str:
        """The option that says which weights of the runs are members."""
        return "first_step" if self.trajectory else "weights"


def make_ensemble(config: EnsembleConfig) -> Record:
    """Measure as configured, write the record and return it.

    Raises:
        InputError: If the runs do not fit each other, the images have changed, or the output
            exists.
    """
    check_new(Path(config.output))
    if getattr(config, config.used) is None:
        config = replace(config, **{config.used: DEFAULTS[config.used]})
    members = read_members(config.runs)
    training, setup = prepare_members(members, config.device, config.workers)
    names, states = _weights(members, config)
    panel = ask(states, training, setup, augment_iid=config.augment_iid)
    splits = {env: "iid" if env in setup.train else "ood" for env in panel.by_env}
    shared = {"run": Path(config.output).name, "probe": "ensemble", "model": training.model}
    rows = [shared | row | {"split": splits[row["env"]]} for row in _rows(panel, config)]
    record = Record(
        probe="ensemble",
        config=asdict(config),
        values=tidy(rows),
        metrics={"accuracy": ACCURACY},
        provenance=provenance(members=names, data_fingerprint=setup.facts["data_fingerprint"]),
    )
    with new_folder(Path(config.output)) as folder:
        record.write(folder)
    return record


def _weights(
    members: Sequence[Member], config: EnsembleConfig
) -> tuple[list[str], Iterable[Mapping[str, Tensor]]]:
    """Names of the members, and their weights one after the other."""
    if config.first_step is not None:
        files = [name for _, name in members[0].trajectory(config.first_step)]
        chosen = [(members[0], name) for name in files]
    else:
        assert config.weights is not None
        chosen = [(member, config.weights) for member in members]
    return [str(m.path / n) for m, n in chosen], (m.state(n) for m, n in chosen)


def _rows(panel: Panel, config: EnsembleConfig) -> Iterator[Row]:
    """Accuracy by size, way and environment, over ensembles of that size."""
    num = len(panel.weights)
    for size, (way, answer) in itertools.product(range(1, num + 1), WAYS.items()):
        # Fitting takes long: one ensemble of each size.
        most = 1 if way == "concatenation" else config.subsets
        chosen = subsets(num, size, most=most, seed=config.seed)
        for env, said in panel.by_env.items():
            labels = said.labels.numpy()
            correct = np.stack([answer(panel, said, members) == labels for members in chosen])
            row = size_interval(correct, seed=config.seed)
            yield {"env": env, "layer": way, "metric": "accuracy", "at": size, **row}


def _logits(_panel: Panel, said: Answers, members: Members) -> Classes:
    return mean_logits(said.of(members).logits).argmax(1).numpy()


def _probabilities(_panel: Panel, said: Answers, members: Members) -> Classes:
    return mean_probabilities(said.of(members).logits).argmax(1).numpy()


def _features(panel: Panel, said: Answers, members: Members) -> Classes:
    weights, biases = panel.weights[list(members)], panel.biases[list(members)]
    return shared_head(said.of(members).features, weights, biases).argmax(1).numpy()


@functools.lru_cache(maxsize=1)  # the next environment asks for the same
def _fitted(panel: Panel, members: Members) -> ConcatenationHead:
    seen = panel.training.of(members)
    return concatenation(seen.features, seen.labels)


def _concatenation(panel: Panel, said: Answers, members: Members) -> Classes:
    return _fitted(panel, members).predict(said.of(members).features)


WAYS: dict[str, Callable[[Panel, Answers, Members], Classes]] = {
    "logits": _logits,
    "probabilities": _probabilities,
    "features": _features,
    "concatenation": _concatenation,
}


def report(record: Record) -> list[str]:
    """Accuracy of all members together, by way and environment."""
    values = record.values
    whole = values[values["at"] == values["at"].max()]
    columns = [whole[name] for name in ("layer", "split", "env", "value", "low", "high")]
    return [
        f"{way}, {split} {env}: {value:.3f} [{low:.3f}, {high:.3f}]"
        for way, split, env, value, low, high in zip(*columns, strict=True)
    ]


def main() -> None:
    """Entry point of `python -m finetuning.ensemble`."""

    def act(config: EnsembleConfig) -> None:
        for line in report(make_ensemble(config)):
            log.info("%s", line)
        log.info("record: %s", config.output)

    run(act, EnsembleConfig)


if __name__ == "__main__":
    main()
