r"""What a run's checkpoints are together: their ensemble, the average of their weights, the path.

The ensemble is the mean of the logits of every checkpoint along the run, the average that of their
weights; both are evaluated on the images that the run itself is evaluated on. The path is the line
between the first and the last of these checkpoints; its barrier is measured out of distribution.
BatchNorm statistics are frozen in fine-tuning, so that averages need none estimated again.

A run is kept as a record with the logits of its final weights, which ensembles of several runs are
made of.

Shapes: N images of an environment, C classes.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import Module

from analysis.intervals import Row, proportion_interval
from core.errors import InputError
from core.records import Metric, Record, provenance, tidy
from finetuning.averaging import RunningAverage, interpolate
from finetuning.config import TrainConfig, resolve
from finetuning.ensembles import mean_logits
from finetuning.evaluation import outputs
from finetuning.setup import Setup, prepare
from probes.linearity_metrics import METRICS as LINEARITY
from probes.linearity_metrics import barrier

PROBE = "trajectory"
ENSEMBLE, AVERAGE = "ensemble_trajectory_accuracy", "average_trajectory_accuracy"
ACCURACY, BARRIER = "accuracy", "barrier"
INSIDE = (0.25, 0.5, 0.75)  # positions on the path between its ends
STEP = re.compile(r"step_(\d+)\.safetensors")

METRICS = {
    ACCURACY: Metric(title="accuracy of the final weights", direction="higher", low=0, high=1),
    ENSEMBLE: Metric(title="accuracy of mean logits along the run", direction="higher"),
    AVERAGE: Metric(title="accuracy of mean weights along the run", direction="higher"),
    BARRIER: LINEARITY[BARRIER],
}
Logits = Mapping[str, Float[Tensor, "N C"]]  # by environment


class Evaluator:
    """The images that a run is evaluated on, and the network for one set of weights at a time."""

    def __init__(self, config: TrainConfig) -> None:
        self.config = resolve(config)
        self.setup: Setup = prepare(self.config)

    def logits(self, state: Mapping[str, Tensor], envs: tuple[str, ...] = ()) -> Logits:
        """Of some environments, or of all."""
        model: Module = self.setup.model
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


def measure(config: TrainConfig) -> Record:
    """Ensemble, average and barrier along one run, and the logits of its final weights.

    Raises:
        InputError: If the run is not finished or kept no checkpoints.
    """
    evaluator, folder = Evaluator(config), Path(config.output)
    files = checkpoints(folder)
    mean, along = RunningAverage(), []
    for file in files:
        state = load_file(file)
        mean.update(state)
        along.append(evaluator.logits(state))
    final = evaluator.logits(load_file(folder / "final.safetensors"))
    envs = final.keys()
    models = {
        ACCURACY: final,
        ENSEMBLE: {env: mean_logits(torch.stack([f[env] for f in along])) for env in envs},
        AVERAGE: evaluator.logits(mean.state),
    }
    rows = [row for name, f in models.items() for row in _accuracies(evaluator, name, f)]
    rows.append(_barrier(evaluator, files, (along[0], along[-1])))
    return Record(
        probe=PROBE,
        config={"run": str(folder)},
        values=tidy({"probe": PROBE, "run": folder.name, **row} for row in rows),
        metrics=METRICS,
        provenance=provenance(checkpoints=[file.name for file in files], inside=INSIDE),
        arrays={env: f.float().numpy() for env, f in final.items()},
    )


def checkpoints(folder: Path) -> list[Path]:
    """Those along a run, in order.

    Raises:
        InputError: If there are fewer than two.
    """
    files = sorted(folder.glob("step_*.safetensors"))
    if len(files) < 2:
        raise InputError(
            f"'{folder}' keeps {len(files)} checkpoints along the run; at least two were expected "
            "for an ensemble or an average of them: lower --eval_every, or raise --steps"
        )
    return files


def _accuracies(evaluator: Evaluator, metric: str, logits: Logits) -> Iterator[Row]:
    for env, right in evaluator.correct(logits).items():
        place = {"metric": metric, "env": env, "split": evaluator.split(env)}
        yield place | proportion_interval(right.astype(float))


def _barrier(evaluator: Evaluator, files: list[Path], ends: tuple[Logits, Logits]) -> Row:
    """Of accuracy out of distribution, environments counting alike."""
    first, last = (load_file(file) for file in (files[0], files[-1]))
    envs = tuple(e for e in evaluator.setup.domains.environments if evaluator.split(e) == "ood")
    inside = [evaluator.logits(interpolate(first, last, alpha), envs) for alpha in INSIDE]
    path = [
        np.mean([evaluator.correct(logits)[env].mean() for env in envs])
        for logits in (ends[0], *inside, ends[1])
    ]
    value = float(barrier(np.array(path), np.array([0.0, *INSIDE, 1.0])))
    return {"metric": BARRIER, "env": "all", "split": "ood", "value": value}
