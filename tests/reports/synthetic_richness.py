"""Records of the probes `richness` and `transfer` of synthetic numbers; only shapes are real.

Fine-tuning lowers ranks and raises collapse, more so out of distribution, so that verdicts differ.
"""

from itertools import combinations, permutations
from typing import Any

import numpy as np

from core.records import Metric, Record, tidy
from tests.reports.synthetic import interval

RUNS = ("erm-s0/init", "erm-s0", "dropout0.9-s0/init", "dropout0.9-s0", "scratch-s0")
ENVS = ("ink", "photo", "rotated")  # the last is not trained on
LAYERS = ("features",)
NUM, UNITS, DRAWS = 40, 16, 3
REASON = "only 7 eigenvalues are above rounding noise; the fit over ranks 10 to 99 needs 99"

HIGHER: dict[str, float] = {
    "effective_rank_centred": 9.0,
    "participation_ratio_unbiased": 6.0,
    "stable_rank_centred": 3.0,
    "explained_variance_dims_95": 11.0,
    "rankme": 7.0,
    "coding_rate": 50.0,
    "coding_rate_unit": 20.0,
    "normalised_std": 0.6,
}
LOWER: dict[str, float] = {
    "correlation": 0.2,
    "covariance_term": 0.5,
    "uniformity": -1.5,
    "dead_share": 0.1,
}
NEITHER: dict[str, float] = {
    "null_effective_rank_centred": 14.0,
    "mean_share": 0.6,
    "nc1": 0.5,
    "null_nc1": 30.0,
    "cdnv": 0.4,
    "nc2_norm_variation": 0.2,
    "nc2_etf_error": 0.6,
    "nc3_duality_error": 1.1,
    "nc4_agreement": 0.9,
    "zero_share": 0.3,
    "hoyer": 0.4,
    "gini": 0.5,
    "population_sparsity": 0.5,
    "lifetime_sparsity": 0.4,
}
CURVES = (
    "subset_accuracy",
    "top_components_accuracy",
    "bottom_components_accuracy",
    "random_projection_accuracy",
)
PREDICTABILITY = ("unit_predictability", "unit_predictability_median")
SIMILARITIES = ("cka", "mutual_knn", "procrustes_distance", "svcca")
SCORES = ("logme", "leep", "n_leep", "nce", "h_score", "transrate")
FRACTIONS, RATES, SHOTS = (0.1, 0.5, 1.0), (0.0, 0.5, 0.9), (1.0, 2.0, 4.0)


def _metric(name: str) -> Metric:
    higher = {*HIGHER, *CURVES, "subset_accuracy_area", "masked_accuracy", *SCORES}
    higher |= {"probe_accuracy", "knn_accuracy", "few_shot_accuracy"}
    higher |= {"source_probe_accuracy", "target_probe_accuracy"}
    direction = "higher" if name in higher else "lower" if name in LOWER else None
    return Metric(title=name.replace("_", " "), direction=direction)


def richness_record(
    runs: tuple[str, ...] = RUNS,
    envs: tuple[str, ...] = ENVS,
    layers: tuple[str, ...] = LAYERS,
    *,
    files: bool = False,
    head: bool = True,
) -> Record:
    """A record as the probe writes it; of `files` of features, or of networks without a `head`."""
    rows: list[dict[str, Any]] = []
    arrays: dict[str, np.ndarray] = {}
    for run in runs:
        for layer in layers:
            for split, env in places(envs, files=files):
                where = {"run": run, "layer": layer, "split": split, "env": env}
                rows += [where | row for row in _single(_richness(run, split), head=head)]
                arrays |= _spectra("|".join(where.values()), _richness(run, split))
                if (split, env) in _wholes(envs, files=files):
                    rows += [where | row for row in _redundancy(run, head=head)]
    for first, second in permutations(runs, 2):
        for split, env in _wholes(envs, files=files):
            where = {"run": f"{first} | {second}", "split": split, "env": env, "layer": layers[0]}
            for metric in ("concatenation_gain", "concatenation_gain_over_width"):
                rows.append(where | interval(metric, 0.02, num_examples=NUM))
    for first, second in combinations(runs, 2):
        for split, env in _wholes(envs, files=files):
            name = f"{first} | {second}"
            where = {"run": name, "split": split, "env": env}
            values = dict.fromkeys(SIMILARITIES, 0.8)
            values |= {f"null_{metric}": 0.0 for metric in SIMILARITIES}
            rows += [
                where | {"layer": layer} | interval(metric, value, num_examples=NUM)
                for layer in layers
                for metric, value in values.items()
            ]
            if len(layers) > 1:
                arrays[f"{name}|{split}|{env}|similarity|map"] = np.eye(len(layers)) * 0.5 + 0.3
    return _record("richness", rows, runs, envs, arrays, files=files, layers=layers)


def transfer_record(
    runs: tuple[str, ...] = RUNS,
    envs: tuple[str, ...] = ENVS,
    layers: tuple[str, ...] = LAYERS,
    gap: float = 0.2,
    home: float = 0.9,
) -> Record:
    """A record of the probe `transfer` with this gap, and this accuracy on i.i.d. examples."""
    rows: list[dict[str, Any]] = []
    for run in runs:
        for split, env in [place for place in places(envs, files=False) if place[0] != "train"]:
            for layer in layers:
                where = {"run": run, "layer": layer, "split": split, "env": env}
                accuracy = home if split == "iid" else 0.5
                found = [interval("probe_accuracy", accuracy)]
                found += [interval("knn_accuracy", accuracy, at=k) for k in (10.0, 20.0)]
                found += [interval("few_shot_accuracy", 0.4, at=k) for k in SHOTS]
                found += [interval(metric, -0.5) for metric in SCORES]
                if split == "ood":
                    found += [
                        interval("source_probe_accuracy", 0.5),
                        interval("target_probe_accuracy", 0.5 + gap),
                        interval("transfer_gap", gap),
                    ]
                rows += [where | row | {"num_examples": NUM} for row in found]
            if len(layers) > 1:
                where = {"run": run, "layer": "all", "split": split, "env": env}
                rows += [where | interval(m, 0.6) for m in ("probe_accuracy", "layer_gain")]
    return _record("transfer", rows, runs, envs, {}, files=False, layers=layers)


def places(envs: tuple[str, ...], *, files: bool) -> list[tuple[str, str]]:
    """Splits with their environments, all together where a split has several."""
    if files:
        return [("given", env) for env in envs] + ([("given", "all")] if len(envs) > 1 else [])
    trained = envs[:-1] or envs
    inside = [*trained, *(["all"] if len(trained) > 1 else [])]
    return [(s, env) for s in ("train", "iid") for env in inside] + [("ood", envs[-1])]


def _wholes(envs: tuple[str, ...], *, files: bool) -> list[tuple[str, str]]:
    found = {split: env for split, env in places(envs, files=files) if split != "train"}
    return list(found.items())  # `all` comes last where there is one


def _richness(run: str, split: str) -> float:
    """A factor: below one after fine-tuning, and by less with dropout."""
    if run.endswith("/init"):
        return 1.0
    lost = {"erm": 0.5, "dro": 0.8}.get(run[:3], 0.9)
    return lost * (1.0 if split == "iid" else 0.95)


def _single(factor: float, *, head: bool) -> list[dict[str, Any]]:
    values = {name: value * factor for name, value in HIGHER.items()}
    values |= {n: v / factor if v > 0 else v * factor for n, v in LOWER.items()} | NEITHER
    rows = [
        interval(name, value, 0.02 * abs(value), num_examples=NUM)
        for name, value in values.items()
        if head or name not in {"nc3_duality_error", "nc4_agreement"}
    ]
    undefined = ("alpha_req", "alpha_req_r2")
    return rows + [{"metric": name, "value": float("nan")} for name in undefined]


def _redundancy(run: str, *, head: bool) -> list[dict[str, Any]]:
    level = 0.95 if run.startswith("dropout") and not run.endswith("/init") else 0.8
    rows = [interval(metric, level * f**0.2, at=f) for metric in CURVES for f in FRACTIONS]
    singles = ("diffused_redundancy", "subset_accuracy_area", *PREDICTABILITY)
    rows += [interval(metric, level) for metric in singles]
    rows += [
        interval("null_unit_predictability", -0.1),
        {"metric": "nearly_dead_units", "value": 3},
    ]
    rows += [interval("masked_accuracy", level * (1 - r / 2), at=r) for r in RATES] * head
    return [row | {"num_examples": NUM // 2} for row in rows]


def _spectra(name: str, factor: float) -> dict[str, np.ndarray]:
    own = np.arange(1, UNITS + 1.0) ** (-1 / factor)
    null = np.ones((DRAWS, UNITS)) + 0.01 * np.arange(DRAWS)[:, None] * np.arange(UNITS)
    null /= null.sum(1, keepdims=True)
    return {f"{name}|spectrum": own / own.sum(), f"{name}|null_spectrum": null}


def _record(
    probe: str,
    rows: list[dict[str, Any]],
    runs: tuple[str, ...],
    envs: tuple[str, ...],
    arrays: dict[str, np.ndarray],
    *,
    files: bool,
    layers: tuple[str, ...],
) -> Record:
    model = "" if files else "glyphnet"
    names = {row["metric"] for row in rows}
    config = {"layers": layers, "seed": 0, "groups": 20, "draws": DRAWS, "permutations": 200}
    return Record(
        probe=probe,
        config=config | {"subsets": 5, "delta": 0.9},
        values=tidy({"probe": probe, "model": model, **row} for row in rows),
        metrics={name: _metric(name) for name in sorted(names)},
        provenance={
            "runs": [_facts(run, envs, files=files) for run in runs],
            "versions": {"torch": "2.6.0", "lazyrich": "0.1.0"},
            "commit": "0123456789ab",
            "undefined": {f"{run}|features|iid|ink|alpha_req": REASON for run in runs}
            if probe == "richness"
            else {},
            "seed": 0,
            "intervals": "scores: delete-group jackknife, 10 groups",
            **({"labels": "labels.npy"} if files else _data()),
        },
        arrays=arrays,
    )


def _data() -> dict[str, Any]:
    return {"data": "digits", "classes": ["0", "1", "2"], "image_shape": [3, 32, 32]}


def _facts(run: str, envs: tuple[str, ...], *, files: bool) -> dict[str, Any]:
    if files:
        return {"run": run, "features": f"{run}.npy", "sha256": "c" * 64}
    return {
        "run": run,
        "checkpoint": f"runs/{run}.safetensors",
        "sha256": f"{run:*<64}",
        "classifier": "its own",
        "drop_rate": 0.9 if run.startswith("dropout") else 0.0,
        "seed": 0,
        "steps": 400,
        "optimizer": "sgd",
        "lr": 0.01,
        "from_scratch": run.startswith("scratch"),
        "train_loss": 0.05,
        "train_envs": list(envs[:-1]),
        "test_envs": list(envs[-1:]),
        "images": {f"{env}/iid": NUM for env in envs},
    }
