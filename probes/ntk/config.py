"""Options of the kernel probe."""

from dataclasses import dataclass
from typing import Literal

from core.command_line import parse_bytes
from probes.options import ProbeOptions


@dataclass(frozen=True, kw_only=True)
class NtkConfig(ProbeOptions):
    """Options of `python -m probes.ntk`."""

    samples: int = 64
    """Images per environment."""
    layer: Literal["logits", "features"] = "logits"
    """Outputs whose kernel is computed: the logits, or what the classifier reads. Every output
    takes a pass back through the network: 512 of them for the features of a ResNet-18."""
    head: Literal["finetuned", "own"] = "finetuned"
    """Classifier at the pretrained end: the fine-tuned one, or the run's own initial one."""
    checkpoints: int = 8
    """Intermediate checkpoints of a run folder that the velocity looks at, at most."""
    draws: int = 1
    """Random displacements drawn as the null of the kernel distance."""
    permutations: int = 200
    """Permutations of the labels drawn as the null of the label alignment."""
    jobs: int = 1
    """Processes that compute a kernel; `memory` is for all of them together."""
    disk: str = "20GB"
    """Space beside the output for the gradients of a kernel while it is computed; where it does
    not hold them, they are computed again and again."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_least(samples=2, draws=1, permutations=1, checkpoints=0, jobs=1)
        parse_bytes(self.disk)
