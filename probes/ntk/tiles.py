"""Tiles of a kernel: summed over weights, and put in their place.

Shapes: N and M examples, C outputs.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from probes.ntk.factors import Factor, Grams, Reduction, contract


@dataclass(frozen=True)
class Tile:
    """A rectangle of the kernel."""

    rows: slice
    cols: slice


class Sums:
    """Contractions of weight after weight, summed by group."""

    def __init__(self, groups: Mapping[str, str], num_outputs: int, reduction: Reduction) -> None:
        self.groups, self.num_outputs = groups, num_outputs
        self.reduction: Reduction = reduction
        self.parts: dict[str, Tensor] = {}
        self._grams: dict[str, Grams] = {}

    def add(self, name: str, left: Factor, right: Factor, output: int | None = None) -> None:
        """The products of one weight, of all outputs or of one."""
        if output is None or self.reduction == "full":
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
    """Write a tile into the kernel, and its mirror image into a symmetric one."""
    axis = 2 if kernel.ndim == 4 else 1
    turned = part.permute(2, 3, 0, 1) if kernel.ndim == 4 else part.transpose(0, 1)
    if mirrored and tile.rows == tile.cols:
        part = turned = (part + turned) / 2
    kernel[tile.rows, *[slice(None)] * (axis - 1), tile.cols] = part
    if mirrored:
        kernel[tile.cols, *[slice(None)] * (axis - 1), tile.rows] = turned
