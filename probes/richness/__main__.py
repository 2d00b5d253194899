r"""How rich is a representation: its rank, collapse, redundancy and similarity to others.

    python -m probes.richness                                # the embedded example
    python -m probes.richness --checkpoints runs/erm runs/dropout --layers features blocks
    python -m probes.richness --model resnet50 --checkpoints before.pth after.pth --data PACS
    python -m probes.richness --features text.npy --labels labels.npy    # any encoder's features

Writes a record folder, with spectra, layer maps and a PDF in it, and prints a table. Features are
kept in a cache, which other probes of the same checkpoints read. A killed probe continues with the
same command.
"""

from core.command_line import run
from probes.feature_tables import Column, write_and_print
from probes.richness.config import RichnessConfig
from probes.richness.measure import PROBE
from reports.richness import write_report

COLUMNS = (
    Column("eff. rank", "effective_rank_centred"),
    Column("units permuted", "null_effective_rank_centred"),
    Column("part. ratio", "participation_ratio_unbiased"),
    Column("NC1", "nc1"),
    Column("CDNV", "cdnv"),
    Column("diffused red.", "diffused_redundancy"),
    Column("predictability", "unit_predictability"),
)


def probe(config: RichnessConfig) -> None:
    """Measure, write the record folder with its PDF, and print the table."""
    write_and_print(config, PROBE, COLUMNS, write_report)


def main() -> None:
    """Entry point of `python -m probes.richness`."""
    run(probe, RichnessConfig)


if __name__ == "__main__":
    main()
