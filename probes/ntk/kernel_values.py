"""From kernels to values with intervals and nulls.

Shapes: N examples, C classes.
"""

import numpy as np

from analysis.intervals import LEVEL, Row
from probes import kernel_space as ks
from probes.ntk.config import NtkConfig
from probes.ntk.kernel_bench import Blocks, Kernels, total
from probes.sums import Key


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
    random = [ks.kernel_distance(k0, total(blocks)) for blocks in kernels.nulls]
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
            random = [ks.kernel_distance(kernel, blocks[block]) for blocks in kernels.nulls]
            values[Key("random_kernel_distance", block, None)] = float(np.mean(random))
            values[Key("block_trace_share", block, None)] = float(kernel.trace() / whole)
    return values


def rows_of(
    kernels: Kernels, onehot: ks.OneHot, strata: np.ndarray, config: NtkConfig
) -> list[Row]:
    """All rows of some examples: jackknifed values, and labels permuted within environments."""
    groups = ks.jackknife_groups(strata, seed=config.seed)
    found = ks.jackknife(
        lambda kept: statistics(part_of(kernels, kept), onehot[kept], config.layer), groups
    )
    rows = [key._asdict() | row for key, row in found.items()]
    options = {"num": config.permutations, "seed": config.seed}
    for end, blocks in enumerate((kernels.before, kernels.after)):
        drawn = ks.permuted_alignments(total(blocks), onehot, strata, **options)
        key = Key("permuted_label_alignment", config.layer, float(end))
        rows.append(key._asdict() | _null_row(drawn, len(strata)))
    return rows


def part_of(kernels: Kernels, kept: np.ndarray) -> Kernels:
    """The kernels of some of the examples."""
    square = np.ix_(kept, kept)
    return Kernels(
        before=_part_of(kernels.before, square),
        after=_part_of(kernels.after, square),
        nulls=[_part_of(blocks, square) for blocks in kernels.nulls],
        path=[(step, kernel[square]) for step, kernel in kernels.path],
    )


def _part_of(blocks: Blocks, square: tuple[np.ndarray, ...]) -> dict[str, np.ndarray]:
    return {name: kernel[square] for name, kernel in blocks.items()}


def _null_row(drawn: np.ndarray, num_examples: int) -> Row:
    """Mean, standard deviation and middle 95 % of a null distribution."""
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    row: Row = {"value": float(drawn.mean()), "num_examples": num_examples}
    return row | {"stderr": float(drawn.std()), "low": low, "high": high}
