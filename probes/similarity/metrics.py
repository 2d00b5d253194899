"""What each similarity means and what it does not see, gathered from where they are computed."""

from probes.similarity import cka, neighbours, shape

METRICS = cka.METRICS | neighbours.METRICS | shape.METRICS
INVARIANCES = cka.INVARIANCES | neighbours.INVARIANCES | shape.INVARIANCES
"""What may be done to either representation without changing the number, by metric."""
