"""What the transfer measures are called, which way is better, and where they come from."""

from typing import Any

from core.records import Metric

CLIP = "Radford et al. 2021, arXiv 2103.00020"
DINO = "Caron et al. 2021, arXiv 2104.14294"
DINOV2 = "Oquab et al. 2023, arXiv 2304.07193"
ROSENFELD = "Rosenfeld et al. 2022, arXiv 2202.06856"
HEAD2TOE = "Evci et al. 2022, arXiv 2201.03529"
ACCURACY: dict[str, Any] = {"direction": "higher", "low": 0.0, "high": 1.0}
DIFFERENCE: dict[str, Any] = {"low": -1.0, "high": 1.0}

METRICS = {
    "chance_accuracy": Metric(
        title="share of the largest class",
        reference="Holte 1993, Machine Learning 11",
        low=0.0,
        high=1.0,
    ),
    "probe_accuracy": Metric(title="linear probe accuracy", reference=DINOV2, **ACCURACY),
    "knn_accuracy": Metric(
        title="k-nearest-neighbour accuracy", coordinate="k", reference=DINO, **ACCURACY
    ),
    "few_shot_accuracy": Metric(
        title="few-shot accuracy, mean over draws",
        coordinate="shots per class",
        reference=CLIP,
        **ACCURACY,
    ),
    "source_probe_accuracy": Metric(
        title="accuracy on the target, probe trained on the source",
        reference=ROSENFELD,
        **ACCURACY,
    ),
    "target_probe_accuracy": Metric(
        title="accuracy on the target, probe trained on the target",
        reference=ROSENFELD,
        **ACCURACY,
    ),
    "transfer_gap": Metric(
        title="target probe minus source probe",
        direction="lower",
        reference=ROSENFELD,
        **DIFFERENCE,
    ),
    "layer_gain": Metric(
        title="gain of all layers over the last",
        direction="lower",
        reference=HEAD2TOE,
        **DIFFERENCE,
    ),
    "probe_c": Metric(title="chosen C", symbol="C", low=0.0, reference=DINOV2),
    "logme": Metric(
        title="LogME", direction="higher", reference="You et al. 2021, arXiv 2102.11005"
    ),
    "leep": Metric(
        title="LEEP",
        direction="higher",
        high=0.0,
        reference="Nguyen et al. 2020, arXiv 2002.12462",
    ),
    "n_leep": Metric(
        title="N-LEEP",
        direction="higher",
        high=0.0,
        reference="Li et al. 2021, arXiv 2011.11200",
    ),
    "nce": Metric(
        title="negative conditional entropy",
        symbol="-H(Y | Z)",
        direction="higher",
        high=0.0,
        reference="Tran et al. 2019, arXiv 1908.08142",
    ),
    "h_score": Metric(
        title="H-score, regularised",
        symbol="H",
        direction="higher",
        low=0.0,
        reference="Ibrahim et al. 2021, arXiv 2110.06893",
    ),
    "transrate": Metric(
        title="TransRate",
        direction="higher",
        low=0.0,
        reference="Huang et al. 2022, arXiv 2106.09362",
    ),
}
METRICS |= {
    f"null_{name}": Metric(
        title=f"{METRICS[name].title}, labels permuted (mean and range of the draws)",
        reference=METRICS[name].reference,
    )
    for name in ("logme", "h_score", "n_leep", "transrate", "leep", "nce")
}
