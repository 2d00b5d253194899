"""Features of one checkpoint by environment, split and layer: what the probes of features read.

Shapes: N examples of a part, D features of a layer, C classes.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Int64

from core.errors import InputError

Split = Literal["train", "iid", "ood", "given"]


@dataclass(frozen=True, eq=False, kw_only=True)
class Part:
    """Examples of one environment and one split.

    Attributes:
        env: The environment.
        split: `train` (trained on), `iid` (held out in an environment that was trained on), `ood`
            (an environment that was not trained on) or `given` (not known).
        labels: One class index per example.
        images: Which images of the environment, or which rows of the file, they are.
        features: A matrix by layer.
    """

    env: str
    split: Split
    labels: Int64[np.ndarray, " N"]
    images: Int64[np.ndarray, " N"]
    features: dict[str, Float[np.ndarray, "N _"]]

    def __post_init__(self) -> None:
        if len(self.labels) < 2:
            raise InputError(
                f"environment '{self.env}' has {len(self.labels)} example in its split "
                f"'{self.split}'; at least 2 were expected: add some, or leave the environment "
                "out (of images, with --envs)"
            )


@dataclass(frozen=True, eq=False, kw_only=True)
class FeatureSet:
    """The features of one checkpoint, or of one file.

    Attributes:
        run: Its label; `LABEL/init` before the fine-tuning of the run `LABEL`.
        model: The network's name; empty for files.
        checkpoint: SHA-256 of the file of weights, or of features.
        seed: Of the run that made it, where it is known.
        facts: What a record keeps of it.
        data_facts: What a record keeps of the images or labels, which all sets share.
        weight: Of its classifier, if that has the classes of the images.
        bias: Of the same, if it has one.
        parts: The examples, by environment and split.
    """

    run: str
    model: str
    checkpoint: str
    seed: int | None
    facts: dict[str, Any]
    data_facts: dict[str, Any]
    weight: Float[np.ndarray, "C D"] | None
    bias: Float[np.ndarray, " C"] | None
    parts: tuple[Part, ...]
