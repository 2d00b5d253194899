"""How alike two representations of the same examples are, beside what chance would give."""

from probes.similarity.cka import cka_map, linear_cka, top_component_sensitivity
from probes.similarity.metrics import INVARIANCES, METRICS
from probes.similarity.neighbours import mutual_knn
from probes.similarity.permutation import NullComparison, permutation_null
from probes.similarity.representation import Representation
from probes.similarity.shape import procrustes_distance, svcca

__all__ = [
    "INVARIANCES",
    "METRICS",
    "NullComparison",
    "Representation",
    "cka_map",
    "linear_cka",
    "mutual_knn",
    "permutation_null",
    "procrustes_distance",
    "svcca",
    "top_component_sensitivity",
]
