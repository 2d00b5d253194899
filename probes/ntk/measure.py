r"""The kernel before and after a fine-tuning, in every environment, as one record.

One kernel is computed for all environments of a split together; an environment's is a part of it.

Shapes: N examples of a split.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor
from tqdm import tqdm

from analysis.intervals import LEVEL, Row
from core.checkpoints import load_checkpoint
from core.errors import InputError
from core.loaders import InOrder, image_loader
from core.models import classifier_name, float_state
from core.records import Record, free_name, provenance, tidy
from probes import kernel_space as ks
from probes.linearity_bench import probe_device
from probes.ntk import empirical_ntk
from probes.ntk.config import NtkConfig
from probes.nulls import random_displacement
from probes.pairs import OWN_HEAD, SAME_HEAD, Comparison, Pair, load_pairs
from probes.partial import PartialResults
from probes.sources import example_runs
from probes.sums import Key
from probes.taylor import Weights

CHECKED_IN_FLOAT64 = 4  # images; enough to see rounding, cheap on any network
WHOLE = ""  # name of the only block of a kernel that is not divided
Blocks = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Examples:
    """Images of some environments, ordered by class and then by environment.

    Attributes:
        x: The images.
        labels: Their classes.
        envs: The environment of each, as its position among those of the data set.
        images: The index of each in its environment.
    """

    x: Float[Tensor, "N ..."]
    labels: Int64[np.ndarray, " N"]
    envs: Int64[np.ndarray, " N"]
    images: Int64[np.ndarray, " N"]


@dataclass(frozen=True)
class Kernels:
    """All kernels of one run on the examples of one split.

    Attributes:
        before: At the pretrained weights, by block.
        after: At the fine-tuned weights, by block.
        nulls: After random moves of the same size.
        path: Steps and kernels of the checkpoints along the run, the ends among them.
    """

    before: Blocks
    after: Blocks
    nulls: Sequence[np.ndarray]
    path: Sequence[tuple[int, np.ndarray]]


class KernelBench:
    """The network on its device, and the kernels that are computed with it."""

    def __init__(self, config: NtkConfig, comparison: Comparison, partial: PartialResults) -> None:
        self.config, self.comparison, self.partial = config, comparison, partial
        self.device, self.dtype = probe_device(config.device), getattr(torch, config.dtype)
        self.model = comparison.model.to(self.device)
        self.head = classifier_name(self.model) + "."
        self.env_names = list(comparison.domains.environments)

    def examples(self, pair: Pair, envs: Sequence[str]) -> Examples:
        """The images of some environments."""
        x, labels, places, images = [], [], [], []
        for env in envs:
            chosen = pair.images[env][: self.config.samples]
            for batch, y in self._loader(env, chosen):
                x.append(batch)
                labels.append(y.numpy())
            places.append(np.full(len(chosen), self.env_names.index(env)))
            images.append(chosen)
        y, place, image = (np.concatenate(part) for part in (labels, places, images))
        order = np.lexsort((place, y))
        return Examples(torch.cat(x)[order], y[order], place[order], image[order])

    def kernels(self, pair: Pair, examples: Examples) -> Kernels:
        """The kernels of a run, computed now or by an earlier process."""
        before, after = self.ends(pair)
        path = [
            (step, self._kernel(pair, weights, examples, f"step {digest}")[WHOLE])
            for step, digest, weights in self._between(pair)
        ]
        blocks = [
            self._kernel(pair, weights, examples, end, blocks=True)
            for end, weights in (("before", before), ("after", after))
        ]
        if path:
            path.insert(0, (0, total(blocks[0])))
            if path[-1][0] < pair.facts["steps"]:
                path.append((pair.facts["steps"], total(blocks[1])))
        nulls = [
            self._kernel(pair, self._moved(before, after, draw), examples, f"null {draw}")[WHOLE]
            for draw in range(self.config.draws)
        ]
        return Kernels(blocks[0], blocks[1], nulls, path)

    def ends(self, pair: Pair) -> tuple[Weights, Weights]:
        """Weights before and after, with the classifier that was asked for."""
        return self._with_head(pair, pair.weights0), pair.weights1

    def float64_gap(self, pair: Pair, examples: Examples) -> Row:
        """How far the kernel distance of a few images moves when computed in float64."""
        x = examples.x[:: -(-len(examples.x) // CHECKED_IN_FLOAT64)]
        distances = [
            ks.kernel_distance(
                *(self._computed(pair, w, x, dtype)[WHOLE] for w in self.ends(pair))
            )
            for dtype in (self.dtype, torch.float64)
        ]
        return {"value": abs(distances[0] - distances[1]), "num_examples": len(x)}

    def _kernel(
        self, pair: Pair, weights: Weights, examples: Examples, place: str, *, blocks: bool = False
    ) -> dict[str, np.ndarray]:
        """A kernel by block, in the order of the network."""
        found = self.partial.load_or_compute(
            self._identity(pair, examples, place),
            lambda: {
                f"{i:04d}|{name}": kernel
                for i, (name, kernel) in enumerate(
                    self._computed(pair, weights, examples.x, self.dtype, blocks=blocks).items()
                )
            },
        )
        return {name.partition("|")[2]: found[name] for name in sorted(found)}

    def _computed(
        self, pair: Pair, weights: Weights, x: Tensor, dtype: torch.dtype, *, blocks: bool = False
    ) -> dict[str, np.ndarray]:
        try:
            kernels = empirical_ntk(
                self.model,
                {name: tensor.to(self.device) for name, tensor in weights.items()},
                x.to(self.device),
                outputs="trace",
                blocks=blocks,
                layer=self.config.layer,
                memory=self.config.memory,
                dtype=dtype,
            )
        except InputError as error:
            raise InputError(f"run '{pair.run}': {error}") from error
        parts = kernels if isinstance(kernels, dict) else {WHOLE: kernels}
        return {name: kernel.cpu().numpy() for name, kernel in parts.items()}

    def _with_head(self, pair: Pair, weights: Weights) -> Weights:
        if self.config.head == "own":
            return weights
        head = {n: w for n, w in pair.weights1.items() if n.startswith(self.head)}
        return {**weights, **head}

    def _moved(self, before: Weights, after: Weights, draw: int) -> Weights:
        """A random move of the same size, weight by weight."""
        generator = torch.Generator().manual_seed(self.config.seed + draw)
        parameters = dict(self.model.named_parameters())
        delta = {name: after[name] - before[name] for name in before}
        move = random_displacement(delta, parameters, generator)
        return {name: before[name] + move[name] for name in before}

    def _between(self, pair: Pair) -> Iterator[tuple[int, str, Weights]]:
        """Step, SHA-256 and weights of the checkpoints that a run folder kept along the way."""
        final, most = Path(pair.facts["checkpoint"]), self.config.checkpoints
        from_init = pair.facts["steps"] and pair.facts["head"] == OWN_HEAD
        if not from_init or final.name != "final.safetensors":
            return  # the path has to begin and end where the run did
        files = sorted(final.parent.glob("step_[0-9]*.safetensors"))
        for i in _evenly(len(files), most):
            digest = load_checkpoint(self.model, files[i]).sha256
            weights = {n: w.clone() for n, w in float_state(self.model).items()}
            yield int(files[i].stem.removeprefix("step_")), digest, self._with_head(pair, weights)

    def _loader(self, env: str, images: np.ndarray) -> torch.utils.data.DataLoader:
        comparison = self.comparison
        return image_loader(
            comparison.domains,
            InOrder(self.env_names.index(env), images, self.config.samples),
            comparison.transform,
            comparison.data_config,
            training=False,
            workers=self.config.workers,
        )

    def _identity(self, pair: Pair, examples: Examples, place: str) -> dict[str, object]:
        """Everything that a kernel depends on."""
        config, comparison, facts = self.config, self.comparison, pair.facts
        options = ("layer", "head", "seed", "memory", "dtype", "device")
        return {
            "place": place,
            "envs": examples.envs.tolist(),
            "images": examples.images.tolist(),
            "data": comparison.domains.fingerprint,
            "data_config": comparison.data_config,
            "model": [comparison.model_name, comparison.model_kwargs],
            "transform": comparison.transform,
            "checkpoints": [facts["head"], facts["pretrained_sha256"], facts["sha256"]],
            "versions": provenance()["versions"],
            **{name: getattr(config, name) for name in options},
        }


def _evenly(num: int, most: int) -> list[int]:
    """At most `most` of `num` positions, evenly spaced, the last one included.

    Example:
        >>> _evenly(10, 3), _evenly(2, 3)
        ([2, 6, 9], [0, 1])
    """
    return [round((i + 1) * num / min(num, most)) - 1 for i in range(min(num, most))]


def total(blocks: Blocks) -> np.ndarray:
    """The whole kernel from its blocks."""
    return np.sum(list(blocks.values()), axis=0)


def statistics(kernels: Kernels, onehot: ks.OneHot, layer: str) -> dict[Key, float]:
    """Every number that a jackknife applies to."""
    k0, k1 = total(kernels.before), total(kernels.after)
    values = _pair_values(k0, k1, layer) | _block_values(kernels)
    for end, kernel in enumerate((k0, k1)):
        values |= {
            Key(name, layer, float(end)): value
            for name, value in _end_values(kernel, onehot).items()
        }
    for name in ("label_alignment", "effective_rank"):
        first, last = (values[Key(name, layer, end)] for end in (0.0, 1.0))
        values[Key(f"{name}_change", layer, None)] = last - first
    random = [ks.kernel_distance(k0, kernel) for kernel in kernels.nulls]
    values[Key("random_kernel_distance", layer, None)] = float(np.mean(random))
    for (step0, a), (step1, b) in zip(kernels.path, kernels.path[1:], strict=False):
        velocity = ks.kernel_distance(a, b) / (step1 - step0)
        values[Key("kernel_velocity", layer, float(step1))] = velocity
    return values


def _pair_values(k0: ks.Kernel, k1: ks.Kernel, layer: str) -> dict[Key, float]:
    return {
        Key("kernel_distance", layer, None): ks.kernel_distance(k0, k1),
        Key("kernel_distance_centred", layer, None): ks.kernel_distance(
            ks.centred(k0), ks.centred(k1)
        ),
        Key("kernel_change", layer, None): ks.kernel_change(k0, k1),
    }


def _end_values(kernel: ks.Kernel, onehot: ks.OneHot) -> dict[str, float]:
    return {
        "label_alignment": ks.label_alignment(kernel, onehot),
        "effective_rank": ks.effective_rank(kernel),
        "effective_rank_centred": ks.effective_rank(ks.centred(kernel)),
        "kernel_trace": float(kernel.trace() / len(kernel)),
        "label_energy": ks.label_energy(kernel, onehot, onehot.shape[1]),
    }


def _block_values(kernels: Kernels) -> dict[Key, float]:
    """Distance and share of every block that has any part in the kernel."""
    values: dict[Key, float] = {}
    whole = total(kernels.before).trace()
    for block, kernel in kernels.before.items():
        if kernel.trace() or kernels.after[block].trace():
            distance = ks.kernel_distance(kernel, kernels.after[block])
            values[Key("kernel_distance", block, None)] = distance
            values[Key("block_trace_share", block, None)] = float(kernel.trace() / whole)
    return values


def rows_of(
    kernels: Kernels, onehot: ks.OneHot, strata: np.ndarray, config: NtkConfig
) -> list[Row]:
    """All rows of some examples: jackknifed values, and labels permuted within environments."""
    groups = ks.jackknife_groups(strata, seed=config.seed)
    found = ks.jackknife(
        lambda kept: statistics(_part(kernels, kept), onehot[kept], config.layer), groups
    )
    rows = [key._asdict() | row for key, row in found.items()]
    options = {"num": config.permutations, "seed": config.seed}
    for end, blocks in enumerate((kernels.before, kernels.after)):
        drawn = ks.permuted_alignments(total(blocks), onehot, strata, **options)
        key = Key("permuted_label_alignment", config.layer, float(end))
        rows.append(key._asdict() | _null_row(drawn, len(strata)))
    return rows


def _part(kernels: Kernels, kept: np.ndarray) -> Kernels:
    """The kernels of some of the examples."""
    square = np.ix_(kept, kept)
    return Kernels(
        before={name: kernel[square] for name, kernel in kernels.before.items()},
        after={name: kernel[square] for name, kernel in kernels.after.items()},
        nulls=[kernel[square] for kernel in kernels.nulls],
        path=[(step, kernel[square]) for step, kernel in kernels.path],
    )


def _null_row(drawn: np.ndarray, num_examples: int) -> Row:
    """Mean, standard deviation and middle 95 % of a null distribution."""
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    row: Row = {"value": float(drawn.mean()), "num_examples": num_examples}
    return row | {"stderr": float(drawn.std()), "low": low, "high": high}


def measure(config: NtkConfig) -> Record:
    """Measure every run in every environment; nothing stays on disk when it succeeds.

    Killed, it leaves finished kernels beside `config.output`; the next call continues there.

    Raises:
        InputError: If checkpoints, images and options do not fit each other.
    """
    config = resolve(config)
    partial = PartialResults.beside(Path(config.output or ""))
    record = measure_with(config, partial)
    partial.remove()
    return record


def resolve(config: NtkConfig) -> NtkConfig:
    """Fill in the embedded example and the output where they were left out."""
    if not config.finetuned:
        config = replace(config, finetuned=example_runs())
    if config.output is None:
        config = replace(config, output=str(free_name(Path("runs/ntk"))))
    return config


def measure_with(config: NtkConfig, partial: PartialResults) -> Record:
    """`measure` that keeps finished kernels in `partial` and leaves them there."""
    began = time.perf_counter()
    comparison = load_pairs(config)
    bench = KernelBench(config, comparison, partial)
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
            gap = {"metric": "float64_gap", "layer": config.layer, "split": split, "env": "all"}
            rows.append(labels | gap | bench.float64_gap(pair, examples))
        arrays |= _arrays(f"{pair.run}|{split}", examples, kernels)
    shared = {"probe": "ntk", "model": comparison.model_name}
    return Record(
        probe="ntk",
        config=asdict(config),
        values=tidy([shared | row for row in rows]),
        metrics=ks.METRICS,
        provenance=_provenance(bench, time.perf_counter() - began),
        arrays=arrays,
    )


def _split_rows(
    bench: KernelBench, split: str, examples: Examples, kernels: Kernels
) -> Iterator[Row]:
    """Rows of every environment of a split, and of all of them together."""
    onehot = ks.one_hot(examples.labels, len(bench.comparison.domains.classes))
    places = np.unique(examples.envs)
    groups = {bench.env_names[p]: np.flatnonzero(examples.envs == p) for p in places}
    found: list[Row] = []
    for env, kept in groups.items():
        found = rows_of(_part(kernels, kept), onehot[kept], examples.envs[kept], bench.config)
        yield from ({"split": split, "env": env} | row for row in found)
    if len(groups) > 1:
        found = rows_of(kernels, onehot, examples.envs, bench.config)
    yield from ({"split": split, "env": "all"} | row for row in found)


def _arrays(label: str, examples: Examples, kernels: Kernels) -> dict[str, np.ndarray]:
    """Both kernels, ordered by class and environment, and whose rows are whose."""
    return {
        f"{label}|K0": total(kernels.before),
        f"{label}|K1": total(kernels.after),
        f"{label}|labels": examples.labels,
        f"{label}|envs": examples.envs,
        f"{label}|images": examples.images,
    }


def _provenance(bench: KernelBench, seconds: float) -> dict[str, object]:
    config, comparison = bench.config, bench.comparison
    domains, own = comparison.domains, config.head == "own"
    return provenance(
        runs=[
            pair.facts
            | {"head": OWN_HEAD if own and pair.facts["head"] == OWN_HEAD else SAME_HEAD}
            for pair in comparison.pairs
        ],
        data=comparison.data,
        data_fingerprint=domains.fingerprint,
        classes=list(domains.classes),
        environments=bench.env_names,
        skipped=list(domains.skipped),
        image_shape=list(comparison.data_config["input_size"]),
        transform=comparison.transform,
        device=str(bench.device),
        dtype=config.dtype,
        seed=config.seed,
        num_draws=config.draws,
        num_permutations=config.permutations,
        intervals=f"delete-group jackknife over examples, at most {ks.NUM_GROUPS} groups; normal",
        seconds=round(seconds, 1),
    )
