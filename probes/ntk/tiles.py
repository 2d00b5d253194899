"""Tiles of a kernel: summed over weights, and put in their place.

Shapes: N and M examples, C outputs.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from core.errors import InputError
from probes.ntk.factors import Factor, Grams, Reduction, contract


@dataclass(frozen=True)
class Tile:
    """A rectangle of the kernel."""

    rows: slice
    cols: slice


def rows_of_tiles(num: int, others: int | None, height: int, width: int) -> list[list[Tile]]:
    """All tiles, those of a row together; of a symmetric kernel only from the diagonal on.

    Args:
        num: Examples.
        others: Examples that they meet; none where they meet themselves.
        height: Of a tile, at most; a symmetric kernel has tiles of height x height on its
            diagonal.
        width: Of a tile off the diagonal, at most.

    Example:
        >>> [len(row) for row in rows_of_tiles(5, None, 2, 1)]
        [4, 2, 1]
    """
    rows = []
    for start in range(0, num, height):
        block = slice(start, min(start + height, num))
        first, last = (block.stop, num) if others is None else (0, others)
        cols = [slice(col, min(col + width, last)) for col in range(first, last, width)]
        diagonal = [block] if others is None else []
        rows.append([Tile(block, part) for part in diagonal + cols])
    return rows


def num_pairs(tile: Tile, *, symmetric: bool) -> int:
    """Pairs of examples in a tile, of which mirror images count once."""
    num, others = (s.stop - s.start for s in (tile.rows, tile.cols))
    return num * (num + 1) // 2 if symmetric and tile.rows == tile.cols else num * others


class Sums:
    """Contractions of weight after weight, summed by group."""

    def __init__(self, groups: Mapping[str, str], num_outputs: int, reduction: Reduction) -> None:
        self.groups, self.num_outputs = groups, num_outputs
        self.reduction: Reduction = reduction
        self.parts: dict[str, Tensor] = {}
        self._grams: dict[str, Grams] = {}

    def add(self, name: str, left: Factor, right: Factor, output: int | None = None) -> None:
        """The products of one weight, of all outputs or of one."""
        if output is None:
            self.put(name, contract(left, right, self.reduction))
            return
        grams = self._grams.setdefault(name, Grams(self.num_outputs))
        part = contract(left, right, "trace", grams=grams)
        if self.reduction == "trace":
            self.put(name, part)
            return
        group = self.groups[name]
        if group not in self.parts:
            self.parts[group] = part.new_zeros(*part.shape, self.num_outputs)
        self.parts[group][..., output] += part

    def put(self, name: str, part: Tensor) -> None:
        """The part of the kernel that one weight makes."""
        group = self.groups[name]
        self.parts[group] = self.parts[group] + part if group in self.parts else part


def place(kernel: Tensor, tile: Tile, part: Tensor, *, mirrored: bool) -> None:
    """Write a tile into the kernel, and its mirror image into a symmetric one.

    Raises:
        InputError: If a value is no finite number.
    """
    if not part.isfinite().all():
        raise InputError(
            f"the kernel of examples {tile.rows.start} to {tile.rows.stop} with "
            f"{tile.cols.start} to {tile.cols.stop} holds NaN or infinity; finite numbers were "
            "expected: leave out the examples at which the network gives them, or choose a dtype "
            "whose range holds its gradients"
        )
    axis = 2 if kernel.ndim == 4 else 1
    turned = part.permute(2, 3, 0, 1) if kernel.ndim == 4 else part.transpose(0, 1)
    if mirrored and tile.rows == tile.cols:
        part = turned = (part + turned) / 2
    kernel[tile.rows, *[slice(None)] * (axis - 1), tile.cols] = part
    if mirrored:
        kernel[tile.cols, *[slice(None)] * (axis - 1), tile.rows] = turned
