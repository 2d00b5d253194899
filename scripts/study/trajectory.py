r"""What a run's checkpoints are together: their ensemble, the average of their weights, the path.

The ensemble is the mean of the logits of every checkpoint along the run, the average that of their
weights; both are evaluated on the images that the run itself is evaluated on. The path is the line
between the first and the last of these checkpoints; its barrier is measured out of distribution.
BatchNorm statistics are frozen in fine-tuning, so that averages need none estimated again.

A run is kept as a record with the logits of its final weights, which ensembles of several runs are
made of.

Shapes: N images of an environment, C classes.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from analysis.intervals import Row, proportion_interval
from core.errors import InputError
from core.records import Metric, Record, provenance, tidy
from finetuning.averaging import RunningAverage, State, interpolate
from finetuning.ensembles import mean_logits
from finetuning.evaluation import outputs
from finetuning.members import Member, prepare_members
from probes.linearity_metrics import METRICS as LINEARITY
from probes.linearity_metrics import barrier

PROBE = "trajectory"
ENSEMBLE, AVERAGE = "ensemble_trajectory_accuracy", "average_trajectory_accuracy"
ACCURACY, BARRIER = "accuracy", "barrier"
INSIDE = (0.25, 0.5, 0.75)  # positions on the path between its ends

METRICS = {
    ACCURACY: Metric(title="accuracy of the final weights", direction="higher", low=0, high=1),
    ENSEMBLE: Metric(title="accuracy of mean logits along the run", direction="higher"),
    AVERAGE: Metric(title="accuracy of mean weights along the run", direction="higher"),
    BARRIER: LINEARITY[BARRIER],
}
Logits = Mapping[str, Float[Tensor, "N C"]]  # by environment


class Evaluator:
    """The images that a run is evaluated on, and the network for one set of weights at a time."""

    def __init__(self, member: Member) -> None:
        device, workers = member.config.device, member.config.workers
        self.config, self.setup = prepare_members([member], device, workers)

    def logits(self, state: State, envs: tuple[str, ...] = ()) -> Logits:
        """Of some environments, or of all."""
        model = self.setup.model
        model.load_state_dict(state)
        model.eval()
        names = envs or tuple(self.setup.domains.environments)
        return {
            name: torch.cat([f.cpu() for f, _ in outputs(self.config, self.setup, model, name)])
            for name in names
        }

    def labels(self, name: str) -> np.ndarray:
        """Classes of the images of an environment that are evaluated on."""
        labels = self.setup.domains.environments[name].labels
        return labels[self.setup.held_out[name]] if name in self.setup.train else labels

    def split(self, name: str) -> str:
        """`iid` for the held-out images of a training environment, else `ood`."""
        return "iid" if name in self.setup.train else "ood"

    def correct(self, logits: Logits) -> dict[str, np.ndarray]:
        """Whether each image is classified rightly, by environment."""
        return {n: f.argmax(1).numpy() == self.labels(n) for n, f in logits.items()}


def measure(folder: str) -> Record:
    """Ensemble, average and barrier along one run, and the logits of its final weights.

    Raises:
        InputError: If the run is not finished or has fewer than two checkpoints.
    """
    member = Member.read(folder)
    if member.config.checkpoint_every and not list(member.path.glob("step_*.safetensors")):
        raise InputError(
            f"the checkpoints along '{folder}' were removed when they had been measured, and that "
            "record is gone; remove the run's folder, and the same command trains it again"
        )
    evaluator = Evaluator(member)
    steps, names = zip(*member.trajectory(first_step=1), strict=True)
    mean, along = RunningAverage(), []
    for state in map(member.state, names):
        mean.update(state)
        along.append(evaluator.logits(state))
    is_final = steps[-1] == member.config.steps
    final = along[-1] if is_final else evaluator.logits(member.state("final"))
    envs = final.keys()
    models = {
        ACCURACY: final,
        ENSEMBLE: {env: mean_logits(torch.stack([f[env] for f in along])) for env in envs},
        AVERAGE: evaluator.logits(mean.state),
    }
    rows = [row for name, f in models.items() for row in _accuracies(evaluator, name, f)]
    states = (member.state(names[0]), member.state(names[-1]))
    rows.append(_barrier(evaluator, states, (along[0], along[-1])))
    return Record(
        probe=PROBE,
        config={"checkpoints": [folder]},
        values=tidy({"probe": PROBE, "run": member.path.name, **row} for row in rows),
        metrics=METRICS,
        provenance=provenance(checkpoints=names, inside=INSIDE),
        arrays={env: f.float().numpy() for env, f in final.items()},
    )


def remove_checkpoints(run: Path) -> int:
    """Remove the weights that a run kept along its way; `final` and `best` stay.

    Returns:
        How many. None where the folder is a link: another's files stay.
    """
    kept = [] if run.is_symlink() else list(run.glob("step_*.safetensors"))
    for path in kept:
        path.unlink()
    return len(kept)


def _accuracies(evaluator: Evaluator, metric: str, logits: Logits) -> Iterator[Row]:
    for env, right in evaluator.correct(logits).items():
        place = {"metric": metric, "env": env, "split": evaluator.split(env)}
        yield place | proportion_interval(right.astype(float))


def _barrier(
    evaluator: Evaluator, states: tuple[State, State], ends: tuple[Logits, Logits]
) -> Row:
    """Of accuracy out of distribution, environments counting alike."""
    envs = tuple(e for e in evaluator.setup.domains.environments if evaluator.split(e) == "ood")
    inside = [evaluator.logits(interpolate(states[0], states[1], alpha), envs) for alpha in INSIDE]
    path = [
        np.mean([evaluator.correct(logits)[env].mean() for env in envs])
        for logits in (ends[0], *inside, ends[1])
    ]
    value = float(barrier(np.array(path), np.array([0.0, *INSIDE, 1.0])))
    return {"metric": BARRIER, "env": "all", "split": "ood", "value": value}
