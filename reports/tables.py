"""Tables of a linearity record: headings from the declared metrics, cells as text.

Accuracies are fractions. A cell is `value ± half-width` where the interval is symmetric within a
tenth (the wider side is printed), `value [low, high]` where it is not, and an empty bracket where
the record has none.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from analysis.estimates import DASH, Estimate, estimate, number, ordered, select
from core.records import Metric, Record
from reports.figures import environments, run_names, splits

Table = dict[str, Any]
ARROWS = {"higher": " ↑", "lower": " ↓", None: ""}
_SYMMETRIC = 0.1
_SHORT = 30  # cells of a per-block table; a longer one is left to the figure
_LABELS = {"run": "Run", "env": "Environment", "split": "Split"}


@dataclass(frozen=True)
class Quantity:
    """A column: its heading and the rows of the record that fill it."""

    heading: str
    metric: str
    layer: str | None = None
    at: float | None = None

    def find(self, record: Record, place: Mapping[str, str]) -> Estimate | None:
        """The entry for one run, environment and split."""
        where = dict(place) if self.layer is None else {**place, "layer": self.layer}
        return estimate(record.values, self.metric, at=self.at, **where)

    def title(self, metrics: Mapping[str, Metric]) -> str:
        """The heading with an arrow towards the better side, as the metric declares it."""
        declared = metrics.get(self.metric)
        return self.heading + ARROWS[declared.direction if declared else None]


ACCURACY = Quantity("Accuracy", "weight_accuracy", at=1.0)
FEATURES = Quantity("R² of Φ", "explained_displacement", "features", 1.0)
RADIUS = Quantity("Lazy radius", "lazy_radius", "features")
AGREEMENT = Quantity("Agreement", "linear_agreement")
GAP = Quantity("Largest gap", "interpolation_gap_max")
LINEARITY = (
    ACCURACY,
    FEATURES,
    Quantity("R² of f", "explained_displacement", "logits", 1.0),
    RADIUS,
    AGREEMENT,
)
DECISIONS = (
    Quantity("Linear accuracy", "linear_accuracy"),
    Quantity("Gain share", "linear_gain_share"),
    GAP,
    Quantity("Area of gap", "interpolation_gap_area"),
    Quantity("Barrier", "barrier"),
)
SCALE = (
    Quantity("Displacement", "displacement", "features"),
    Quantity("R², random", "random_explained_displacement"),
    Quantity("R², permuted", "permuted_explained_displacement"),
    Quantity("Curvature ratio", "curvature_ratio", "features"),
    Quantity("Interaction", "block_interaction"),
)
ENVIRONMENT = (ACCURACY, FEATURES, RADIUS, AGREEMENT, GAP)


def cell(found: Estimate | None) -> str:
    """A value with its interval as the tables print it.

    Example:
        >>> cell(Estimate(0.8123, 0.7923, 0.8323)), cell(Estimate(0.8, 0.75, 0.82))
        ('0.812 ± 0.020', '0.800 [0.750, 0.820]')
        >>> cell(None) == DASH
        True
    """
    if found is None:
        return DASH
    below, above = found.value - found.low, found.high - found.value
    if abs(below - above) <= _SYMMETRIC * max(below, above):
        return f"{number(found.value)} ± {number(max(below, above))}"
    return str(found)


def by_split(
    record: Record, quantities: Sequence[Quantity], metric: str = "explained_displacement"
) -> Table:
    """A row per run and split that has a metric, pooled over the environments of the split."""
    places = [
        {"run": run, "env": "all", "split": split}
        for run in run_names(record)
        for split in splits(record, metric)
    ]
    return _table(record, ("run", "split"), quantities, places)


def by_environment(
    record: Record, quantities: Sequence[Quantity], metric: str = "weight_accuracy"
) -> Table:
    """A row per run and environment that has a metric."""
    found = select(record.values, metric)
    split_of = {(run, env): s for run, env, s in found[["run", "env", "split"]].to_numpy()}
    places = [
        {"run": run, "env": env, "split": split_of[run, env]}
        for run in run_names(record)
        for env in environments(record, metric)
        if (run, env) in split_of
    ]
    return _table(record, ("run", "env", "split"), quantities, places)


def _table(
    record: Record,
    labels: Sequence[str],
    quantities: Sequence[Quantity],
    places: Sequence[dict[str, str]],
) -> Table:
    rows = [
        [*(place[label] for label in labels), *(cell(q.find(record, place)) for q in quantities)]
        for place in places
    ]
    titles = [quantity.title(record.metrics) for quantity in quantities]
    return {
        "labels": len(labels),
        "header": [*(_LABELS[label] for label in labels), *titles],
        "rows": rows,
    }


def blocks(record: Record, split: str) -> Table | None:
    """R2 of every block's own output, a row per block; None where the table would be long."""
    runs = list(run_names(record))
    own_outputs = select(record.values, "explained_displacement", at=1.0)
    layers = [a for a in ordered(own_outputs, "layer") if a not in {"features", "logits"}]
    if not layers or len(runs) * len(layers) > _SHORT:
        return None
    own = {"env": "all", "split": split}
    found = {
        (run, layer): estimate(
            record.values, "explained_displacement", at=1.0, run=run, layer=layer, **own
        )
        for run in runs
        for layer in layers
    }
    rows = [[layer, *(cell(found[run, layer]) for run in runs)] for layer in layers]
    return {"labels": 1, "header": ["Block", *runs], "rows": rows}


def weights(record: Record) -> Table:
    """How far each group of weights moved, a row per group; exact, hence without intervals."""
    runs = list(run_names(record))
    groups = ordered(select(record.values, "weight_displacement"), "layer")
    rows = [
        [
            group,
            *(
                _plain(estimate(record.values, "weight_displacement", run=run, layer=group))
                for run in runs
            ),
        ]
        for group in groups
    ]
    moved = [_plain(estimate(record.values, "buffer_share", run=run)) for run in runs]
    gaps = [_largest(record, "float64_gap", run) for run in runs]
    checks = [["share of buffers", *moved], ["float64 gap", *gaps]]
    return {"labels": 1, "header": ["Weights", *runs], "rows": [*rows, *checks]}


def _largest(record: Record, metric: str, run: str) -> str:
    found = select(record.values, metric, run=run)["value"].to_numpy()
    return number(found.max()) if found.size else DASH


def _plain(found: Estimate | None) -> str:
    return DASH if found is None else number(found.value)


def recipes(record: Record) -> Table:
    """How every run was made; those whose makers are not known have no row."""
    header = ["Run", "Start", "Dropout", "Optimiser", "Learning rate", "Steps", "Seed", "Loss"]
    rows = [
        [
            run["run"],
            "random" if run["from_scratch"] else "pretrained",
            *(_text(run.get(key)) for key in ("drop_rate", "optimizer", "lr", "steps", "seed")),
            _text(run.get("train_loss")),
        ]
        for run in record.provenance["runs"]
        if "from_scratch" in run and not run["run"].endswith("/init")
    ]
    return {"labels": 2, "header": header, "rows": rows}


def _text(entry: object) -> str:
    if entry is None or entry == []:
        return DASH
    if isinstance(entry, float):
        return f"{entry:.4g}"
    return ", ".join(map(str, entry)) if isinstance(entry, list | tuple) else str(entry)
