"""Gradients of examples on disk, as factors, so that each goes through the network once.

Shapes: N examples.
"""

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from core.outputs import whole_file
from probes.ntk.capture import Factors
from probes.ntk.factors import Dense, Outer, concatenate
from probes.ntk.ledger import spoilt


class FactorFiles:
    """A folder with one file for every `width` examples of each side of a kernel."""

    def __init__(self, folder: Path, width: int) -> None:
        self.folder, self.width = folder, width

    def missing(self, side: int, num: int) -> list[slice]:
        """Parts of the examples of a side that have no file."""
        parts = self._parts(slice(0, num))
        return [part for part in parts if not self._path(side, part.start).exists()]

    def save(self, side: int, part: slice, factors: Factors) -> None:
        """Keep the gradients of a part.

        Raises:
            InputError: If the file cannot be written, such as on a full disk.
        """
        tensors = {
            f"{name}|{kind}": tensor.contiguous()
            for name, factor in factors.items()
            for kind, tensor in vars(factor).items()
        }
        with whole_file(self._path(side, part.start), parents=True) as file:
            save_file(tensors, file)

    def load(self, side: int, part: slice, device: torch.device) -> Factors:
        """The gradients of examples that begin and end where files do.

        Raises:
            InputError: If a file is damaged.
        """
        found = [self._load(self._path(side, p.start), device) for p in self._parts(part)]
        names = list(found[0])
        return {name: concatenate([factors.pop(name) for factors in found]) for name in names}

    def _load(self, path: Path, device: torch.device) -> Factors:
        try:
            tensors = load_file(path, str(device))
        except (OSError, SafetensorError) as error:
            raise spoilt(path, f"holds no complete gradients ({error})") from error
        parts: dict[str, dict[str, torch.Tensor]] = {}
        for key, tensor in tensors.items():
            name, _, kind = key.rpartition("|")
            parts.setdefault(name, {})[kind] = tensor
        return {n: Dense(**kept) if "rows" in kept else Outer(**kept) for n, kept in parts.items()}

    def _parts(self, whole: slice) -> list[slice]:
        starts = range(whole.start, whole.stop, self.width)
        return [slice(start, min(start + self.width, whole.stop)) for start in starts]

    def _path(self, side: int, start: int) -> Path:
        return self.folder / f"{side}_{start:08d}.safetensors"
