"""Every measure at once, sharing the scatter, its eigenvalues and the class means.

`LiDAR` and `alignment` need several views of each image and are called by themselves.

Shapes: N examples, D features, C classes.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Literal, TypeVar

from core.arrays import Array
from core.errors import InputError
from probes.richness.alpha_req import AlphaReQ, alpha_req
from probes.richness.class_structure import Centre, Classifier, ClassStructure
from probes.richness.collapse import (
    cdnv,
    nc1,
    nc2_etf_error,
    nc2_norm_variation,
    nc3_duality_error,
    nc4_agreement,
    trace_ratio,
)
from probes.richness.decorrelation import (
    Correlation,
    correlation,
    covariance_term,
    normalised_std,
    uniformity,
)
from probes.richness.ranks import (
    coding_rate,
    effective_rank,
    explained_variance_dims,
    participation_ratio,
    rankme,
    stable_rank,
    varying_moments,
)
from probes.richness.sparsity import sparsity
from probes.richness.spectrum import Moments, Source

Family = Literal["spectral", "class", "sparsity", "decorrelation"]
FAMILIES: tuple[Family, ...] = ("spectral", "class", "sparsity", "decorrelation")
Outcome = dict[str, float | InputError]
Subject = TypeVar("Subject")


@dataclass(frozen=True)
class Measures:
    """Values by metric; NaN where there is none, and then the sentence that says why."""

    values: dict[str, float]
    reasons: dict[str, str]


def mean_share(moments: Moments) -> float:
    r"""Share of the mean in the squared norm, :math:`N \|\mu\|^2 / \|Z\|_F^2`."""
    mean = moments.num_examples * float(moments.mean @ moments.mean)
    return mean / moments.total(centred=False)


def _fit(moments: Moments) -> AlphaReQ:
    fit = alpha_req(moments)
    if fit.reason:
        raise InputError(fit.reason)
    return fit


SPECTRAL: Mapping[str, Callable[[Moments], float]] = {
    "effective_rank": partial(effective_rank, centred=False),
    "effective_rank_centred": effective_rank,
    "effective_rank_eigen": partial(effective_rank, on="eigen", centred=False),
    "effective_rank_eigen_centred": partial(effective_rank, on="eigen"),
    "rankme": rankme,
    "participation_ratio": partial(participation_ratio, centred=False),
    "participation_ratio_centred": participation_ratio,
    "participation_ratio_unbiased": partial(participation_ratio, unbiased=True),
    "stable_rank": partial(stable_rank, centred=False),
    "stable_rank_centred": stable_rank,
    "explained_variance_dims_90": partial(explained_variance_dims, share=0.90),
    "explained_variance_dims_95": partial(explained_variance_dims, share=0.95),
    "explained_variance_dims_99": partial(explained_variance_dims, share=0.99),
    "coding_rate": coding_rate,
    "coding_rate_unit": partial(coding_rate, unit_scale=True),
    "alpha_req": lambda moments: _fit(moments).alpha,
    "alpha_req_r2": lambda moments: _fit(moments).r2,
    "mean_share": mean_share,
}
CLASS: Mapping[str, Callable[[ClassStructure], float]] = {
    "nc1": nc1,
    "trace_ratio": trace_ratio,
    "cdnv": cdnv,
    "nc2_norm_variation": nc2_norm_variation,
    "nc2_etf_error": nc2_etf_error,
}
HEAD: Mapping[str, Callable[[ClassStructure, Classifier], float]] = {
    "nc3_duality_error": nc3_duality_error,
    "nc4_agreement": nc4_agreement,
}
SPARSITY = (
    "zero_share",
    "dead_units",
    "dead_share",
    "hoyer",
    "gini",
    "population_sparsity",
    "lifetime_sparsity",
    "kurtosis",
    "zero_examples",
)


def all_measures(
    features: Source,
    labels: Array | None = None,
    classifier: Classifier | None = None,
    *,
    families: Collection[Family] = FAMILIES,
    centre: Centre = "classes",
    tau: float = 0.0,
    seed: int = 0,
) -> Measures:
    """Every measure of the features, and of their classes and classifier where given.

    Args:
        features: N x D, or their moments.
        labels: Class index of every example, for the measures of class structure.
        classifier: Weights and bias of the head, for NC3 and NC4.
        families: Which measures.
        centre: Which mean the class means are compared with.
        tau: Largest magnitude of a dead unit.
        seed: Seed of the subsample for uniformity.

    Returns:
        Values with the names of `METRICS`. One that the features leave undefined is NaN with a
        reason.

    Raises:
        InputError: If nothing can be said: too few examples, constant features, or a classifier
            without labels.
    """
    moments = varying_moments(features)
    found: Outcome = {}
    if "spectral" in families:
        found |= _each(SPECTRAL, moments)
    if "class" in families:
        found |= _of_classes(moments.features, labels, classifier, centre)
    if "sparsity" in families:
        found |= _of_activity(moments, tau)
    if "decorrelation" in families:
        found |= _of_correlations(moments, seed)
    errors = {name: str(v) for name, v in found.items() if isinstance(v, InputError)}
    return Measures(
        {name: float("nan") if isinstance(v, InputError) else v for name, v in found.items()},
        errors,
    )


def _each(measures: Mapping[str, Callable[[Subject], float]], subject: Subject) -> Outcome:
    return {name: _try(lambda m=measure: float(m(subject))) for name, measure in measures.items()}


def _try(compute: Callable[[], Subject]) -> Subject | InputError:
    try:
        return compute()
    except InputError as error:
        return error


def _of_classes(
    features: Array, labels: Array | None, classifier: Classifier | None, centre: Centre
) -> Outcome:
    if labels is None:
        if classifier is not None:
            raise InputError("a classifier was given without labels; give the labels as well")
        return {}
    structure = _try(lambda: ClassStructure.of(features, labels, centre=centre))
    measures = [*CLASS, *(HEAD if classifier is not None else ())]
    if isinstance(structure, InputError):
        return dict.fromkeys(measures, structure)
    found = _each(CLASS, structure)
    if classifier is not None:
        for name, measure in HEAD.items():
            found[name] = _try(lambda m=measure: m(structure, classifier))
    return found


def _of_activity(moments: Moments, tau: float) -> Outcome:
    found = _try(lambda: asdict(sparsity(moments.features, tau)))
    if isinstance(found, InputError):
        return dict.fromkeys(SPARSITY, found)
    return {name: float(found[name]) for name in SPARSITY}


def _of_correlations(moments: Moments, seed: int) -> Outcome:
    found = _try(lambda: correlation(moments))
    uniform = _try(lambda: uniformity(moments, seed=seed).value)
    return {
        "correlation": found.value if isinstance(found, Correlation) else found,
        "constant_columns": float((moments.variances == 0).sum()),
        "uniformity": uniform,
        **_each({"covariance_term": covariance_term, "normalised_std": normalised_std}, moments),
    }
