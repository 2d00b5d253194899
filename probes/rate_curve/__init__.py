"""Dropout is ridge, as accuracy against the rate; `python -m probes.rate_curve`."""

from probes.rate_curve.curve import rate_rows
from probes.rate_curve.ridge import ridge_head
from probes.rate_curve.rows import METRICS, Examples

__all__ = ["METRICS", "Examples", "rate_rows", "ridge_head"]
