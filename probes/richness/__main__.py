r"""How rich is a representation: its rank, collapse, redundancy and similarity to others.

    python -m probes.richness                                # the embedded example
    python -m probes.richness --checkpoints runs/erm runs/dropout --layers features blocks
    python -m probes.richness --model resnet50 --checkpoints before.pth after.pth --data PACS
    python -m probes.richness --features text.npy --labels labels.npy    # any encoder's features

Writes a record folder, with spectra and layer maps in it, and prints a table. Features are kept
in a cache, which other probes of the same checkpoints read. A killed probe continues with the same
command.
"""

from core.command_line import run
from probes.feature_tables import Column, write_and_print
from probes.richness.config import RichnessConfig
from probes.richness.measure import PROBE, measure_with

COLUMNS = (
    Column("eff. rank", "effective_rank_centred"),
    Column("units permuted", "null_effective_rank_centred"),
    Column("part. ratio", "participation_ratio_unbiased"),
    Column("NC1", "nc1"),
    Column("CDNV", "cdnv"),
    Column("diffused red.", "diffused_redundancy"),
    Column("predictability", "unit_predictability"),
)


def main() -> None:
    """Entry point of `python -m probes.richness`."""
    run(lambda config: write_and_print(config, PROBE, measure_with, COLUMNS), RichnessConfig)


if __name__ == "__main__":
    main()
