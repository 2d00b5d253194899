"""How much of a representation is said more than once, and what the classifier makes of it."""

from probes.redundancy.concatenation import ConcatenationGain, concatenation_gain
from probes.redundancy.diffused import Redundancy, diffused_redundancy
from probes.redundancy.masking import MaskedAccuracy, masked_accuracy, masked_logits
from probes.redundancy.metrics import METRICS
from probes.redundancy.predictability import Predictability, unit_predictability
from probes.redundancy.readout import Probe, logistic_probe

__all__ = [
    "METRICS",
    "ConcatenationGain",
    "MaskedAccuracy",
    "Predictability",
    "Probe",
    "Redundancy",
    "concatenation_gain",
    "diffused_redundancy",
    "logistic_probe",
    "masked_accuracy",
    "masked_logits",
    "unit_predictability",
]
