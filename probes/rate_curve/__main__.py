r"""Is dropout ridge? Accuracy of linear layers by dropout, by ridge and by closed form.

    python -m probes.rate_curve                                # the embedded example
    python -m probes.rate_curve --checkpoints runs/sketch-erm --rates 0 0.5 0.9 --steps 8000
    python -m probes.rate_curve --model resnet50 --checkpoints before.pth --data PACS \
        --test_env sketch --stacked 3                          # model (1)'s inputs as well
    python -m probes.rate_curve --features text.npy --labels labels.npy    # any encoder's features

Of run folders it takes the network before fine-tuning. Writes a record folder with a PDF in it and
prints the verdicts. A killed probe continues with the same command.
"""

from core.command_line import run
from core.records import Record
from probes.feature_tables import write_and_print
from probes.rate_curve.config import RateCurveConfig
from probes.rate_curve.measure import PROBE
from reports.rate_curve import verdict_lines, write_report


def probe(config: RateCurveConfig) -> None:
    """Measure, write the record folder with its PDF, and print the verdicts."""
    write_and_print(config, PROBE, _summary, write_report)


def _summary(record: Record) -> str:
    return "\n".join(verdict_lines(record))


def main() -> None:
    """Entry point of `python -m probes.rate_curve`."""
    run(probe, RateCurveConfig)


if __name__ == "__main__":
    main()
