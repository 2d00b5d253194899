r"""The kernel before and after a fine-tuning, in every environment, as one record.

One kernel is computed for all environments of a split together; an environment's is a part of it.
"""

import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
from tqdm import tqdm

from analysis.intervals import Row
from core.device import full_precision
from core.records import Record, provenance, tidy
from probes import kernel_space as ks
from probes.ntk.config import NtkConfig
from probes.ntk.kernel_bench import Examples, KernelBench, Kernels, total
from probes.ntk.kernel_values import part_of, rows_of
from probes.options import with_defaults
from probes.pairs import OWN_HEAD, SAME_HEAD, load_pairs
from probes.partial import PartialResults


def measure(config: NtkConfig) -> Record:
    """Measure every run in every environment; nothing stays on disk when it succeeds.

    Killed, it leaves finished kernels beside `config.output`; the next call continues there.

    Raises:
        InputError: If checkpoints, images and options do not fit each other.
    """
    config = with_defaults(config, "ntk")
    partial = PartialResults.beside(Path(config.output or ""))
    record = measure_with(config, partial)
    partial.remove()
    return record


@full_precision()
def measure_with(config: NtkConfig, partial: PartialResults) -> Record:
    """`measure` that keeps finished kernels in `partial` and leaves them there."""
    began = time.perf_counter()
    bench = KernelBench(config, load_pairs(config), partial)
    rows, arrays = rows_and_arrays(bench)
    shared = {"probe": "ntk", "model": bench.comparison.model_name}
    return Record(
        probe="ntk",
        config=asdict(config),
        values=tidy([shared | row for row in rows]),
        metrics=ks.METRICS,
        provenance=_provenance(bench, time.perf_counter() - began),
        arrays=arrays,
    )


def rows_and_arrays(bench: KernelBench) -> tuple[list[Row], dict[str, np.ndarray]]:
    """Values of every run, split and environment; the kernels of every run and split."""
    config, comparison = bench.config, bench.comparison
    rows: list[Row] = []
    arrays: dict[str, np.ndarray] = {}
    splits = [(pair, s) for pair in comparison.pairs for s in dict.fromkeys(pair.splits.values())]
    for pair, split in tqdm(splits, desc="kernels", unit="split"):
        examples = bench.examples(pair, [e for e, s in pair.splits.items() if s == split])
        kernels = bench.kernels(pair, examples)
        labels = {"run": pair.run, "seed": pair.facts["seed"]}
        labels["checkpoint"] = pair.facts["sha256"][:12]
        rows += [labels | row for row in _split_rows(bench, split, examples, kernels)]
        if config.dtype == "float32" and split == next(iter(pair.splits.values())):
            place = {"layer": config.layer, "split": split, "env": "all"}
            gap = {"metric": "kernel_float64_gap"} | bench.float64_gap(pair, examples)
            rows.append(labels | place | gap)
        arrays |= _arrays(f"{pair.run}|{split}", examples, kernels)
    return rows, arrays


def _split_rows(
    bench: KernelBench, split: str, examples: Examples, kernels: Kernels
) -> Iterator[Row]:
    """Rows of every environment of a split, and of all of them together."""
    onehot = ks.one_hot(examples.labels, len(bench.comparison.domains.classes))
    places = np.unique(examples.envs)
    groups = {bench.env_names[p]: np.flatnonzero(examples.envs == p) for p in places}
    found: list[Row] = []
    for env, kept in groups.items():
        found = rows_of(part_of(kernels, kept), onehot[kept], examples.envs[kept], bench.config)
        yield from ({"split": split, "env": env} | row for row in found)
    if len(groups) > 1:
        found = rows_of(kernels, onehot, examples.envs, bench.config)
    yield from ({"split": split, "env": "all"} | row for row in found)


def _arrays(label: str, examples: Examples, kernels: Kernels) -> dict[str, np.ndarray]:
    """Both kernels, ordered by class and environment, whose rows are whose, and spectra."""
    k0, k1, *random = map(total, (kernels.before, kernels.after, *kernels.nulls))
    return {
        f"{label}|K0": k0,
        f"{label}|K1": k1,
        f"{label}|spectrum0": ks.spectrum(ks.centred(k0)),
        f"{label}|spectrum1": ks.spectrum(ks.centred(k1)),
        f"{label}|spectrum_random": np.stack([ks.spectrum(ks.centred(k)) for k in random]),
        f"{label}|labels": examples.labels,
        f"{label}|envs": examples.envs,
        f"{label}|images": examples.images,
    }


def _provenance(bench: KernelBench, seconds: float) -> dict[str, object]:
    config, comparison, own = bench.config, bench.comparison, bench.config.head == "own"
    return provenance(
        runs=[
            pair.facts
            | {"head": OWN_HEAD if own and pair.facts["head"] == OWN_HEAD else SAME_HEAD}
            for pair in comparison.pairs
        ],
        **comparison.facts,
        device=str(bench.device),
        dtype=config.dtype,
        seed=config.seed,
        kernels=kernel_facts(bench),
        seconds=round(seconds, 1),
    )


def kernel_facts(bench: KernelBench) -> dict[str, object]:
    """How the kernels were made, for the provenance of a record that holds them."""
    config = bench.config
    return {
        "layer": config.layer,
        "head": config.head,
        "samples": config.samples,
        "environments": bench.env_names,
        "num_draws": config.draws,
        "num_permutations": config.permutations,
        "intervals": f"delete-group jackknife over examples, at most {ks.NUM_GROUPS} groups",
    }
