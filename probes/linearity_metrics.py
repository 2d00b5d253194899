r"""What each linearity metric means, and how sums over examples become values with intervals.

Shapes: N examples, B bootstrap resamples, A positions on the path.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from analysis.intervals import (
    Counts,
    Row,
    bootstrap_counts,
    curve_interval,
    interval,
    proportion_interval,
    ratio,
    ratio_interval,
)
from core.linearization import Weights
from core.records import Metric
from probes.pairs import Pair
from probes.sums import FEATURES, Key

FORT = "Fort et al. 2020, arXiv 2010.15110"
CHIZAT = "Chizat et al. 2019, arXiv 1812.07956"
PAPER = "Zhang & Bottou 2024, arXiv 2403.00946"
FRANKLE = "Frankle et al. 2020, arXiv 1912.05671"
R2: dict[str, Any] = {"direction": "higher", "high": 1.0}
SHARE: dict[str, Any] = {"low": 0.0, "high": 1.0}
ACCURACY: dict[str, Any] = {"direction": "higher", **SHARE}

METRICS = {
    "explained_displacement": Metric(
        title="explained displacement", symbol="R^2", coordinate="alpha", reference=FORT, **R2
    ),
    "explained_displacement_end": Metric(
        title="explained displacement from the fine-tuned end",
        symbol="R_1^2",
        coordinate="fraction of the path walked back",
        reference=FORT,
        **R2,
    ),
    "explained_displacement_difference": Metric(
        title="difference in explained displacement", symbol="Delta R^2", reference=FORT
    ),
    "curvature_ratio": Metric(
        title="curvature ratio", symbol="kappa", direction="lower", low=0.0, reference=CHIZAT
    ),
    "lazy_radius": Metric(
        title="lazy radius", symbol="alpha^*", direction="higher", low=0.0, reference=CHIZAT
    ),
    "displacement": Metric(title="relative displacement", symbol="d", low=0.0),
    "weight_displacement": Metric(title="relative weight displacement", low=0.0),
    "buffer_share": Metric(title="share of running statistics in the displacement", **SHARE),
    "weight_accuracy": Metric(
        title="accuracy, weights interpolated", coordinate="alpha", reference=PAPER, **ACCURACY
    ),
    "representation_accuracy": Metric(
        title="accuracy, features interpolated", coordinate="alpha", reference=PAPER, **ACCURACY
    ),
    "interpolation_gap_max": Metric(
        title="largest gap between the interpolations", direction="lower", reference=PAPER, **SHARE
    ),
    "interpolation_gap_area": Metric(
        title="area between the interpolations", direction="lower", reference=PAPER, **SHARE
    ),
    "barrier": Metric(title="error barrier", direction="lower", high=1.0, reference=FRANKLE),
    "linear_accuracy": Metric(title="accuracy of the linearised network", **ACCURACY),
    "linear_agreement": Metric(title="agreement of the linearised network", **ACCURACY),
    "linear_gain_share": Metric(title="share of the accuracy gain", direction="higher"),
    "block_share": Metric(title="share of the first-order change", **SHARE),
    "block_explained_displacement": Metric(title="explained displacement, block alone", **R2),
    "block_interaction": Metric(title="interaction of the blocks"),
    "random_explained_displacement": Metric(
        title="explained displacement, random move", coordinate="alpha", **R2
    ),
    "permuted_explained_displacement": Metric(
        title="explained displacement, permuted move", coordinate="alpha", **R2
    ),
    "float64_gap": Metric(
        title="difference of R2 in float32 and float64", direction="lower", low=0
    ),
}

PROPORTIONS = {"weight_accuracy", "representation_accuracy", "linear_accuracy", "linear_agreement"}
# How the ratio of sums becomes the value; a plain ratio where nothing is named.
TRANSFORMS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    **dict.fromkeys((name for name in METRICS if "explained" in name), lambda r: 1 - r),
    "curvature_ratio": np.sqrt,
    "displacement": np.sqrt,
}

PerExample = Float[np.ndarray, "2 _"]
Measured = Mapping[Key, PerExample]
# Of one run: environment to the sums of its parts, which look at different numbers of images.
RunSums = Mapping[str, Sequence[Measured]]


def example_rows(pairs: Iterable[Pair], sums: Mapping[str, RunSums], seed: int) -> list[Row]:
    """Rows of every run, environment and pooled split, and of the differences between runs."""
    pairs = list(pairs)
    rows: list[Row] = []
    for pair in pairs:
        for split, env, members in groups_of(pair):
            labels = {**labels_of_pair(pair), "split": split, "env": env}
            for part in range(len(sums[pair.run][members[0]])):
                measured = {name: sums[pair.run][name][part] for name in members}
                rows += [labels | row for row in _rows(measured, seed)]
    for pair, reference in _references(pairs):
        rows += _differences(pair, reference, sums, seed)
    return rows


def labels_of_pair(pair: Pair) -> Row:
    """The columns that all rows of a run share."""
    return {"run": pair.run, "seed": pair.facts["seed"], "checkpoint": pair.facts["sha256"][:12]}


def groups_of(pair: Pair) -> list[tuple[str, str, list[str]]]:
    """(split, name, environments): each environment, and all of each split together."""
    single = [(split, env, [env]) for env, split in pair.splits.items()]
    pooled = [
        (split, "all", [env for env, s in pair.splits.items() if s == split])
        for split in dict.fromkeys(pair.splits.values())
    ]
    return single + pooled


def _pooled(measured: Mapping[str, Measured], seed: int) -> tuple[Measured, Counts]:
    """Sums of several environments one after the other, and their stratified resamples."""
    keys = set.intersection(*(set(m) for m in measured.values()))
    first = next(iter(measured.values()))
    joined = {
        key: np.concatenate([m[key] for m in measured.values()], axis=1)
        for key in first
        if key in keys
    }
    sizes = {env: next(iter(m.values())).shape[1] for env, m in measured.items()}
    return joined, bootstrap_counts(sizes, seed=seed)


def _rows(measured: Mapping[str, Measured], seed: int) -> list[Row]:
    sums, counts = _pooled(measured, seed)
    rows = [_row(key, both, counts) for key, both in sums.items()]
    rows += [
        {"metric": "lazy_radius", "layer": key.layer}
        | ratio_interval(both[1], both[0], counts, transform=np.sqrt)
        for key, both in sums.items()
        if key.metric == "curvature_ratio"
    ]
    return rows + _curve_rows(sums, counts)


def _row(key: Key, both: PerExample, counts: Counts) -> Row:
    if key.metric in PROPORTIONS:
        return key._asdict() | proportion_interval(both[0])
    transform = TRANSFORMS.get(key.metric, lambda r: r)
    return key._asdict() | ratio_interval(both[0], both[1], counts, transform=transform)


def _curve_rows(sums: Measured, counts: Counts) -> list[Row]:
    """What compares the whole curves of accuracy over the path."""
    alphas = sorted(
        k.at for k in sums if k.metric == "representation_accuracy" and k.at is not None
    )
    if not alphas:
        return []
    weight = [tuple(sums[Key("weight_accuracy", "", alpha)]) for alpha in alphas]
    mixed = [tuple(sums[Key("representation_accuracy", "", alpha)]) for alpha in alphas]
    gap = [(w[0] - m[0], m[1]) for w, m in zip(weight, mixed, strict=True)]
    statistics = {
        "interpolation_gap_max": (gap, lambda curve: np.abs(curve).max(-1)),
        "interpolation_gap_area": (
            gap,
            lambda curve: np.trapezoid(np.abs(curve), alphas, axis=-1),
        ),
        "barrier": (weight, lambda curve: barrier(curve, np.array(alphas))),
    }
    return [
        {"metric": name, "layer": ""} | curve_interval(curve, counts, statistic)
        for name, (curve, statistic) in statistics.items()
    ]


def barrier(
    accuracy: Float[np.ndarray, "... A"], alphas: Float[np.ndarray, " A"]
) -> Float[np.ndarray, "..."] | np.float64:
    r"""Error barrier on the path between two networks.

    .. math:: \max_\alpha\; e(\alpha) - (1 - \alpha)\, e(0) - \alpha\, e(1)

    Zero where the error never exceeds the mix of the ends' errors.

    Example:
        >>> float(barrier(np.array([0.5, 0.25, 1.0]), np.array([0.0, 0.5, 1.0])))
        0.5
    """
    mix = accuracy[..., :1] * (1 - alphas) + accuracy[..., -1:] * alphas
    return (mix - accuracy).max(-1)


def _references(pairs: list[Pair]) -> list[tuple[Pair, Pair]]:
    """Each run with the first one listed that has the same seed, which it is compared with."""
    first: dict[object, Pair] = {}
    compared = []
    for pair in pairs:
        reference = first.setdefault(pair.facts["seed"], pair)
        if reference is not pair:
            compared.append((pair, reference))
    return compared


def _differences(pair: Pair, reference: Pair, sums: Mapping[str, RunSums], seed: int) -> list[Row]:
    """R2 of one run minus that of another on the same images, resampled together."""
    key = Key("explained_displacement", FEATURES, 1.0)
    rows = []
    for split, env, members in groups_of(pair):
        if any(not np.array_equal(pair.images[m], reference.images[m]) for m in members):
            continue
        values, resampled = [], []
        for run in (pair.run, reference.run):
            measured = {name: {key: sums[run][name][0][key]} for name in members}
            joined, counts = _pooled(measured, seed)
            value, draws = ratio(joined[key][0], joined[key][1], counts)
            values.append(1 - value)
            resampled.append(1 - draws)
        difference = interval(
            values[0] - values[1], resampled[0] - resampled[1], joined[key].shape[1]
        )
        labels = {"run": f"{pair.run} - {reference.run}", "split": split, "env": env}
        metric = {"metric": "explained_displacement_difference", "layer": FEATURES, "at": 1.0}
        rows.append(labels | metric | difference)
    return rows


def weight_rows(
    pair: Pair, groups: Mapping[str, Iterable[str]], parameters: set[str]
) -> list[Row]:
    """Exact sizes of the displacement, which have no interval."""
    squares = {
        name: (_square(pair.weights1, pair.weights0, name), _square(pair.weights0, None, name))
        for name in pair.weights0
    }
    moved = sum(d for d, _ in squares.values())
    buffers = sum(d for name, (d, _) in squares.items() if name not in parameters)
    rows = [{"metric": "buffer_share", "layer": "", "value": buffers / moved}]
    for group, names in groups.items():
        change, size = (sum(squares[name][i] for name in names) for i in (0, 1))
        value = (change / size) ** 0.5 if size else float("nan")
        rows.append({"metric": "weight_displacement", "layer": group, "value": value})
    return [labels_of_pair(pair) | row for row in rows]


def _square(weights: Weights, origin: Weights | None, name: str) -> float:
    difference = weights[name].double() - (0 if origin is None else origin[name].double())
    return float(torch.linalg.vector_norm(difference) ** 2)
