"""Does fine-tuning create features, or use those it found; `python -m probes.feature_creation`."""

from probes.feature_creation.cross_validated_ridge import cross_validated
from probes.feature_creation.metrics import METRICS
from probes.feature_creation.probed import probe_rows
from probes.feature_creation.shared import shared_rows
from probes.feature_creation.views import Views

__all__ = ["METRICS", "Views", "cross_validated", "probe_rows", "shared_rows"]
