"""Images that the tests of this folder only read."""

from pathlib import Path

import pytest

from tests.finetuning.tiny import write_images


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_images(tmp_path_factory.mktemp("images") / "data")
