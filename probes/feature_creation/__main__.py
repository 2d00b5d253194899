r"""Does fine-tuning create features, or does it use those that the pretrained network has?

    python -m probes.feature_creation                          # the embedded example
    python -m probes.feature_creation --checkpoints runs/sketch-erm runs/sketch-dropout
    python -m probes.feature_creation --checkpoints runs/lr-*  # R2 over the learning rate as well

Runs may differ in learning rate, steps and training images; the report says how R2 depends on
them. Writes a record folder with a PDF in it and prints the verdicts. A killed probe continues
with the same command.
"""

from core.command_line import run
from core.records import Record
from probes.feature_creation.config import FeatureCreationConfig
from probes.feature_creation.measure import PROBE
from probes.feature_tables import write_and_print
from reports.feature_creation import verdict_lines, write_report


def probe(config: FeatureCreationConfig) -> None:
    """Measure, write the record folder with its PDF, and print the verdicts."""
    write_and_print(config, PROBE, _summary, write_report)


def _summary(record: Record) -> str:
    return "\n".join(verdict_lines(record))


def main() -> None:
    """Entry point of `python -m probes.feature_creation`."""
    run(probe, FeatureCreationConfig)


if __name__ == "__main__":
    main()
