r"""What a representation is good for: linear probes, neighbours, few shots, transfer scores.

    python -m probes.transfer                                # the embedded example
    python -m probes.transfer --checkpoints runs/erm runs/dropout --layers features blocks
    python -m probes.transfer --features text.npy --labels labels.npy    # any encoder's features

A probe trained on the source environments beside one trained on the target tells whether the head
fails there, or whether the features are lost. Writes a record folder and prints a table. A killed
probe continues with the same command.
"""

from core.command_line import run
from probes.feature_tables import Column, write_and_print
from probes.transfer.config import TransferConfig
from probes.transfer.measure import PROBE

COLUMNS = (
    Column("probe", "probe_accuracy"),
    Column("20 neighbours", "knn_accuracy", 20.0),
    Column("4 shots", "few_shot_accuracy", 4.0),
    Column("target probe", "target_probe_accuracy"),
    Column("gap", "transfer_gap"),
    Column("LogME", "logme"),
    Column("H-score", "h_score"),
)


def main() -> None:
    """Entry point of `python -m probes.transfer`."""
    run(lambda config: write_and_print(config, PROBE, COLUMNS), TransferConfig)


if __name__ == "__main__":
    main()
