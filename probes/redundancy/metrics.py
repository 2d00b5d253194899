"""What each measure of redundancy means, gathered from where they are computed."""

from probes.redundancy import concatenation, diffused, masking, predictability

METRICS = diffused.METRICS | masking.METRICS | concatenation.METRICS | predictability.METRICS
