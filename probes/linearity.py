r"""How linear was a fine-tuning? Function space, block by block, beside nulls and controls.

    python -m probes.linearity                                    # the embedded example
    python -m probes.linearity --finetuned runs/erm runs/dropout  # run folders, compared
    python -m probes.linearity --model resnet50 --pretrained before.safetensors \
        --finetuned after.safetensors --data PACS --test_env sketch --output linearity

Writes a record folder with its PDF, and prints the verdicts. A killed probe continues with the
same command.
"""

import copy
import logging
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from core.command_line import parse_bytes, run
from core.device import select_device
from core.errors import InputError
from core.loaders import InOrder, image_loader
from core.models import residual_blocks, weight_groups
from core.records import Record, check_new, free_name, new_folder, provenance, tidy
from probes.linearity_metrics import METRICS, example_rows, weight_rows
from probes.memory import batch_size
from probes.pairs import Comparison, Pair, PairOptions, example_runs, load_pairs
from probes.partial import PartialResults
from probes.sums import FEATURES, Key, Sums, block_sums, curvature_sums, null_sums, path_sums
from probes.taylor import Weights
from reports.linearity import verdict_table, write_report

LARGEST_BATCH = 64
CHECKED_IN_FLOAT64 = 8  # images; enough to see cancellation, cheap on any network
Measured = dict[Key, np.ndarray]

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class LinearityConfig(PairOptions):
    """Options of `python -m probes.linearity`."""

    output: str | None = None
    """Record folder to create (default: runs/linearity, or the first free number after it)."""
    samples: int = 128
    """Images per environment for the curves along the path."""
    detail_samples: int = 32
    """Images per environment for curvature, blocks and nulls, which cost more."""
    alphas: tuple[float, ...] = (0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1.0, 1.25, 1.5)
    """Positions on the path: 0 is pretrained, 1 fine-tuned, more is beyond."""
    draws: int = 2
    """Random and permuted displacements drawn as nulls."""
    memory: str = "2GB"
    """Budget for weights and activations; examples are streamed in blocks that fit."""
    dtype: Literal["float32", "float64"] = "float32"
    """Precision of the network; sums over examples are always float64."""
    device: str = "auto"
    """`cpu`, `cuda` or `cuda:1`; `auto` takes a GPU where there is one."""
    workers: int = 0
    """Processes that decode images; 0 does it in the main process."""
    seed: int = 0
    """Seed of the nulls and of the bootstrap."""

    def __post_init__(self) -> None:
        for name in ("samples", "detail_samples", "draws"):
            if getattr(self, name) < 1:
                raise InputError(f"--{name} is {getattr(self, name)}; at least 1 was expected")
        if self.workers < 0 or (self.image_size is not None and self.image_size < 1):
            raise InputError(
                f"--workers is {self.workers} and --image_size {self.image_size}; no negative "
                "number was expected"
            )
        if not self.alphas or min(self.alphas) <= 0:
            raise InputError(f"--alphas are {self.alphas}; positive numbers were expected")
        parse_bytes(self.memory)


def measure(config: LinearityConfig) -> Record:
    """Measure every pair in every environment.

    Raises:
        InputError: If checkpoints, images and options do not fit each other.
    """
    began = time.perf_counter()
    config = resolve(config)
    comparison = load_pairs(config)
    bench = Bench(config, comparison)
    partial = PartialResults.beside(Path(config.output or ""))
    sums: dict[str, dict[str, list[Measured]]] = {pair.run: {} for pair in comparison.pairs}
    units = [(pair, env) for pair in comparison.pairs for env in pair.images]
    for pair, env in tqdm(units, desc="probing", unit="environment"):
        sums[pair.run][env] = [bench.measured(pair, env, part, partial) for part in bench.parts]
    rows = example_rows(comparison.pairs, sums, seed=config.seed)
    groups = weight_groups(comparison.model)
    parameters = {n for n, _ in comparison.model.named_parameters(remove_duplicate=False)}
    for pair in comparison.pairs:
        rows += weight_rows(pair, groups, parameters)
        rows.append({"run": pair.run, "metric": "float64_gap", **bench.float64_gap(pair)})
    shared = {"probe": "linearity", "model": comparison.model_name}
    return Record(
        probe="linearity",
        config=asdict(config),
        values=tidy([shared | row for row in rows]),
        metrics=METRICS,
        provenance=_provenance(config, comparison, bench, time.perf_counter() - began),
        arrays=_arrays(sums),
    )


def resolve(config: LinearityConfig) -> LinearityConfig:
    """Fill in the embedded example and the output where they were left out."""
    if not config.finetuned:
        log.info("no --finetuned: probing the embedded example (glyphnet fine-tuned on digits)")
        config = replace(config, finetuned=example_runs())
    if config.output is None:
        config = replace(config, output=str(free_name(Path("runs/linearity"))))
    return config


class Bench:
    """The network on its device, and the parts of the measurement that it goes through."""

    def __init__(self, config: LinearityConfig, comparison: Comparison) -> None:
        self.config, self.comparison = config, comparison
        self.device, self.dtype = probe_device(config.device), getattr(torch, config.dtype)
        self.model = comparison.model.to(self.device, self.dtype)
        self.blocks = residual_blocks(self.model)
        self.parts = {"path": config.samples, "detail": config.detail_samples}
        one = torch.zeros(1, *comparison.data_config["input_size"]).to(self.device, self.dtype)
        budget = parse_bytes(config.memory)
        self.batch_size = batch_size(self.model, one, budget, LARGEST_BATCH)

    def measured(self, pair: Pair, env: str, part: str, partial: PartialResults) -> Measured:
        """Sums of one part in one environment, computed now or by an earlier process."""
        found = partial.load_or_compute(
            self._identity(pair, env, part), lambda: self._compute(pair, env, part)
        )
        return {_parse_key(name): found[name] for name in sorted(found)}

    def float64_gap(self, pair: Pair) -> dict[str, float | int]:
        """How far R2 of the features moves when a few images are computed in float64."""
        env = next(iter(pair.images))
        images = pair.images[env][:CHECKED_IN_FLOAT64]
        values = [
            self._explained_displacement(pair, env, images, dtype)
            for dtype in (self.dtype, torch.float64)
        ]
        num = min(len(images), self.batch_size)
        return {"value": abs(values[0] - values[1]), "num_examples": num}

    def _explained_displacement(
        self, pair: Pair, env: str, images: np.ndarray, dtype: torch.dtype
    ) -> float:
        model = copy.deepcopy(self.model).to(dtype)
        weights0, weights1 = (self._to_device(w, dtype) for w in (pair.weights0, pair.weights1))
        x, y = next(iter(self._loader(env, images)))
        x, y = x.to(self.device, dtype), y.to(self.device)
        sums = path_sums(model, weights0, weights1, x, y, alphas=(), blocks=())
        numerator, denominator = sums[Key("explained_displacement", FEATURES, 1.0)]
        return 1 - float(numerator.sum() / denominator.sum())

    def _compute(self, pair: Pair, env: str, part: str) -> dict[str, np.ndarray]:
        images = pair.images[env][: self.parts[part]]
        weights0, weights1 = (
            self._to_device(w, self.dtype) for w in (pair.weights0, pair.weights1)
        )
        measure_batch = {"path": self._path, "detail": self._detail}[part]
        batches = []
        for x, y in self._loader(env, images):
            x, y = x.to(self.device, self.dtype), y.to(self.device)
            sums = measure_batch(weights0, weights1, x, y)
            batches.append({k: torch.stack(both).cpu().numpy() for k, both in sums.items()})
        return {  # numbered, since a file does not keep the order of the blocks
            "|".join([f"{i:04d}", *map(str, key)]): np.concatenate([b[key] for b in batches], 1)
            for i, key in enumerate(batches[0])
        }

    def _path(self, weights0: Weights, weights1: Weights, x: Tensor, y: Tensor) -> Sums:
        options = {"alphas": self.config.alphas, "blocks": self.blocks}
        return path_sums(self.model, weights0, weights1, x, y, **options)

    def _detail(self, weights0: Weights, weights1: Weights, x: Tensor, _: Tensor) -> Sums:
        ends = (weights0, weights1)
        nulls = {"num_draws": self.config.draws, "seed": self.config.seed}
        return {
            **curvature_sums(self.model, *ends, x),
            **block_sums(self.model, *ends, x, weight_groups(self.model)),
            **null_sums(self.model, *ends, x, **nulls),
        }

    def _loader(self, env: str, images: np.ndarray) -> torch.utils.data.DataLoader:
        comparison = self.comparison
        index = list(comparison.domains.environments).index(env)
        return image_loader(
            comparison.domains,
            InOrder(index, images, self.batch_size),
            comparison.transform,
            comparison.data_config,
            training=False,
            workers=self.config.workers,
        )

    def _to_device(self, weights: Weights, dtype: torch.dtype) -> Weights:
        return {name: tensor.to(self.device, dtype) for name, tensor in weights.items()}

    def _identity(self, pair: Pair, env: str, part: str) -> dict[str, object]:
        """Everything that a part's numbers depend on."""
        config = self.config
        options = ("alphas", "draws", "seed", "dtype", "device")
        return {
            "part": part,
            "env": env,
            "images": pair.images[env][: self.parts[part]].tolist(),
            "data": self.comparison.domains.fingerprint,
            "data_config": self.comparison.data_config,
            "model": [self.comparison.model_name, self.comparison.model_kwargs],
            "transform": self.comparison.transform,
            "head": pair.facts["head"],
            "checkpoints": [pair.facts["pretrained_sha256"], pair.facts["sha256"]],
            "versions": provenance()["versions"],
            "batch_size": self.batch_size,
            **{name: getattr(config, name) for name in options},
        }


def probe_device(name: str) -> torch.device:
    """The device to probe on, which must know float64.

    Raises:
        InputError: If Apple's MPS is asked for; `auto` takes the CPU there.
    """
    device = select_device(name)
    if device.type != "mps":
        return device
    if name == "auto":
        return torch.device("cpu")
    raise InputError("--device mps has no float64, which the sums need; choose cpu")


def _parse_key(name: str) -> Key:
    _, metric, layer, at = name.split("|")
    return Key(metric, layer, None if at == "None" else float(at))


def _provenance(
    config: LinearityConfig, comparison: Comparison, bench: Bench, seconds: float
) -> dict[str, object]:
    domains = comparison.domains
    return provenance(
        runs=[pair.facts for pair in comparison.pairs],
        data=str(config.data or "digits"),
        data_fingerprint=domains.fingerprint,
        classes=list(domains.classes),
        skipped=list(domains.skipped),
        image_shape=list(comparison.data_config["input_size"]),
        transform=comparison.transform,
        device=str(bench.device),
        dtype=config.dtype,
        seed=config.seed,
        num_draws=config.draws,
        batch_size=bench.batch_size,
        seconds=round(seconds, 1),
    )


def _arrays(sums: dict[str, dict[str, list[Measured]]]) -> dict[str, np.ndarray]:
    """Numerators and denominators of every example, for other intervals than ours."""
    return {
        "|".join([run_name, env, *map(str, key)]): array
        for run_name, envs in sums.items()
        for env, parts in envs.items()
        for part in parts
        for key, array in part.items()
    }


def probe(config: LinearityConfig) -> None:
    """Measure, write the record folder with its PDF, and print the verdicts."""
    config = resolve(config)
    output = Path(config.output or "")
    check_new(output)
    record = measure(config)
    with new_folder(output) as folder:
        record.write(folder)
        write_report(record, folder, folder / "linearity.pdf")
    PartialResults.beside(output).remove()
    print(verdict_table(record))
    print(f"report: {output / 'linearity.pdf'}")


def main() -> None:
    """Entry point of `python -m probes.linearity`."""
    run(probe, LinearityConfig)


if __name__ == "__main__":
    main()
