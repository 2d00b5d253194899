"""Image folders on disk: which layout they have, which files they hold, which can be decoded.

Two layouts are known, `DIR/<env>/<class>/*` (DomainBed) and `DIR/<class>/*` (torchvision's
`ImageFolder`); which one a folder has is read from where its images lie.
"""

import os
import struct
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from core.errors import InputError

# The suffixes of torchvision.datasets.folder.IMG_EXTENSIONS, repeated here because importing
# them would load torch.
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
LAYOUTS = "DIR/<env>/<class>/* or DIR/<class>/*"
_OS_CLUTTER = {"__MACOSX", "Thumbs.db", "desktop.ini", "$RECYCLE.BIN"}
# What Pillow's plugins raise on broken files; there is no common base class.
_DECODING_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    struct.error,
    Image.DecompressionBombError,
)
_PROGRESS_FROM = 2000


@dataclass(frozen=True)
class Folder:
    """The visible content of one directory, sorted by name.

    Attributes:
        path: The directory.
        subfolders: Its directories.
        images: Names and sizes in bytes of its image files.
    """

    path: Path
    subfolders: tuple[Path, ...]
    images: tuple[tuple[str, int], ...]


def scan_folder(path: Path) -> Folder:
    """Lists a directory; hidden entries and what operating systems leave behind are ignored.

    Raises:
        InputError: If it holds a file that is no image, or a broken link.
    """
    with os.scandir(path) as entries:
        visible = sorted((e for e in entries if not _is_clutter(e.name)), key=lambda e: e.name)
    subfolders = tuple(Path(entry.path) for entry in visible if entry.is_dir())
    files = [entry for entry in visible if not entry.is_dir()]
    for entry in files:
        if not entry.name.lower().endswith(IMAGE_SUFFIXES):
            raise InputError(
                f"'{entry.path}' is no image; expected only files that end in "
                f"{' '.join(IMAGE_SUFFIXES)}; move it elsewhere"
            )
    return Folder(path, subfolders, tuple((entry.name, _size(entry)) for entry in files))


def environment_folders(root: Path) -> dict[str, Path]:
    """Finds the layout of `root` and returns the folder of every environment, sorted by name.

    Raises:
        InputError: If there is no such folder, no image in it, or no single layout.
    """
    if not root.is_dir():
        raise InputError(
            f"there is no folder '{root}'; expected images as {LAYOUTS}, or the built-in "
            "'digits'; check the path"
        )
    top = scan_folder(root)
    if top.images:
        raise InputError(
            f"'{root / top.images[0][0]}' lies outside any class folder; expected {LAYOUTS}; "
            "sort the images into one folder per class"
        )
    if not top.subfolders:
        raise InputError(f"'{root}' holds no images; expected {LAYOUTS}; check the path")
    children = [scan_folder(path) for path in top.subfolders]
    if all(child.images for child in children):
        return {root.resolve().name: root}
    _check_two_levels(root, children)
    return {child.path.name: child.path for child in children}


def class_folders(env_path: Path) -> dict[str, Folder]:
    """Scans the class folders of one environment, sorted by name.

    Raises:
        InputError: If a class folder is empty or has folders of its own.
    """
    folders = {path.name: scan_folder(path) for path in scan_folder(env_path).subfolders}
    for folder in folders.values():
        if folder.subfolders:
            raise InputError(
                f"class folder '{folder.path}' holds the folder '{folder.subfolders[0].name}'; "
                f"expected only images, as {LAYOUTS}; choose DIR one level deeper or flatten it"
            )
        if not folder.images:
            raise InputError(
                f"class folder '{folder.path}' is empty; expected at least one image; fill it or "
                "remove the class from every environment"
            )
    return folders


def unreadable_images(root: Path, ids: Sequence[str]) -> list[str]:
    """Decodes every image and returns, in order, those on which Pillow fails.

    Args:
        root: The folder that `ids` are relative to.
        ids: Relative paths.
    """
    # Where several processes share a machine, this says what is the share of one.
    share = os.environ.get("OMP_NUM_THREADS", "")
    with ThreadPoolExecutor(int(share) if share.isdecimal() else None) as threads:
        results = threads.map(lambda image_id: _can_be_decoded(root / image_id), ids)
        progress = tqdm(
            zip(ids, results, strict=True),
            total=len(ids),
            desc="checking images",
            unit="image",
            leave=False,
            disable=len(ids) <= _PROGRESS_FROM,
        )
        return [image_id for image_id, readable in progress if not readable]


def read_image(path: Path) -> Image.Image:
    """Decodes an image file to RGB; of 16 bits a pixel the upper eight are kept."""
    with Image.open(path) as image:
        if image.mode.startswith("I;16"):  # Pillow's conversion clips, and leaves white
            return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
        return image.convert("RGB")


def _is_clutter(name: str) -> bool:
    return name.startswith(".") or name in _OS_CLUTTER


def _size(entry: os.DirEntry[str]) -> int:
    try:
        return entry.stat().st_size
    except FileNotFoundError as error:
        raise InputError(
            f"'{entry.path}' is a link to a file that is gone; expected an image; remove it"
        ) from error


def _check_two_levels(root: Path, children: Sequence[Folder]) -> None:
    for child in children:
        if not child.images and not child.subfolders:
            raise InputError(
                f"folder '{child.path}' is empty; expected images as {LAYOUTS}; fill or remove it"
            )
    with_images = next((child for child in children if child.images), None)
    if with_images is not None:
        other = next(child for child in children if not child.images)
        raise InputError(
            f"'{root}' mixes two layouts: '{with_images.path.name}' holds images and "
            f"'{other.path.name}' holds folders; expected {LAYOUTS} throughout; move one of them"
        )


def _can_be_decoded(path: Path) -> bool:
    try:
        with Image.open(path) as image:
            # A JPEG decoded at an eighth of its size is read to its end all the same.
            image.draft("RGB", (1, 1))
            image.load()
            # 32 bits or a float a pixel: nothing says which number is black, which white.
            return image.mode not in {"I", "F"}
    except _DECODING_ERRORS:
        return False
