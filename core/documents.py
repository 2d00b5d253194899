"""JSON and YAML that earlier commands wrote: read back, and checked before anything relies on it.

What a reader needs is declared as a `TypedDict`; further entries are left alone.
"""

import json
from collections.abc import Callable
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints, is_typeddict

import yaml

from core.errors import InputError

Document = TypeVar("Document")
_KINDS: dict[object, str] = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    NoneType: "null",
}


def read_json(path: Path, schema: type[Document]) -> Document:
    """The entries of a JSON file.

    Args:
        path: The file.
        schema: A `TypedDict` of the entries that must be there.

    Raises:
        InputError: If the file cannot be read, is no JSON, or lacks an entry of the right type.
    """
    return check_entries(_read(path, json.loads, "JSON"), schema, str(path))


def read_json_lines(path: Path, schema: type[Document]) -> list[Document]:
    """The entries of every line of a JSON lines file; see `read_json`."""

    def parse(text: str) -> list[object]:
        return [json.loads(line) for line in text.splitlines() if line.strip()]

    lines = _read(path, parse, "JSON lines")
    return [
        check_entries(line, schema, f"{path}, line {number}")
        for number, line in enumerate(lines, 1)
    ]


def read_yaml(path: Path, schema: type[Document]) -> Document:
    """The entries of a YAML file; see `read_json`."""
    return check_entries(_read(path, yaml.safe_load, "YAML"), schema, str(path))


def _read(path: Path, parse: Callable[[str], Any], kind: str) -> Any:  # ruff: ignore[any-type]
    try:
        return parse(path.read_text(encoding="utf-8"))
    # yaml passes on a date's ValueError; brackets without end exhaust both parsers' stack.
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise damaged(path, f"cannot be read as {kind} ({_in_one_line(error)})") from error


def check_entries(found: object, schema: type[Document], where: str) -> Document:
    """What was found, if it holds every entry of a `TypedDict` with a value of its type.

    Raises:
        InputError: With the first entry that is missing or has another type.

    Example:
        >>> from typing import TypedDict
        >>> Seeded = TypedDict("Seeded", {"seed": int})
        >>> check_entries({"seed": 1, "more": 2}, Seeded, "run.json")
        {'seed': 1, 'more': 2}
    """
    if not isinstance(found, dict):
        raise damaged(where, "holds no names with values")
    kinds = get_type_hints(schema)
    required: frozenset[str] = schema.__required_keys__  # type: ignore[attr-defined]
    missing = [n for n in kinds if n not in found and n in required]
    if missing:
        raise damaged(where, f"lacks {', '.join(missing)}")
    for name, kind in kinds.items():
        if name in found and not _fits(found[name], kind):
            shown = f"{found[name]!r:.60}"
            raise damaged(where, f"says {name}: {shown}, where {described(kind)} belongs")
    return found  # type: ignore[return-value]


def damaged(where: str | Path, found: str) -> InputError:
    """The sentence about a file that is not as a command wrote it."""
    return InputError(
        f"'{where}' {found}; the file as the command wrote it was expected: restore the file, or "
        "run the command again with another --output"
    )


def _fits(value: object, kind: Any) -> bool:  # ruff: ignore[any-type] - any annotation
    if is_typeddict(kind):
        entries = get_type_hints(kind)
        return isinstance(value, dict) and all(
            name in value and _fits(value[name], entry) for name, entry in entries.items()
        )
    origin, args = get_origin(kind), get_args(kind)
    if origin in {Union, UnionType}:
        return any(_fits(value, arg) for arg in args)
    if origin is Literal:
        return any(value == arg for arg in args)
    if origin is list:
        return isinstance(value, list) and all(_fits(item, args[0]) for item in value)
    if origin is dict:
        return isinstance(value, dict) and all(
            _fits(key, args[0]) and _fits(item, args[1]) for key, item in value.items()
        )
    if kind in {int, float} and isinstance(value, bool):
        return False
    return kind is Any or isinstance(value, (int, float) if kind is float else kind)


def described(kind: Any) -> str:  # ruff: ignore[any-type] - any annotation
    """What a value of this type is, in words.

    Example:
        >>> described(Literal["sgd", "adamw"] | None), described(tuple[float, ...])
        ('sgd or adamw or null', 'a list')
    """
    if kind in _KINDS:
        return _KINDS[kind]
    origin, args = get_origin(kind), get_args(kind)
    if origin in {Union, UnionType}:
        return " or ".join(described(arg) for arg in args)
    if origin is Literal:
        return " or ".join(map(str, args))
    return "a list" if origin in {list, tuple} else "names with values"


def _in_one_line(error: Exception) -> str:
    if isinstance(error, yaml.MarkedYAMLError) and error.problem_mark is not None:
        return f"line {error.problem_mark.line + 1}: {error.problem}"
    return " ".join(str(error).split())
