r"""What spectra, redundancy and class measures would be without what they look for.

Permuting the values of every unit on their own keeps each unit's distribution and breaks what
units have in common; permuting labels keeps the features and breaks the classes.

Shapes: N examples, D features, Q null draws.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from analysis.intervals import Row
from core.arrays import Array, labels_of, matrix
from core.records import Metric
from probes.redundancy import unit_predictability
from probes.redundancy.metrics import METRICS as REDUNDANCY
from probes.richness.evaluate import CLASS, SPECTRAL, all_measures
from probes.richness.metrics import METRICS as RICHNESS
from probes.richness.spectrum import Moments, Spectrum

RANKS = (
    "effective_rank_centred",
    "participation_ratio_centred",
    "stable_rank_centred",
    "explained_variance_dims_90",
)
PREDICTABILITY = "unit_predictability"
_UNITS, _LABELS = "units permuted", "labels permuted"
_DECLARED = RICHNESS | REDUNDANCY
NULL_METRICS = {
    f"null_{name}": Metric(
        title=f"{_DECLARED[name].title}, {how} (mean and range of the draws)",
        reference=_DECLARED[name].reference,
        low=_DECLARED[name].low,
    )
    for names, how in (((*RANKS, PREDICTABILITY), _UNITS), (tuple(CLASS), _LABELS))
    for name in names
}


def permuted_units(features: Array, *, seed: int) -> Float[Tensor, "N D"]:
    """The features with the values of every unit in an order of its own."""
    x, generator = matrix(features), np.random.default_rng(seed)
    shuffled = torch.empty_like(x)
    for unit in range(x.shape[1]):
        order = torch.from_numpy(generator.permutation(len(x))).to(x.device)
        shuffled[:, unit] = x[order, unit]
    return shuffled


def spectral_null(
    features: Array, draws: int, *, seed: int
) -> tuple[dict[str, Row], Float[np.ndarray, "Q M"]]:
    """Ranks of features with permuted units, and their centred spectra, each adding up to one."""
    values: list[dict[str, float]] = []
    spectra: list[Spectrum] = []
    for draw in range(draws):
        moments = Moments.of(permuted_units(features, seed=seed + draw))
        values.append({name: SPECTRAL[name](moments) for name in RANKS})
        spectrum = moments.eigenvalues()
        spectra.append(spectrum / spectrum.sum())
    return _rows(values, len(features)), np.stack(spectra)


def predictability_null(features: Array, draws: int, *, seed: int) -> dict[str, Row]:
    """How well units with an order of their own predict each other."""
    values = []
    for draw in range(draws):
        found = unit_predictability(permuted_units(features, seed=seed + draw), seed=seed)
        values.append({PREDICTABILITY: float(found.overall["value"])})
    return _rows(values, len(features))


def class_null(features: Array, labels: Array, draws: int, *, seed: int) -> dict[str, Row]:
    """Class measures with permuted labels."""
    y, generator = labels_of(labels, len(features)).numpy(), np.random.default_rng(seed)
    values = [
        all_measures(features, _permuted(y, generator), families=("class",)).values
        for _ in range(draws)
    ]
    return _rows(values, len(y))


def _permuted(
    labels: Int64[np.ndarray, " N"], generator: np.random.Generator
) -> Int64[np.ndarray, " N"]:
    return generator.permutation(labels)


def _rows(values: Sequence[Mapping[str, float]], num_examples: int) -> dict[str, Row]:
    """Mean of the draws and their range, which is what so few of them support."""
    rows = {}
    for name in values[0]:
        drawn = np.array([value[name] for value in values])
        row: Row = {"value": float(drawn.mean()), "stderr": float(drawn.std(ddof=1))}
        ends = {"low": float(drawn.min()), "high": float(drawn.max())}
        rows[f"null_{name}"] = row | ends | {"num_examples": num_examples}
    return rows
