"""Tests for core/images.py."""

import os
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torchvision.datasets.folder import IMG_EXTENSIONS

from core.errors import InputError
from core.images import (
    IMAGE_SUFFIXES,
    class_folders,
    environment_folders,
    read_image,
    scan_folder,
    unreadable_images,
)
from tests.image_files import write_image

FORMATS = {"jpg": "JPEG", "png": "PNG", "bmp": "BMP", "tif": "TIFF", "webp": "WEBP"}


def test_suffixes_are_those_of_torchvision() -> None:
    assert IMAGE_SUFFIXES == IMG_EXTENSIONS


def test_hidden_files_and_clutter_are_ignored_and_suffixes_may_be_capitals(tmp_path: Path) -> None:
    write_image(tmp_path / "b.PNG")
    write_image(tmp_path / "a.jpg")
    for clutter in (".DS_Store", "Thumbs.db", "desktop.ini", "._a.jpg"):
        (tmp_path / clutter).touch()
    for clutter in ("__MACOSX", ".git", "cat"):
        (tmp_path / clutter).mkdir()

    folder = scan_folder(tmp_path)

    assert [name for name, _ in folder.images] == ["a.jpg", "b.PNG"]
    assert [size for _, size in folder.images] == [
        (tmp_path / name).stat().st_size for name in ("a.jpg", "b.PNG")
    ]
    assert folder.subfolders == (tmp_path / "cat",)


def test_a_file_that_is_no_image_is_named(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").touch()

    with pytest.raises(InputError, match=r"labels\.csv' is no image; expected .*\.webp"):
        scan_folder(tmp_path)


def test_a_broken_link_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.png").symlink_to(tmp_path / "gone.png")

    with pytest.raises(InputError, match=r"a\.png' is a link to a file that is gone"):
        scan_folder(tmp_path)


def test_links_to_folders_are_followed(tmp_path: Path) -> None:
    write_image(tmp_path / "elsewhere" / "a.png")
    (tmp_path / "data" / "cat").mkdir(parents=True)
    (tmp_path / "data" / "dog").symlink_to(tmp_path / "elsewhere")

    assert [path.name for path in scan_folder(tmp_path / "data").subfolders] == ["cat", "dog"]


def test_environments_are_the_folders_of_class_folders(tmp_path: Path) -> None:
    for env in ("sketch", "art"):
        write_image(tmp_path / env / "cat" / "a.png")

    folders = environment_folders(tmp_path)

    assert list(folders.items()) == [("art", tmp_path / "art"), ("sketch", tmp_path / "sketch")]


def test_class_folders_alone_are_one_environment_named_after_the_folder(tmp_path: Path) -> None:
    root = tmp_path / "pets"
    for name in ("cat", "dog"):
        write_image(root / name / "a.png")

    assert environment_folders(root) == {"pets": root}
    assert list(environment_folders(root / "cat" / "..")) == ["pets"]
    assert list(class_folders(root)) == ["cat", "dog"]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([], "holds no images; expected DIR/<env>/<class>/"),
        (["a.png"], r"a\.png' lies outside any class folder"),
        (["cat/a.png", "art/cat/a.png"], "mixes two layouts: 'cat' holds images and 'art'"),
        (["art/cat/a.png", "art/b.png", "ink/cat/a.png"], "mixes two layouts: 'art' .* 'ink'"),
        (["cat/a.png", "dog/"], "dog' is empty"),
        (["art/cat/a.png", "ink/"], "ink' is empty"),
    ],
)
def test_a_folder_without_one_layout_is_refused(
    tmp_path: Path, files: list[str], message: str
) -> None:
    for file in files:
        if file.endswith("/"):
            (tmp_path / file).mkdir()
        else:
            write_image(tmp_path / file)

    with pytest.raises(InputError, match=message):
        environment_folders(tmp_path)


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no folder '.*nothing'; expected .* 'digits'"):
        environment_folders(tmp_path / "nothing")


def test_an_empty_class_folder_is_refused(tmp_path: Path) -> None:
    write_image(tmp_path / "cat" / "a.png")
    (tmp_path / "dog").mkdir()

    with pytest.raises(InputError, match=r"class folder '.*dog' is empty"):
        class_folders(tmp_path)


def test_folders_inside_class_folders_are_refused(tmp_path: Path) -> None:
    write_image(tmp_path / "art" / "cat" / "a.png")

    with pytest.raises(InputError, match=r"art' holds the folder 'cat'; .* one level deeper"):
        class_folders(tmp_path)


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("kept", [0.0, 0.3, 0.9])
def test_truncated_images_are_found_in_every_format(
    tmp_path: Path, suffix: str, kept: float
) -> None:
    whole = write_image(tmp_path / f"whole.{suffix}").read_bytes()
    (tmp_path / f"half.{suffix}").write_bytes(whole[: int(kept * len(whole))])

    ids = [f"whole.{suffix}", f"half.{suffix}"]

    assert unreadable_images(tmp_path, ids) == [f"half.{suffix}"]


def test_text_and_noise_with_the_suffix_of_an_image_are_unreadable(tmp_path: Path) -> None:
    buffer = BytesIO()
    Image.new("RGB", (64, 64)).save(buffer, "PNG")
    broken_chunk = bytearray(buffer.getvalue())
    broken_chunk[40:60] = bytes(20)
    contents = [
        b"",
        b"hello",
        os.urandom(500),
        bytes(broken_chunk),
        b"\x89PNG\r\n\x1a\n" + bytes(9),
    ]
    for i, content in enumerate(contents):
        (tmp_path / f"{i}.png").write_bytes(content)
    ids = [f"{i}.png" for i in range(len(contents))]

    assert unreadable_images(tmp_path, ids) == ids


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P", "CMYK", "1"])
def test_every_mode_is_read_as_rgb(tmp_path: Path, mode: str) -> None:
    image = read_image(write_image(tmp_path / "a.tif", mode))

    assert image.mode == "RGB"
    assert image.size == (32, 32)


def test_sixteen_bits_a_pixel_keep_their_upper_eight(tmp_path: Path) -> None:
    grey = np.arange(0, 2**16, 2**8, dtype=np.uint16).reshape(16, 16)
    Image.fromarray(grey).save(tmp_path / "a.png")

    found = np.asarray(read_image(tmp_path / "a.png"))

    assert np.array_equal(found, np.repeat(grey[..., None] // 2**8, 3, axis=2))
    assert unreadable_images(tmp_path, ["a.png"]) == []


@pytest.mark.parametrize("dtype", [np.float32, np.int32])
def test_pixels_without_a_known_white_are_unreadable(tmp_path: Path, dtype: type) -> None:
    Image.fromarray(np.ones((8, 8), dtype)).save(tmp_path / "a.tif")

    assert unreadable_images(tmp_path, ["a.tif"]) == ["a.tif"]
