"""How alike two representations of the same examples are, beside what chance would give."""

from probes.similarity.cka import cka_map, linear_cka, top_component_sensitivity
from probes.similarity.metrics import INVARIANCES, METRICS
from probes.similarity.neighbours import Neighbours, mutual_knn, shared_neighbours
from probes.similarity.permutation import NullComparison, permutation_null
from probes.similarity.representation import Representation
from probes.similarity.shape import (
    mean_canonical_correlation,
    principal_directions,
    procrustes_distance,
    shape_angle,
    svcca,
    unit_shape,
)

__all__ = [
    "INVARIANCES",
    "METRICS",
    "Neighbours",
    "NullComparison",
    "Representation",
    "cka_map",
    "linear_cka",
    "mean_canonical_correlation",
    "mutual_knn",
    "permutation_null",
    "principal_directions",
    "procrustes_distance",
    "shape_angle",
    "shared_neighbours",
    "svcca",
    "top_component_sensitivity",
    "unit_shape",
]
