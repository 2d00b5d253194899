"""Published accuracies of the data sets at hand, of the same pretrained weights only."""

import pandas as pd

from analysis.published import MEAN, reference_points
from core.errors import InputError

COLUMNS = ["source", "weights", "method", "drop_rate", "iid", "ood"]


def points(rows: pd.DataFrame) -> pd.DataFrame:
    """Published means over all environments of one data set, chosen by i.i.d. accuracy.

    Args:
        rows: Runs of one data set, of one or more pretrained weights.

    Returns:
        Columns of `COLUMNS`; iid is NaN where its source has none.

    Raises:
        InputError: If nothing is published, or the runs are of several weights, which are not
            compared with the published ones of any.
    """
    (dataset,), weights = set(rows["dataset"]), set(rows["pretrained"])
    if len(weights) > 1:
        raise InputError(
            f"{dataset} has runs of {len(weights)} pretrained weights; one was expected beside "
            "published numbers: numbers of other weights are not comparable"
        )
    found = reference_points(dataset, weights=weights.pop())
    means = found[(found["env"] == MEAN) & (found["selection"] == "iid")]
    return pd.DataFrame(means[COLUMNS]).reset_index(drop=True)


def all_points(rows: pd.DataFrame) -> tuple[dict[str, pd.DataFrame], list[str]]:
    """The published points of every data set, and a sentence for each that has none."""
    found, reasons = {}, []
    for dataset, of_set in rows.groupby("dataset"):
        name = str(dataset)
        found[name] = pd.DataFrame(columns=COLUMNS)
        try:
            found[name] = points(pd.DataFrame(of_set))
        except InputError as error:
            reasons.append(f"{name}: {error}.")
    return found, reasons
