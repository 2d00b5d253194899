"""Published accuracies as reference points, compared only at the same pretrained weights.

`data/published.csv` holds percentages as they were printed, or read off a figure (`seeing` says
which, and how precisely), with their source. Weights can matter as much as methods do: plain
fine-tuning reaches 66.5 on OfficeHome from ResNet-50 V1 (DomainBed) and 70.8 from V2 (the paper).
Numbers of different weights are therefore never put side by side.

Shapes: N rows.
"""

import re
from pathlib import Path

import pandas as pd

from core.errors import InputError

FILE = Path(__file__).parent / "data" / "published.csv"
PERCENT = ["iid", "ood", "spread"]
MEAN = "mean"  # in the place of an environment: the mean over all of the data set
# How weights are called in files and by timm, torchvision and DomainBed.
NAMES = {
    "ResNet-50 V1": r"resnet-50 v1|resnet50-0676ba61|resnet50\.tv_in1k",
    "ResNet-50 V2": r"resnet-50 v2|resnet50-11ad3fa6|resnet50\.tv2_in1k",
    "CLIP ViT-B/32": r"clip vit-b/32|vit_base_patch32_clip_224\.openai",
}


def published() -> pd.DataFrame:
    """All reference points, as fractions.

    Columns: source, weights, dataset, env (`mean` for all), method, drop_rate, selection, iid,
    ood, spread (standard error or deviation as its source prints it), seeing. What a source does
    not print is NaN.
    """
    frame = pd.read_csv(FILE)
    return frame.assign(**{name: frame[name] / 100 for name in PERCENT})


def weights_of(pretrained: str) -> str:
    """The label of pretrained weights, from a file's name, timm's name or the label itself.

    Raises:
        InputError: If nothing is published for such weights.

    Example:
        >>> weights_of("weights/resnet50-11ad3fa6.pth"), weights_of("resnet50.tv_in1k")
        ('ResNet-50 V2', 'ResNet-50 V1')
    """
    for label, pattern in NAMES.items():
        if re.search(pattern, pretrained, re.IGNORECASE):
            return label
    raise InputError(
        f"nothing is published here for the weights '{pretrained}'; one of {', '.join(NAMES)} was "
        "expected: numbers of other weights are not comparable"
    )


def reference_points(dataset: str, *, weights: str) -> pd.DataFrame:
    """Reference points of a data set for pretrained weights.

    Args:
        dataset: Name as in DomainBed, such as `PACS`.
        weights: Any name that `weights_of` knows.

    Raises:
        InputError: If there is none; the weights that there are some for are named, and not
            offered in their place.
    """
    label = weights_of(weights)
    of_dataset = published().query("dataset == @dataset")
    found = of_dataset.query("weights == @label")
    if found.empty:
        others = ", ".join(dict.fromkeys(of_dataset["weights"])) or "no weights"
        raise InputError(
            f"nothing is published for {dataset} with {label}, only with {others}; the same "
            "weights were expected, as others are not comparable: fine-tune those weights"
        )
    return found


def compare(a: pd.DataFrame, b: pd.DataFrame) -> pd.DataFrame:
    """Differences of o.o.d. accuracy between reference points, by data set and environment.

    Args:
        a: Rows of `published`, one method.
        b: Rows of another one.

    Raises:
        InputError: If the pretrained weights are not the same, or no environment is in both.
    """
    labels = sorted({*a["weights"], *b["weights"]})
    if len(labels) > 1:
        raise InputError(
            f"{' and '.join(labels)} are different pretrained weights; the same were expected: a "
            "difference between them is no difference between methods"
        )
    keys = ["dataset", "env"]
    both = a.merge(b, on=keys, suffixes=("_a", "_b"))
    if both.empty:
        raise InputError(
            "no environment of a data set is in both; numbers of the same ones were expected: "
            "compare methods on one data set"
        )
    return both.assign(difference=both["ood_a"] - both["ood_b"])


def beside(runs: pd.DataFrame) -> pd.DataFrame:
    """Mean accuracies of runs by data set, method and rate, with the published ones beside.

    Means count environments alike; published numbers are means over all environments, selected by
    i.i.d. accuracy.

    Args:
        runs: A checked runs frame.

    Returns:
        Columns dataset, weights, method, drop_rate, iid, ood, published_iid, published_ood,
        source; one row a published number, runs without one are left out.

    Raises:
        InputError: If the weights of some run are unknown here.
    """
    labels = {name: weights_of(name) for name in sorted(set(runs["pretrained"]))}
    labelled = runs.assign(weights=[labels[name] for name in runs["pretrained"]])
    keys = ["dataset", "weights", "method", "drop_rate"]
    mean = {"iid": "mean", "ood": "mean"}
    ours = labelled.groupby([*keys, "env"]).agg(mean).groupby(keys).agg(mean).reset_index()
    theirs = published().query("env == @MEAN and selection == 'iid'")
    theirs = theirs[[*keys, "iid", "ood", "source"]]
    both = ours.merge(pd.DataFrame(theirs), on=keys, suffixes=("", "_published"))
    names = {"iid_published": "published_iid", "ood_published": "published_ood"}
    return both.rename(columns=names)
