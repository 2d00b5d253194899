"""The empirical neural tangent kernel: exact, by block, to disk, matrix-free and sketched."""

from probes.ntk.exact import empirical_ntk
from probes.ntk.operator import NTKOperator
from probes.ntk.sketch import estimated_kernel, sketched_features
from probes.ntk.stored import stored_ntk

__all__ = ["NTKOperator", "empirical_ntk", "estimated_kernel", "sketched_features", "stored_ntk"]
