"""How rich a representation is: its spectrum, classes, sparsity and redundancy of features."""

from probes.richness.alpha_req import AlphaReQ, alpha_req
from probes.richness.class_structure import Classifier, ClassStructure
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
    alignment,
    correlation,
    covariance_term,
    normalised_std,
    uniformity,
)
from probes.richness.evaluate import Measures, all_measures
from probes.richness.intervals import measures_with_intervals
from probes.richness.lidar import lidar
from probes.richness.metrics import METRICS
from probes.richness.ranks import (
    coding_rate,
    effective_rank,
    explained_variance_dims,
    nesum,
    participation_ratio,
    rankme,
    stable_rank,
    unbiased_traces,
)
from probes.richness.sparsity import Sparsity, sparsity
from probes.richness.spectrum import Moments

__all__ = [
    "METRICS",
    "AlphaReQ",
    "ClassStructure",
    "Classifier",
    "Measures",
    "Moments",
    "Sparsity",
    "alignment",
    "all_measures",
    "alpha_req",
    "cdnv",
    "coding_rate",
    "correlation",
    "covariance_term",
    "effective_rank",
    "explained_variance_dims",
    "lidar",
    "measures_with_intervals",
    "nc1",
    "nc2_etf_error",
    "nc2_norm_variation",
    "nc3_duality_error",
    "nc4_agreement",
    "nesum",
    "normalised_std",
    "participation_ratio",
    "rankme",
    "sparsity",
    "stable_rank",
    "trace_ratio",
    "unbiased_traces",
    "uniformity",
]
