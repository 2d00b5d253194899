"""The empirical neural tangent kernel: exact, per block, matrix-free, sketched."""

from probes.ntk.exact import empirical_ntk

__all__ = ["empirical_ntk"]
