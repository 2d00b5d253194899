"""Parts of the synthetic records, for tests of the richness report."""

from core.records import Record
from tests.reports.synthetic_richness import (
    richness_record,
    transfer_record,
)

LAYERS = ("features", "layer1", "layer2")
SMALL = ("erm-s0/init", "erm-s0", "dropout0.9-s0")
NAMES = ["erm-s0/init", "erm-s0", "dropout0.9-s0/init", "dropout0.9-s0", "scratch-s0 (control)"]


def only(record: Record, *metrics: str) -> Record:
    """The same record with these metrics alone, as of an earlier or a narrower measurement."""
    values = record.values[record.values["metric"].isin(metrics)].reset_index(drop=True)
    kept = {"probe", "config", "metrics", "provenance"}
    return Record(values=values, **{name: getattr(record, name) for name in kept})


def small(layers: tuple[str, ...] = LAYERS[:1]) -> Record:
    """A fine-tuned run with its start, and another run, in two environments."""
    return richness_record(runs=SMALL, envs=("ink", "rotated"), layers=layers)


def small_transfer() -> Record:
    return transfer_record(runs=SMALL, envs=("ink", "rotated"))


def one() -> Record:
    """A file of features: one checkpoint, no network, one group of examples."""
    return richness_record(runs=("text",), envs=("all",), files=True, head=False)
