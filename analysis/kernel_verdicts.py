"""Readings of how the tangent kernel moved in a fine-tuning, decided by intervals.

The number judged is the kernel distance between the pretrained and the fine-tuned weights, over
the environments of a split together,

    1 - <K0, K1> / (|K0| |K1|)  in the Frobenius norm,

and its neighbour is the distance after a random move with the same norm in every weight tensor.
No reading is better than another; only intervals decide:

moved more
    The interval of the distance lies above that of the random move: the direction of the
    fine-tuning changed the kernel, not only its length.
moved less
    It lies below that of the random move: the fine-tuning kept to directions that spare the
    kernel.
inconclusive
    The intervals overlap, or there is none.

Both distances are of the same images, so that intervals apart from each other are more than a
paired test asks for.

References:
    | Deep learning versus kernel learning (Fort et al., 2020)
    | https://arxiv.org/abs/2010.15110
"""

from analysis.estimates import Estimate, estimate, number, select
from analysis.verdicts import UNKNOWN, Verdict, compared, controls
from core.records import Record

DISTANCE = "kernel_distance"
ZERO = Estimate(0.0, 0.0, 0.0)


def has_kernels(record: Record) -> bool:
    """Whether the probe measured kernels; it can be told not to."""
    return bool((record.values["metric"] == DISTANCE).any())


def kernel_layer(record: Record) -> str:
    """Whose kernel the record holds: that of the `logits` or of the `features`."""
    return str(select(record.values, "label_alignment")["layer"].iloc[0])


def kernel_verdicts(record: Record) -> list[Verdict]:
    """One reading per run and split, in the order of the record; none without kernels."""
    if not has_kernels(record):
        return []
    rows = select(record.values, DISTANCE, layer=kernel_layer(record), env="all")
    rows = rows[["run", "split"]]
    return [_verdict(record, run, split) for run, split in rows.itertuples(index=False)]


def kernel_word(distance: Estimate, random: Estimate) -> str:
    """The rule; see the head of this module.

    Example:
        >>> kernel_word(Estimate(0.3, 0.2, 0.4), Estimate(0.1, 0.05, 0.15))
        'moved more'
        >>> kernel_word(Estimate(0.3), Estimate(0.1, 0.05, 0.15))
        'inconclusive'
    """
    if distance.low > random.high:
        return "moved more"
    if distance.high < random.low:
        return "moved less"
    return "inconclusive"


def _verdict(record: Record, run: str, split: str) -> Verdict:
    distance = _find(record, DISTANCE, run, split)
    random = _find(record, "random_kernel_distance", run, split)
    return Verdict(
        run=run,
        env="all",
        split=split,
        word=kernel_word(distance, random),
        value=distance.value,
        low=distance.low,
        high=distance.high,
        sentence=f"Kernel distance {distance}, "
        f"{compared(f'that of a random move ({random})', distance, random)}. "
        f"{_labels(record, run, split)}",
        neighbours={"nothing moved": ZERO, "random move": random},
        is_control=run in controls(record),
    )


def _labels(record: Record, run: str, split: str) -> str:
    """How the alignment with the labels changed, beside that of permuted labels."""
    after = _find(record, "label_alignment", run, split, 1.0)
    null = _find(record, "permuted_label_alignment", run, split, 1.0)
    change = _find(record, "label_alignment_change", run, split)
    return (
        f"Label alignment changed by {change}, {compared('0', change, ZERO)}, to "
        f"{number(after.value)} (permuted labels {null})."
    )


def _find(record: Record, metric: str, run: str, split: str, at: float | None = None) -> Estimate:
    where = {"run": run, "split": split, "env": "all", "layer": kernel_layer(record)}
    return estimate(record.values, metric, at=at, **where) or UNKNOWN
