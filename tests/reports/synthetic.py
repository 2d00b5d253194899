"""A record of the linearity probe made of synthetic numbers; only its shape is real."""

import math
from typing import Any

import numpy as np
import pandas as pd

from core.records import Metric, Record, tidy

BLOCKS = ("layer1.0", "layer2.0", "layer3.0", "layer4.0", "layer4.1", "layer4.2")
ENVS = ("ink", "outline", "photo", "rotated")
RUNS = ("erm-s0", "erm-s1", "dropout0.9-s0", "dropout0.9-s1", "scratch-s0")
ALPHAS = (0.1, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5)
GRID = tuple(np.linspace(0, 1, 11).round(2).tolist())
METRICS = {
    "explained_displacement": Metric(
        title="explained displacement", symbol="R^2", direction="higher", high=1
    ),
    "explained_displacement_end": Metric(
        title="from the fine-tuned end", symbol='R^2_"end"', direction="higher", high=1
    ),
    "explained_displacement_difference": Metric(title="difference", symbol="Delta R^2"),
    "curvature_ratio": Metric(title="curvature ratio", symbol="kappa", direction="lower", low=0),
    "lazy_radius": Metric(title="lazy radius", symbol="alpha^*", direction="higher", low=0),
    "displacement": Metric(title="displacement", low=0),
    "weight_displacement": Metric(title="weight displacement", low=0),
    "buffer_share": Metric(title="buffer share", low=0, high=1),
    "weight_accuracy": Metric(title="accuracy", direction="higher", low=0, high=1),
    "representation_accuracy": Metric(title="accuracy", direction="higher", low=0, high=1),
    "interpolation_gap_max": Metric(title="largest gap", direction="lower", low=0),
    "interpolation_gap_area": Metric(title="area of the gap", direction="lower", low=0),
    "barrier": Metric(title="barrier", direction="lower"),
    "linear_accuracy": Metric(title="linear accuracy", direction="higher", low=0, high=1),
    "linear_agreement": Metric(title="agreement", direction="higher", low=0, high=1),
    "linear_gain_share": Metric(title="gain share", direction="higher"),
    "block_share": Metric(title="block share", low=0, high=1),
    "block_explained_displacement": Metric(title="block alone", direction="higher", high=1),
    "block_interaction": Metric(title="block interaction"),
    "random_explained_displacement": Metric(title="random", high=1),
    "permuted_explained_displacement": Metric(title="permuted", high=1),
    "float64_gap": Metric(title="float64 gap", direction="lower", low=0),
}


def linearity_record(
    runs: tuple[str, ...] = RUNS,
    envs: tuple[str, ...] = ENVS,
    blocks: tuple[str, ...] = BLOCKS,
    split: str = "",
    lowest: float = -5.0,
) -> Record:
    """A record with the last environment out of distribution, or all under one `split`."""
    rng = np.random.default_rng(0)
    splits = {env: split or ("ood" if env == envs[-1] else "iid") for env in envs}
    rows: list[dict[str, Any]] = []
    for index, run in enumerate(runs):
        linear = lowest if run.startswith("scratch") else 0.92 - 0.25 * index
        for env, of in [*splits.items(), *(("all", s) for s in dict.fromkeys(splits.values()))]:
            where = {"run": run, "env": env, "split": of, "num_examples": 200}
            drop = 0.1 * rng.random() + (0.3 if of == "ood" else 0)
            rows += [where | row for row in _function_space(linear - drop, rng)]
            rows += [where | row for row in _per_block(linear - drop, blocks, rng)]
        rows += [{"run": run} | row for row in _weights(blocks, rng)]
    rows += _differences(runs, tuple(dict.fromkeys(splits.values())))
    return Record(
        probe="linearity",
        config={"model": None, "envs": envs, "memory": "2GB", "samples": None},
        values=tidy({"probe": "linearity", "model": "glyphnet", **row} for row in rows),
        metrics=METRICS,
        provenance=_provenance(runs, envs),
    )


def replace_rows(record: Record, new: dict[str, Any], metric: str, **where: str | float) -> Record:
    """The same record with the columns `new` overwritten in the rows of one metric."""
    values = record.values.copy()
    chosen = values["metric"] == metric
    for column, value in where.items():
        chosen &= values[column] == value
    for column, value in new.items():
        values.loc[chosen.fillna(False).astype(bool), column] = value
    parts = {"probe", "config", "metrics", "provenance", "arrays"}
    return Record(values=values, **{name: getattr(record, name) for name in parts})


def interval(
    metric: str, value: float, half: float = 0.03, **where: str | float
) -> dict[str, Any]:
    return {
        "metric": metric,
        "value": value,
        "low": value - half,
        "high": value + half,
        "stderr": half / 1.96,
        **where,
    }


def _function_space(linear: float, rng: np.random.Generator) -> list[dict[str, Any]]:
    spread = 0.03 * max(1.0, abs(linear))
    rows = []
    for at in ALPHAS:
        for layer, shift in (("features", 0.0), ("logits", -0.05)):
            fall = (1 - linear) * at**2 - shift * at
            rows.append(interval("explained_displacement", 1 - fall, spread, layer=layer, at=at))
        end = 1 - 1.2 * (1 - linear) * at**2
        rows.append(interval("explained_displacement_end", end, spread, layer="features", at=at))
    for at in GRID:
        accuracy = 0.15 + 0.75 * at**0.5 + 0.01 * rng.normal()
        rows.append(interval("weight_accuracy", accuracy, at=at))
        bent = accuracy - 0.3 * (1 - linear) / (2 + abs(linear)) * at * (1 - at)
        rows.append(interval("representation_accuracy", bent, at=at))
    singles = {
        "interpolation_gap_max": 0.05,
        "interpolation_gap_area": 0.02,
        "barrier": 0.0,
        "linear_accuracy": 0.8,
        "linear_agreement": 0.85,
        "linear_gain_share": 0.7,
        "block_interaction": 0.1,
    }
    rows += [interval(metric, value + 0.01 * rng.normal()) for metric, value in singles.items()]
    rows += [
        *(interval("displacement", 0.8, layer=layer) for layer in ("features", "logits")),
        *_curvature(math.exp(max(linear, -3.0))),
        interval("random_explained_displacement", 0.95, layer="features", at=1.0),
        interval("permuted_explained_displacement", 0.6, layer="features", at=1.0),
        {"metric": "float64_gap", "value": 3e-6, "layer": "features", "at": 1.0},
    ]
    return rows


def _per_block(
    linear: float, blocks: tuple[str, ...], rng: np.random.Generator
) -> list[dict[str, Any]]:
    groups = ("stem", *blocks, "neck")
    shares = rng.dirichlet(np.ones(len(groups)))
    rows = []
    for depth, (group, share) in enumerate(zip(groups, shares, strict=True), start=1):
        own = 1 - (1 - linear) * depth / len(groups)
        rows += [
            interval("block_explained_displacement", 1 - (1 - own) / 4, layer=group),
            interval("block_share", share, 0.01, layer=group),
        ]
        if group in blocks:
            rows.append(interval("explained_displacement", own, layer=group, at=1.0))
    return rows


def _curvature(radius: float) -> list[dict[str, Any]]:
    return [
        interval(metric, value, 0.1 * value, layer=layer)
        for metric, value in (("curvature_ratio", 1 / radius), ("lazy_radius", radius))
        for layer in ("features", "logits")
    ]


def _weights(blocks: tuple[str, ...], rng: np.random.Generator) -> list[dict[str, Any]]:
    groups = ("stem", *blocks, "neck", "classifier")
    moved = [
        {"metric": "weight_displacement", "layer": group, "value": 0.2 * rng.random()}
        for group in groups
    ]
    return [*moved, {"metric": "buffer_share", "value": 0.01}]


def _differences(runs: tuple[str, ...], splits: tuple[str, ...]) -> list[dict[str, Any]]:
    metric = "explained_displacement_difference"
    return [
        interval(metric, -0.25, run=f"{run} - {runs[0]}", env="all", split=split)
        | {"layer": "features", "at": 1.0, "num_examples": 200}
        for run in runs[1:]
        for split in splits
    ]


def _provenance(runs: tuple[str, ...], envs: tuple[str, ...]) -> dict[str, Any]:
    return {
        "runs": [_run(run, envs) for run in runs],
        "versions": {"torch": "2.6.0", "timm": "1.0.20", "lazyrich": "0.1.0"},
        "python": "3.11.9",
        "commit": "0123456789ab",
        "device": "cpu",
        "dtype": "float32",
        "seconds": 12.5,
        "data": "digits",
        "data_fingerprint": "d" * 64,
        "classes": [str(digit) for digit in range(10)],
        "num_draws": 3,
        "image_shape": [3, 32, 32],
    }


def _run(run: str, envs: tuple[str, ...]) -> dict[str, Any]:
    return {
        "run": run,
        "checkpoint": f"runs/digits/{run}/final.safetensors",
        "sha256": "a" * 64,
        "pretrained": f"runs/digits/{run}/init.safetensors",
        "pretrained_sha256": "b" * 64,
        "drop_rate": 0.9 if run.startswith("dropout") else 0.0,
        "from_scratch": run.startswith("scratch"),
        "seed": int(run[-1]) if run[-1].isdigit() else None,
        "steps": 400,
        "optimizer": "sgd",
        "lr": 0.01,
        "head": "own initial head",
        "train_envs": list(envs[:-1]),
        "test_envs": list(envs[-1:]),
        "train_loss": 0.05,
        "iid_images": 360,
        "ood_images": 450,
    }


def without_intervals(record: Record) -> Record:
    """The same record with every interval unknown."""
    values: pd.DataFrame = record.values.assign(low=math.nan, high=math.nan)
    parts = {"probe", "config", "metrics", "provenance", "arrays"}
    return Record(values=values, **{name: getattr(record, name) for name in parts})


def without_moved_blocks(record: Record) -> Record:
    """The same record as of runs that moved their classifier alone."""
    per_block = record.values["metric"].isin(["block_share", "block_explained_displacement"])
    parts = {"probe", "config", "metrics", "provenance", "arrays"}
    kept = {name: getattr(record, name) for name in parts}
    return Record(values=record.values[~per_block], **kept)
