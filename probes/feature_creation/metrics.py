"""What is measured of features before and after fine-tuning."""

from analysis.creation_verdict import AFTER, BEFORE, CKA, DIFFERENCE, MEDIAN, NULL, R2
from core.records import Metric

PAPER = "Zhang & Bottou 2024, arXiv 2403.00946"
KORNBLITH = "Kornblith et al. 2019, arXiv 1905.00414"
_R2 = "of fine-tuned Φ from pretrained features"


def _accuracy(of: str) -> Metric:
    return Metric(
        title=f"accuracy of a linear probe on {of}",
        direction="higher",
        low=0.0,
        high=1.0,
        reference=PAPER,
    )


METRICS = {
    R2: Metric(title=f"R² {_R2}", symbol="R^2", high=1.0, reference=KORNBLITH),
    NULL: Metric(title=f"R² {_R2}, examples permuted", symbol="R^2", high=1.0),
    MEDIAN: Metric(title=f"median R² of a unit {_R2}", symbol="R^2", high=1.0),
    CKA: Metric(
        title="debiased linear CKA of fine-tuned Φ with pretrained features",
        symbol='"CKA"',
        low=-1.0,
        high=1.0,
        reference=KORNBLITH,
    ),
    BEFORE: _accuracy("pretrained features"),
    AFTER: _accuracy("fine-tuned features"),
    DIFFERENCE: Metric(
        title="accuracy of the probe on pretrained features less that on fine-tuned Φ",
        low=-1.0,
        high=1.0,
        reference=PAPER,
    ),
}
