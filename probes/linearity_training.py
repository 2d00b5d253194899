"""The training-space section of the linearity probe: runs against their linear counterparts.

Shapes: N images of an environment.
"""

import logging
from collections.abc import Mapping
from typing import Any

import numpy as np
from tqdm import tqdm

from analysis.intervals import Row
from core.errors import InputError
from probes.counterparts import LABELS, Counterparts
from probes.linearity_bench import Bench
from probes.linearity_config import LinearityConfig
from probes.linearity_metrics import groups_of, labels_of_pair
from probes.linearity_section import Section
from probes.pairs import Pair
from probes.partial import PartialResults
from probes.sources import Source
from probes.training_space import METRICS, Decisions, decision_rows
from probes.twins import find_twins

# Options that change what a network sees; a run is compared with its twins on its own images.
IMAGES = ("data", "image_size", "transform")

log = logging.getLogger(__name__)


def training_section(config: LinearityConfig, bench: Bench, partial: PartialResults) -> Section:
    """Compare every run with its twins, in every environment; nothing where no run has any.

    Raises:
        InputError: If a twin is damaged or does not fit, or kernel regression cannot be done.
    """
    sources = [Source.find(path, config.weights) for path in config.finetuned]
    twins = find_twins(sources, config.twins, config.weights)
    runs = [
        Counterparts(bench, pair, source, of_run, partial)
        for pair, source, of_run in zip(bench.comparison.pairs, sources, twins, strict=True)
        if of_run and _has_own_images(config, source)
    ]
    if not runs:
        return Section()
    rows: list[Row] = []
    arrays: dict[str, np.ndarray] = {}
    for run in tqdm(runs, desc="training space", unit="run"):
        decisions = run.decisions()
        rows += _rows(run.pair, decisions)
        arrays |= _arrays(run.pair.run, decisions)
    found = {row["metric"] for row in rows}
    metrics = {name: metric for name, metric in METRICS.items() if name in found}
    return Section(rows, arrays, metrics, {"training_space": _facts(config, runs)})


def _has_own_images(config: LinearityConfig, source: Source) -> bool:
    run: Mapping[str, Any] = source.run_options or {}
    changed = [n for n in IMAGES if getattr(config, n) not in {None, run.get(n)}]
    if not changed:
        return True
    other = f"--{changed[0]} is {getattr(config, changed[0])}, that of '{source.path}' "
    other += f"{run.get(changed[0])}; a run is compared with its twins on its own images"
    if config.twins:
        raise InputError(f"{other}: leave out --{changed[0]} or --twins")
    log.warning("%s, and not on these", other)
    return False


def _rows(pair: Pair, decisions: Mapping[str, Decisions]) -> list[Row]:
    rows = []
    for split, env, members in groups_of(pair):
        pooled = {
            name: np.concatenate([decisions[member][name] for member in members])
            for name in decisions[members[0]]
        }
        labels = pooled.pop(LABELS)
        where = labels_of_pair(pair) | {"split": split, "env": env}
        rows += [where | row for row in decision_rows(pooled, labels)]
    return rows


def _arrays(run: str, decisions: Mapping[str, Decisions]) -> dict[str, np.ndarray]:
    """The class that every method chooses for each image, and the labels."""
    return {
        f"{run}|{env}|decisions|{method}": chosen
        for env, by_method in decisions.items()
        for method, chosen in by_method.items()
    }


def _facts(config: LinearityConfig, runs: list[Counterparts]) -> dict[str, Any]:
    return {
        "samples": config.samples,
        "runs": {run.pair.run: run.facts for run in runs},
        "intervals": "Wilson for proportions, Agresti and Min for paired differences",
    }
