"""The kernel section of a record, made of synthetic numbers; only its shape is real."""

from typing import Any

import numpy as np
import pandas as pd

from core.records import Metric, Record, tidy
from tests.reports.synthetic import interval, linearity_record

PER_ENV = 6
BLOCKS = ("stem", "layer1.0", "layer4.2", "classifier")
STEPS = (100, 200, 400)
METRICS = {
    "kernel_distance": Metric(title="kernel distance", low=0, high=1),
    "kernel_distance_centred": Metric(title="kernel distance, centred", low=0, high=1),
    "kernel_change": Metric(title="relative kernel change", low=0),
    "random_kernel_distance": Metric(title="kernel distance, random move", low=0, high=1),
    "kernel_velocity": Metric(title="kernel distance per step", coordinate="step", low=0),
    "label_alignment": Metric(title="label alignment", direction="higher", low=0, high=1),
    "label_alignment_change": Metric(title="change of the alignment", direction="higher"),
    "permuted_label_alignment": Metric(title="label alignment, permuted", low=0, high=1),
    "effective_rank": Metric(title="effective rank", low=1),
    "effective_rank_centred": Metric(title="effective rank, centred", low=1),
    "effective_rank_change": Metric(title="change of the effective rank"),
    "kernel_trace": Metric(title="trace per example", low=0),
    "label_energy": Metric(title="label energy", direction="higher", low=0, high=1),
    "block_trace_share": Metric(title="share of the trace", low=0, high=1),
    "kernel_float64_gap": Metric(title="float64 gap", direction="lower", low=0),
}


def with_kernels(record: Record, moving: tuple[str, ...] = ()) -> Record:
    """The same record with kernels, and with velocities for the runs that are named."""
    rng = np.random.default_rng(0)
    places = record.values[record.values["env"].notna()][["run", "env", "split"]]
    # A difference of two runs has no kernel of its own.
    places = places[~places["run"].str.contains(" - ")].drop_duplicates()
    rows: list[dict[str, Any]] = []
    for run, env, split in places.itertuples(index=False):
        where = {"run": run, "env": env, "split": split, "num_examples": PER_ENV}
        rows += [where | row for row in _rows(0.3 if "scratch" in run else 0.1, run in moving)]
    envs = list(dict.fromkeys(places["env"]))
    envs.remove("all")
    arrays = dict(record.arrays)
    for (run, split), group in places[places["env"] != "all"].groupby(["run", "split"]):
        present = np.array([envs.index(env) for env in group["env"]])
        arrays |= {f"{run}|{split}|{n}": a for n, a in _arrays(present, rng).items()}
    new = tidy({"probe": record.probe, "model": "glyphnet", **row} for row in rows)
    return Record(
        probe=record.probe,
        config=record.config,
        values=pd.concat([record.values, new], ignore_index=True),
        metrics=record.metrics | METRICS,
        provenance=record.provenance | {"kernels": _facts(envs)},
        arrays=arrays,
    )


def kernel_record(moving: tuple[str, ...] = (), **shape: object) -> Record:
    """A record of the probe `ntk`, which has kernels alone."""
    record = with_kernels(linearity_record(**shape), moving)
    values = record.values[record.values["metric"].isin(list(METRICS))]
    return Record(
        probe="ntk",
        config={"layer": "logits", "samples": PER_ENV},
        values=values.assign(probe="ntk").reset_index(drop=True),
        metrics=METRICS,
        provenance=record.provenance,
        arrays=record.arrays,
    )


def _rows(distance: float, moving: bool) -> list[dict[str, Any]]:
    whole = {"layer": "logits"}
    rows = [
        interval("kernel_distance", distance, **whole),
        interval("kernel_distance_centred", 1.5 * distance, **whole),
        interval("kernel_change", 2 * distance, **whole),
        interval("random_kernel_distance", 0.05, 0.01, **whole),
        interval("label_alignment_change", 0.2, **whole),
        interval("effective_rank_change", -1.0, 0.2, **whole),
        {"metric": "kernel_float64_gap", "value": 1e-7, **whole},
    ]
    for at in (0.0, 1.0):
        ends = {
            "label_alignment": 0.5 + 0.2 * at,
            "permuted_label_alignment": 0.3,
            "effective_rank": 6 - at,
            "effective_rank_centred": 9 - at,
            "kernel_trace": 1000.0,
            "label_energy": 0.6 + 0.1 * at,
        }
        rows += [interval(metric, value, at=at, **whole) for metric, value in ends.items()]
    for block in BLOCKS:
        rows.append(interval("kernel_distance", distance, layer=block))
        rows.append(interval("random_kernel_distance", 0.05, 0.01, layer=block))
        rows.append(interval("block_trace_share", 1 / len(BLOCKS), 0.01, layer=block))
    steps = STEPS if moving else ()
    return rows + [interval("kernel_velocity", 10 / at**2, 5e-4, at=at, **whole) for at in steps]


def _arrays(present: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Kernels of examples that are alike within a class, more so after than before."""
    envs = np.repeat(present, PER_ENV)
    labels = np.tile(np.arange(PER_ENV) % 3, len(present))
    order = np.lexsort((envs, labels))
    envs, labels = envs[order], labels[order]
    onehot = np.eye(3)[labels]
    noise = rng.normal(size=(len(labels), 20)) / 5
    kernels = [(s * onehot) @ onehot.T + noise @ noise.T for s in (0.5, 2.0)]
    spectra = [_shares(kernel) for kernel in kernels]
    return {
        **{f"K{i}": kernel for i, kernel in enumerate(kernels)},
        **{f"spectrum{i}": spectrum for i, spectrum in enumerate(spectra)},
        "spectrum_random": np.stack([spectra[0] ** 1.1, spectra[0] ** 0.9]),
        "labels": labels,
        "envs": envs,
        "images": np.arange(len(labels)),
    }


def _shares(kernel: np.ndarray) -> np.ndarray:
    centre = np.eye(len(kernel)) - 1 / len(kernel)
    values = np.linalg.eigvalsh(centre @ kernel @ centre)[::-1].clip(min=0)
    return values / values.sum()


def _facts(envs: list[str]) -> dict[str, Any]:
    return {
        "layer": "logits",
        "head": "finetuned",
        "samples": PER_ENV,
        "environments": envs,
        "num_draws": 2,
        "num_permutations": 200,
        "intervals": "delete-group jackknife over examples, at most 20 groups",
    }
