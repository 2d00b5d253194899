"""Domains: the environments that a network is fine-tuned on and tested in.

An environment is a list of labelled images; every environment of a data set has the same
classes. They come from image folders (`DIR/<env>/<class>/*` or `DIR/<class>/*`) or from the
embedded benchmark, `digits`.

Shapes: N images of H x W pixels in an environment.
"""

import hashlib
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Int64, UInt8
from PIL import Image

from core.errors import InputError
from core.images import class_folders, environment_folders, read_image, unreadable_images

DIGITS = "digits"
_NAMED = 5  # how many files an error message names before it only counts

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Environment:
    """Labelled images that were taken under the same conditions.

    Attributes:
        name: Its name.
        labels: One class index per image.
        ids: One name per image that is unique in the data set: a path relative to the data
            folder, or `ink/0001`.
        root: The folder that `ids` are relative to; None for images in memory.
        array: The images in memory; None for a folder.
    """

    name: str
    labels: Int64[np.ndarray, " N"]
    ids: tuple[str, ...]
    root: Path | None = None
    array: UInt8[np.ndarray, "N H W 3"] | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return len(self.labels)

    def image(self, index: int) -> Image.Image:
        """Reads one image, as RGB."""
        if self.array is not None:
            return Image.fromarray(self.array[index])
        assert self.root is not None
        return read_image(self.root / self.ids[index])


@dataclass(frozen=True, eq=False)
class Domains:
    """A data set of several environments with the same classes.

    Attributes:
        environments: Environments by name, in alphabetical order as in DomainBed.
        classes: Class names; a label is an index into them.
        fingerprint: SHA-256 over the images' names and sizes, or over arrays in memory.
        skipped: Ids of the unreadable images that were left out.
    """

    environments: Mapping[str, Environment]
    classes: tuple[str, ...]
    fingerprint: str
    skipped: tuple[str, ...] = ()


def load_domains(data: str, *, envs: Sequence[str] = (), skip_unreadable: bool = False) -> Domains:
    """Opens a data set and checks all of it, so that nothing can fail later during training.

    Args:
        data: A folder, or `digits` (a folder of that name is `./digits`).
        envs: The environments to open; all of them by default.
        skip_unreadable: Leave unreadable images out instead of refusing the data set.

    Raises:
        InputError: If there are no images, an unknown environment, a class that one environment
            lacks, an empty folder, a file that is no image, or an unreadable image.
    """
    if data == DIGITS:
        return _load_digits(envs)
    return _load_folders(Path(data), envs, skip_unreadable)


def holdout(
    env: Environment, seed: int, fraction: float = 0.2
) -> tuple[Int64[np.ndarray, " I"], Int64[np.ndarray, " O"]]:
    """Splits an environment at random into a part to train on and one to validate on.

    The permutation depends on the seed and the environment's name only, so that further
    environments do not move it. Within each part the order is random too: any first k images
    are a random sample.

    Args:
        env: The environment.
        seed: Another seed, another split.
        fraction: The share that is held out, at least one image, rounded down.

    Returns:
        Indices to train on and indices held out.

    Raises:
        InputError: If the environment has fewer than two images.

    Example:
        >>> env = Environment("ink", np.zeros(10, np.int64), tuple("abcdefghij"))
        >>> [len(part) for part in holdout(env, seed=0)]
        [8, 2]
    """
    if not 0 < fraction < 1:
        raise InputError(f"the held-out fraction is {fraction}; expected one between 0 and 1")
    if len(env) < 2:
        raise InputError(
            f"environment '{env.name}' has {len(env)} image; a hold-out needs at least two; "
            "add images or leave the environment out with --envs"
        )
    num_out = max(1, int(fraction * len(env)))
    digest = hashlib.sha256(f"{seed}/{env.name}".encode()).digest()
    # NumPy promises the raw stream of a bit generator for ever, but not that of `permutation`.
    draws = np.random.PCG64(int.from_bytes(digest)).random_raw(len(env))
    order = np.argsort(draws, kind="stable")
    return order[num_out:], order[:num_out]


def first_share(indices: Int64[np.ndarray, " N"], fraction: float) -> Int64[np.ndarray, " F"]:
    """The first share of some images, at least one; a smaller share is part of a larger one.

    Example:
        >>> first_share(np.array([4, 0, 3, 2]), 0.5)
        array([4, 0])
    """
    return indices[: max(1, math.ceil(fraction * len(indices)))]


def _load_digits(envs: Sequence[str]) -> Domains:
    # scikit-learn takes a second to import, which readers of folders need not pay.
    from core.digits import CLASSES, digit_environments

    arrays = digit_environments()
    names = _chosen(arrays, envs, DIGITS)
    environments = {
        name: Environment(
            name=name,
            labels=arrays[name][1],
            ids=tuple(f"{name}/{i:04d}" for i in range(len(arrays[name][1]))),
            array=arrays[name][0],
        )
        for name in names
    }
    parts = [part for name in names for part in (name.encode(), *arrays[name])]
    return Domains(environments, tuple(CLASSES), _fingerprint(parts))


def _load_folders(root: Path, envs: Sequence[str], skip_unreadable: bool) -> Domains:
    folders = environment_folders(root)
    scans = {name: class_folders(folders[name]) for name in _chosen(folders, envs, str(root))}
    classes = _common_classes(scans)
    sizes = {
        name: {
            _image_id(root, scan[class_name].path, file): (label, size)
            for label, class_name in enumerate(classes)
            for file, size in scan[class_name].images
        }
        for name, scan in scans.items()
    }
    skipped = _check_images(root, [i for files in sizes.values() for i in files], skip_unreadable)
    for name, files in sizes.items():
        sizes[name] = {i: entry for i, entry in files.items() if i not in skipped}
        _check_classes_left(name, classes, sizes[name])
    environments = {name: _environment(name, root, files) for name, files in sizes.items()}
    parts = [
        f"{name}\t{image_id}\t{size}\n".encode()
        for name, files in sizes.items()
        for image_id, (_, size) in files.items()
    ]
    return Domains(environments, classes, _fingerprint(parts), tuple(skipped))


def _environment(name: str, root: Path, files: Mapping[str, tuple[int, int]]) -> Environment:
    labels = np.array([label for label, _ in files.values()], np.int64)
    return Environment(name, labels, tuple(files), root=root)


def _image_id(root: Path, class_path: Path, file: str) -> str:
    return (class_path / file).relative_to(root).as_posix()


def _chosen(known: Mapping[str, object], envs: Sequence[str], data: str) -> list[str]:
    for name in envs:
        if name not in known:
            raise InputError(
                f"environment '{name}' is not in {data}; its environments are "
                f"{', '.join(sorted(known))}"
            )
    return sorted(set(envs) or known)


def _common_classes(scans: Mapping[str, Mapping[str, object]]) -> tuple[str, ...]:
    classes = sorted(set().union(*scans.values()))
    for name, scan in scans.items():
        for missing in (c for c in classes if c not in scan):
            other = next(env for env, found in scans.items() if missing in found)
            raise InputError(
                f"class '{missing}' is in environment '{other}' but not in '{name}'; every "
                "environment needs every class; add its images or leave the environment out "
                "with --envs"
            )
    return tuple(classes)


def _check_images(root: Path, ids: Sequence[str], skip_unreadable: bool) -> dict[str, None]:
    broken = unreadable_images(root, ids)
    if not broken:
        return {}
    listed = ", ".join(broken[:_NAMED]) + (" ..." if len(broken) > _NAMED else "")
    found = f"{len(broken)} of {len(ids)} images cannot be read: {listed}"
    if not skip_unreadable:
        raise InputError(f"{found}; replace them or pass --skip_unreadable")
    log.warning("%s; they are skipped", found)
    return dict.fromkeys(broken)


def _check_classes_left(
    name: str, classes: Sequence[str], files: Mapping[str, tuple[int, int]]
) -> None:
    found = {label for label, _ in files.values()}
    for label, class_name in enumerate(classes):
        if label not in found:
            raise InputError(
                f"no image of class '{class_name}' in environment '{name}' can be read; expected "
                "at least one; replace them"
            )


def _fingerprint(parts: Sequence[bytes | np.ndarray]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part if isinstance(part, bytes) else np.ascontiguousarray(part).tobytes())
    return digest.hexdigest()
