"""Tables of richness and of transfer: a row per checkpoint and split, or environment.

Cells are as in `reports.tables`; a dash stands for what was not measured or is undefined.
"""

import math
from collections.abc import Mapping, Sequence

from analysis.estimates import DASH, Estimate, ordered, select
from analysis.richness_verdicts import SPLITS, checkpoints, layer_of, places, split_names
from core.records import Record
from reports import tables
from reports.richness_maps import shown_pairs
from reports.richness_runs import names_of
from reports.tables import Quantity, Table

RANKS = (
    Quantity("Effective rank", "effective_rank_centred"),
    Quantity("units permuted", "null_effective_rank_centred"),
    Quantity("Particip. ratio", "participation_ratio_unbiased"),
    Quantity("Stable rank", "stable_rank_centred"),
    Quantity("RankMe", "rankme"),
)
SPECTRUM = (
    Quantity("Alpha-ReQ", "alpha_req"),
    Quantity("R² of its fit", "alpha_req_r2"),
    Quantity("Coding rate", "coding_rate"),
    Quantity("at unit scale", "coding_rate_unit"),
    Quantity("95 % dims", "explained_variance_dims_95"),
    Quantity("Share of mean", "mean_share"),
)
CLASSES = (
    Quantity("NC1", "nc1"),
    Quantity("labels permuted", "null_nc1"),
    Quantity("CDNV", "cdnv"),
    Quantity("NC2 norms", "nc2_norm_variation"),
    Quantity("NC2 simplex", "nc2_etf_error"),
    Quantity("NC3", "nc3_duality_error"),
    Quantity("NC4", "nc4_agreement"),
)
SPARSITY = (
    Quantity("Exact zeros", "zero_share"),
    Quantity("Dead units", "dead_share"),
    Quantity("Hoyer", "hoyer"),
    Quantity("Gini", "gini"),
    Quantity("T-R, example", "population_sparsity"),
    Quantity("T-R, unit", "lifetime_sparsity"),
)
DECORRELATION = (
    Quantity("Correlation", "correlation"),
    Quantity("Covariance term", "covariance_term"),
    Quantity("Spread on sphere", "normalised_std"),
    Quantity("Uniformity", "uniformity"),
)
REDUNDANCY = (
    Quantity("Diffused redundancy", "diffused_redundancy"),
    Quantity("Subset accuracy", "subset_accuracy_area"),
    Quantity("Predictability", "unit_predictability"),
    Quantity("units permuted", "null_unit_predictability"),
    Quantity("median unit", "unit_predictability_median"),
    Quantity("Nearly dead", "nearly_dead_units"),
    Quantity("Own head", "masked_accuracy", at=0.0),
    Quantity("90 % masked", "masked_accuracy", at=0.9),
)
SIMILARITY = (
    Quantity("CKA", "cka"),
    Quantity("permuted", "null_cka"),
    Quantity("Neighbours", "mutual_knn"),
    Quantity("permuted", "null_mutual_knn"),
    Quantity("Procrustes", "procrustes_distance"),
    Quantity("permuted", "null_procrustes_distance"),
    Quantity("SVCCA", "svcca"),
    Quantity("permuted", "null_svcca"),
)
ENVIRONMENT = (RANKS[0], RANKS[2], CLASSES[0], CLASSES[2], DECORRELATION[0])
SCORES = (
    Quantity("LogME", "logme"),
    Quantity("permuted", "null_logme"),
    Quantity("LEEP", "leep"),
    Quantity("N-LEEP", "n_leep"),
    Quantity("NCE", "nce"),
    Quantity("H-score", "h_score"),
    Quantity("permuted", "null_h_score"),
    Quantity("TransRate", "transrate"),
)
PROBES = (
    Quantity("Linear probe", "probe_accuracy"),
    *(Quantity(f"{k}-NN", "knn_accuracy", at=float(k)) for k in (10, 20, 100, 200)),
)

Place = dict[str, str]


def tables_of(record: Record) -> dict[str, Table]:
    """The tables of a record of richness by name."""
    groups = {
        "ranks": RANKS,
        "spectrum": SPECTRUM,
        "classes": CLASSES,
        "sparsity": SPARSITY,
        "decorrelation": DECORRELATION,
        "redundancy": REDUNDANCY,
    }
    found = {name: by_split(record, quantities) for name, quantities in groups.items()}
    return found | {
        "environments": by_environment(record, ENVIRONMENT),
        "similarity": by_pair(record, SIMILARITY),
    }


def transfer_tables(record: Record) -> dict[str, Table]:
    """The tables of a record of transfer by name."""
    return {
        "probes": by_environment(record, PROBES),
        "scores": by_split(record, SCORES),
    }


def by_split(record: Record, quantities: Sequence[Quantity]) -> Table:
    """A row per split and checkpoint, over all examples of the split."""
    spots = [
        {"run": run, "split": split, "env": places(record, run)[split]}
        for split in split_names(record)
        for run in checkpoints(record)
        if split in places(record, run)
    ]
    labels = [_split_label(record, spot, quantities) for spot in spots]
    return _table(record, quantities, spots, labels, names_of(record))


def by_environment(record: Record, quantities: Sequence[Quantity]) -> Table:
    """A row per environment and checkpoint, all environments of a split together among them."""
    rows = record.values[["split", "env", "run"]].dropna().drop_duplicates().to_numpy().tolist()
    found = {(split, env, run) for split, env, run in rows}
    where = dict.fromkeys((split, env) for split, env, run in rows if " | " not in run)
    spots = [
        {"run": run, "split": split, "env": env}
        for split, env in sorted(where, key=lambda pair: SPLITS.index(pair[0]))
        for run in checkpoints(record)
        if (split, env, run) in found
    ]
    labels = [f"{spot['env']}, {_split_label(record, spot, quantities)}" for spot in spots]
    heading = ("Examples, split, N", "Checkpoint")
    return _table(record, quantities, spots, labels, names_of(record), heading)


def by_pair(record: Record, quantities: Sequence[Quantity]) -> Table:
    """A row per split and two checkpoints that were compared on the same examples."""
    spots = [
        {"run": pair.run, "split": pair.split, "env": env}
        for pair in shown_pairs(record)
        if (env := places(record, pair.first).get(pair.split)) is not None
    ]
    names = {spot["run"]: spot["run"].replace(" | ", ", ") for spot in spots}
    labels = [spot["split"] for spot in spots]
    return _table(record, quantities, spots, labels, names, ("Split", "Checkpoints"))


def sizes(record: Record) -> list[list[str]]:
    """Splits and environments with their numbers of examples, each once."""
    rows = select(record.values, _any_metric(record))[["split", "env", "num_examples"]].dropna()
    largest: dict[tuple[str, str], int] = {}
    for split, env, num in rows.to_numpy().tolist():
        largest[split, env] = max(num, largest.get((split, env), 0))
    found = [[split, env, str(num)] for (split, env), num in largest.items()]
    return sorted(found, key=lambda entry: SPLITS.index(entry[0]))


def _split_label(record: Record, spot: Place, quantities: Sequence[Quantity]) -> str:
    """The split and how many examples the quantities are of; probes leave out what they fit."""
    where = {"layer": layer_of(record), **spot}
    rows = [select(record.values, q.metric, at=q.at, **where) for q in quantities]
    sizes = [num for of in rows for num in of["num_examples"].dropna().tolist()]
    return f"{spot['split']}, {max(sizes)}" if sizes else spot["split"]


def _any_metric(record: Record) -> str:
    """A metric of all examples of a group, which says how many there are."""
    preferred = ("effective_rank_centred", "nc1", "zero_share", "correlation", "probe_accuracy")
    measured = ordered(record.values, "metric")
    return next((metric for metric in preferred if metric in measured), measured[0])


def _table(
    record: Record,
    quantities: Sequence[Quantity],
    spots: Sequence[Place],
    labels: Sequence[str],
    names: Mapping[str, str],
    heading: tuple[str, str] = ("Split, N", "Checkpoint"),
) -> Table:
    """Columns and rows that have an entry; none where the record has nothing of the kind."""
    metrics = set(record.values["metric"])
    shown = [q for q in quantities if q.metric in metrics]
    layer = {"layer": layer_of(record)}
    cells = [[cell(q.find(record, spot | layer)) for q in shown] for spot in spots]
    rows = [
        [label, names[spot["run"]], *line]
        for label, spot, line in zip(labels, spots, cells, strict=True)
        if any(entry != DASH for entry in line)
    ]
    header = [*heading, *(q.title(record.metrics) for q in shown)]
    return {"labels": 2, "header": header, "rows": rows}


def cell(found: Estimate | None) -> str:
    """A value with its interval; a dash where it is undefined."""
    return DASH if found is None or math.isnan(found.value) else tables.cell(found)
