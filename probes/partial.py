"""Results of the finished parts of a long probe, so that a killed one does not begin again."""

import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from core.outputs import whole_file

log = logging.getLogger(__name__)

Arrays = dict[str, np.ndarray]


class PartialResults:
    """A folder of arrays, one file per finished part, named by all that the part depends on."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def beside(cls, output: Path) -> "PartialResults":
        """The parts of the record that will be `output`."""
        return cls(output.with_name(f".{output.name}.partial"))

    def load_or_compute(
        self, identity: Mapping[str, object], compute: Callable[[], Arrays]
    ) -> Arrays:
        """The part that an earlier process finished, or compute and keep it.

        Raises:
            InputError: If it cannot be written, such as on a full disk.
        """
        digest = hashlib.sha256(json.dumps(identity, sort_keys=True, default=str).encode())
        path = self.folder / f"{digest.hexdigest()[:24]}.safetensors"
        if path.is_file():
            try:
                return load_file(path)
            except SafetensorError as error:
                log.warning("'%s' is damaged (%s); it is computed again", path, error)
        arrays = compute()
        with whole_file(path, parents=True) as file:
            save_file(arrays, file)
        return arrays

    def remove(self) -> None:
        """Forget all parts; the record holds them now."""
        if self.folder.is_dir():
            shutil.rmtree(self.folder)
