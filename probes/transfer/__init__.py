"""What a representation is good for: linear probes, neighbours, few shots, transfer scores."""

from probes.transfer.few_shot import FewShot, few_shot
from probes.transfer.h_score import h_score
from probes.transfer.knn import knn_predictions
from probes.transfer.layer_probes import LayerProbe, gain_over, layer_probes
from probes.transfer.leep import leep, n_leep, nce
from probes.transfer.logistic import LinearProbe, c_path
from probes.transfer.logme import logme
from probes.transfer.metrics import METRICS
from probes.transfer.selection import Selection, clip_select_c, dinov2_probe, select_c
from probes.transfer.transfer_gap import TransferGap, source_and_target_probes
from probes.transfer.transrate import transrate

__all__ = [
    "METRICS",
    "FewShot",
    "LayerProbe",
    "LinearProbe",
    "Selection",
    "TransferGap",
    "c_path",
    "clip_select_c",
    "dinov2_probe",
    "few_shot",
    "gain_over",
    "h_score",
    "knn_predictions",
    "layer_probes",
    "leep",
    "logme",
    "n_leep",
    "nce",
    "select_c",
    "source_and_target_probes",
    "transrate",
]
