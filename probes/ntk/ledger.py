"""A kernel on its way to disk, which survives the process that computes it.

Until it is whole, everything lies in one hidden folder beside the output::

    .K.npy.partial/
        facts.json     what the kernel is of, as digests, and the size of its tiles
        kernel.npy     the array, memory-mapped
        done.npy       one flag a tile, set when the tile is on disk

The folder appears whole (`core.outputs.new_folder`); the array becomes the output by a rename.

Shapes: N and M examples.
"""

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, TypedDict

import numpy as np
import torch
from torch import Tensor

from core.documents import read_json
from core.errors import InputError
from core.outputs import check_writable, new_folder
from probes.ntk.tiles import Tile, num_pairs, place, rows_of_tiles


class Facts(TypedDict):
    """What the kernel is of, part by part, and how it is cut into tiles."""

    identity: dict[str, str]
    num: int
    others: int | None
    height: int
    width: int


def partial_folder(output: Path) -> Path:
    """Where an unfinished kernel lies.

    Raises:
        InputError: If the output exists or cannot be created.
    """
    if os.path.lexists(output):
        raise InputError(
            f"'{output}' already exists and is never overwritten; a new file was expected: "
            "choose another output or move the old one away"
        )
    check_writable(output)
    return output.with_name(f".{output.name}.partial")


def begun(folder: Path, identity: Mapping[str, str]) -> Facts | None:
    """The facts of a kernel that an earlier process began; none if there is none.

    Raises:
        InputError: If it was one of other weights, examples or options, or the folder is damaged.
    """
    if not (folder / "kernel.npy").exists():
        shutil.rmtree(folder, ignore_errors=True)  # its array has become an output since
        return None
    facts = _facts(folder)
    if other := [name for name in identity if facts["identity"].get(name) != identity[name]]:
        raise InputError(
            f"'{folder}' holds an unfinished kernel with another {' and '.join(other)}; the same "
            "was expected: choose another output, or remove the folder to begin again"
        )
    return facts


def begin(folder: Path, facts: Facts, shape: Sequence[int], dtype: np.dtype) -> None:
    """An empty kernel.

    Raises:
        InputError: If the folder cannot be created.
    """
    with new_folder(folder) as new:
        (new / "facts.json").write_text(json.dumps(facts, indent=2) + "\n")
        np.lib.format.open_memmap(new / "kernel.npy", "w+", dtype, tuple(shape))
        np.save(new / "done.npy", np.zeros(sum(map(len, _tiles(facts))), bool))


def spoilt(path: Path, found: str) -> InputError:
    """The sentence about something partial that cannot be continued."""
    return InputError(
        f"'{path}' {found}, as after a power cut; what an unfinished kernel left was expected: "
        "remove it and run the same command again"
    )


def _facts(folder: Path) -> Facts:
    try:
        return read_json(folder / "facts.json", Facts)
    except InputError as error:
        raise spoilt(folder, "has no readable facts.json") from error


def _tiles(facts: Facts) -> list[list[Tile]]:
    return rows_of_tiles(facts["num"], facts["others"], facts["height"], facts["width"])


class Ledger:
    """The array and the flags of its tiles, shared by all processes that have them open.

    Attributes:
        kernel: Of all pairs; with one field a block of weights, if divided.
        done: One flag a tile.

    Raises:
        InputError: If a file is damaged.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.facts = folder, _facts(folder)
        self.kernel, self.done = (mapped(folder / f"{n}.npy", "r+") for n in ("kernel", "done"))
        tiles = [tile for row in _tiles(self.facts) for tile in row]
        if self.done.shape != (len(tiles),) or self.done.dtype != np.bool_:
            raise spoilt(folder, f"has no flags of {len(tiles)} tiles in its done.npy")
        self.index = {_corner(tile): i for i, tile in enumerate(tiles)}
        self.symmetric = self.facts["others"] is None
        self._pairs = np.array([num_pairs(tile, symmetric=self.symmetric) for tile in tiles])

    @property
    def num_pairs(self) -> int:
        """Pairs of the whole kernel."""
        return int(self._pairs.sum())

    def num_pairs_done(self) -> int:
        """Pairs that are on disk."""
        return int(self._pairs[self.done].sum())

    def missing(self) -> list[list[Tile]]:
        """Rows of tiles without those that are done."""
        rows = [
            [tile for tile in row if not self.done[self.index[_corner(tile)]]]
            for row in _tiles(self.facts)
        ]
        return [row for row in rows if row]

    def write(self, tile: Tile, parts: Mapping[str, Tensor]) -> None:
        """Put a tile in its place; its flag follows when it is on disk.

        Raises:
            InputError: If a value is no finite number.
        """
        for name, part in parts.items():
            view = torch.from_numpy(self.kernel[name] if self.kernel.dtype.names else self.kernel)
            place(view, tile, part.cpu(), mirrored=self.symmetric)
        self.kernel.flush()
        self.done[self.index[_corner(tile)]] = True
        self.done.flush()

    def finish(self, output: Path) -> None:
        """Give the whole array its name, and remove the rest."""
        partial_folder(output)
        (self.folder / "kernel.npy").rename(output)
        shutil.rmtree(self.folder)


def _corner(tile: Tile) -> tuple[int, int]:
    return tile.rows.start, tile.cols.start


def mapped(path: Path, mode: Literal["r", "r+"] = "r") -> np.memmap:
    """An array on disk.

    Raises:
        InputError: If it is not whole.
    """
    try:
        found = np.load(path, mmap_mode="r")  # r+ would lengthen a file that was cut short
        return found if mode == "r" else np.load(path, mmap_mode=mode)
    except (OSError, EOFError, ValueError) as error:
        raise spoilt(path.parent, f"has no complete array in its {path.name} ({error})") from error
