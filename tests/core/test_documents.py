"""Tests for core/documents.py."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, NotRequired, TypedDict

import pytest

from core.documents import check_entries, read_json, read_json_lines, read_yaml
from core.errors import InputError


class Inner(TypedDict):
    """An entry with entries."""

    name: str


class Schema(TypedDict):
    """One entry of every kind."""

    text: str
    whole: int
    number: float
    flag: bool
    maybe: int | None
    choice: Literal["a", "b"]
    words: list[str]
    free: dict[str, Any]
    inner: list[Inner]
    later: NotRequired[int]


GOOD: dict[str, Any] = {
    "text": "t",
    "whole": 1,
    "number": 2,  # a whole number is a number
    "flag": True,
    "maybe": None,
    "choice": "b",
    "words": ["x"],
    "free": {"a": [1]},
    "inner": [{"name": "n", "more": 1}],
}
WRONG = {
    "text": [1, None, ["t"]],
    "whole": ["1", 1.0, True, None],
    "number": ["fast", True, [1.0]],
    "flag": [1, "yes", None],
    "maybe": ["1", 0.5, False],
    "choice": ["c", 1, None, ["a"]],
    "words": ["x", [1], {"x": 1}, None],
    "free": [[1], "a", {1: 2}, None],
    "inner": [[{}], [{"name": 1}], ["n"], {}],
}


def test_what_fits_is_returned_with_all_further_entries() -> None:
    assert check_entries(GOOD | {"more": 1}, Schema, "f") == GOOD | {"more": 1}
    assert check_entries(GOOD | {"maybe": 3, "number": 0.5}, Schema, "f")["maybe"] == 3


@pytest.mark.parametrize(
    ("name", "value"), [(n, v) for n, values in WRONG.items() for v in values]
)
def test_a_value_of_another_type_is_named_in_one_sentence(name: str, value: object) -> None:
    with pytest.raises(InputError, match=f"'f' says {name}: .* where .* belongs") as error:
        check_entries(GOOD | {name: value}, Schema, "f")
    assert "\n" not in str(error.value)


def test_an_entry_of_later_versions_may_be_missing_but_not_wrong() -> None:
    assert check_entries(GOOD | {"later": 3}, Schema, "file").get("later") == 3
    with pytest.raises(InputError, match="says later: 'x', where a whole number belongs"):
        check_entries(GOOD | {"later": "x"}, Schema, "file")


@pytest.mark.parametrize("name", GOOD)
def test_a_missing_entry_is_named(name: str) -> None:
    with pytest.raises(InputError, match=f"'f' lacks {name};"):
        check_entries({k: v for k, v in GOOD.items() if k != name}, Schema, "f")


@pytest.mark.parametrize(
    "damage", [b'{"name": "n', b"", b"[1]", b"null", b"\xff\xfe", b"[" * 10**5]
)
@pytest.mark.parametrize("read", [read_json, read_yaml])
def test_damaged_files_are_one_sentence(
    read: Callable[[Path, type], object], damage: bytes, tmp_path: Path
) -> None:
    file = tmp_path / "facts"
    file.write_bytes(damage)
    with pytest.raises(InputError, match=r"facts' .*restore the file") as error:
        read(file, Inner)
    assert "\n" not in str(error.value)


def test_a_folder_in_the_place_of_a_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read as JSON"):
        read_json(tmp_path, Inner)


def test_lines_are_read_in_order_and_blank_ones_left_out(tmp_path: Path) -> None:
    file = tmp_path / "lines"
    file.write_text('{"name": "a"}\n\n{"name": "b"}\n')
    assert [line["name"] for line in read_json_lines(file, Inner)] == ["a", "b"]


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    file = tmp_path / "lines"
    file.write_text('{"name": "a"}\n{"name": 3}\n')
    with pytest.raises(InputError, match="lines, line 2' says name: 3, where text belongs"):
        read_json_lines(file, Inner)
