"""From a frozen dataclass to a command: flags, YAML, help texts, logging, exit codes.

Every field is a flag (`--batch_size 16`), its docstring the flag's help; `--config run.yaml`
reads a file, `--print_config` prints the resolved one. Fields of type `tuple[str, ...]` take
several words: `--envs art cartoon`.
"""

import atexit
import json
import logging
import re
import signal
import sys
import warnings
from argparse import ArgumentError
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, fields
from functools import cache
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin

import yaml
from jsonargparse import ArgumentParser, Namespace, set_parsing_settings

from core.documents import described
from core.errors import InputError

Config = TypeVar("Config")
WRONG_INPUT, INTERRUPTED, TERMINATED = 2, 130, 143
UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}


def parse(
    config_class: type[Config], argv: Sequence[str] | None = None, *, about: str = ""
) -> Config:
    """Flags and configuration files to an instance of `config_class`.

    Raises:
        InputError: If the values are of the right type but make no sense together, or the file of
            `--config` is no text.
        SystemExit: With status 2 if a flag is unknown or a value has the wrong type.
    """
    set_parsing_settings(docstring_parse_attribute_docstrings=True)
    parser = ArgumentParser(prog=_program(), description=about.split("\n\n")[0])
    parser.add_argument("--config", action="config", help="YAML file with any of the options.")
    parser.add_class_arguments(config_class)
    words = sys.argv[1:] if argv is None else argv
    try:
        values = parser.parse_args(_normalise(words, config_class))
    except UnicodeDecodeError as error:
        raise InputError(
            "--config holds bytes that are no text; a YAML file was expected"
        ) from error
    return config_class(**_arguments(values))


def typed_option(config_class: type, name: str, value: object) -> Any:  # ruff: ignore[any-type]
    """A value from YAML or Python as the option of that name takes it on the command line.

    A single word is a list of one where the option is a list.

    Raises:
        InputError: If it has the wrong type.

    Example:
        >>> from core.options import DataOptions
        >>> typed_option(DataOptions, "envs", "photo")
        ('photo',)
    """
    annotation = next(f.type for f in fields(config_class) if f.name == name)
    if isinstance(value, tuple):
        value = list(value)
    elif _is_tuple(annotation) and value is not None and not isinstance(value, list):
        value = [value]
    parser = _option_parser(config_class)
    try:
        return parser.parse_object({name: value}).as_dict()[name]
    except ArgumentError as error:
        raise InputError(f"{name} is {value!r}; {described(annotation)} was expected") from error


@cache
def _option_parser(config_class: type) -> ArgumentParser:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(config_class)
    return parser


def _program() -> str:
    """`python -m probes.linearity` when started so, otherwise the file's name."""
    spec = sys.modules["__main__"].__spec__
    return f"python -m {spec.name}" if spec else Path(sys.argv[0]).name


def _arguments(values: Namespace) -> dict[str, Any]:
    return {key: value for key, value in values.as_dict().items() if key != "config"}


def _normalise(words: Sequence[str], config_class: type) -> list[str]:
    """Flags as jsonargparse wants them: `--envs a b` to a YAML list, `--compile` to `true`."""
    types = {f"--{f.name}": f.type for f in fields(config_class)}
    normalised: list[str] = []
    for flag, values in _by_flag(words):
        if types.get(flag or "") in {bool, bool | None} and not values:
            values = ["true"]
        if _is_tuple(types.get(flag or "")) and not (values and values[0].startswith("[")):
            of_text = "str" in str(types[flag or ""])
            values = [f"[{', '.join(json.dumps(v) if of_text else v for v in values)}]"]
        # Joined, since argparse takes a value such as -1e-3 for a flag.
        joined = flag is not None and len(values) == 1
        normalised += [f"{flag}={values[0]}"] if joined else [*filter(None, [flag]), *values]
    return normalised


def _by_flag(words: Sequence[str]) -> list[tuple[str | None, list[str]]]:
    """The words behind each flag."""
    groups: list[tuple[str | None, list[str]]] = [(None, [])]
    for word in words:
        if word.startswith("--"):
            flag, equals, value = word.partition("=")
            groups.append((flag, [value] if equals else []))
        else:
            groups[-1][1].append(word)
    return groups


def _is_tuple(annotation: object) -> bool:
    return tuple in {get_origin(kind) for kind in (annotation, *get_args(annotation))}


def run(action: Callable[[Config], object], config_class: type[Config]) -> None:
    """Parse the command line, act, and leave with the status that the outcome deserves.

    0 on success, 2 for wrong input (one sentence on standard error), 130 when interrupted, 143
    when terminated; any other exception is a defect of ours and keeps its traceback.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    # PyTorch's own forward-mode rules still use it.
    warnings.filterwarnings("ignore", "`torch.jit.script` is deprecated", FutureWarning)
    module = sys.modules[action.__module__]
    try:
        with _termination():
            action(parse(config_class, about=module.__doc__ or ""))
    except InputError as error:
        sys.exit(_say(f"error: {error}", WRONG_INPUT))
    except KeyboardInterrupt as interrupt:
        # Nobody needs to see where a second Ctrl-C stopped the interpreter from closing.
        atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)
        status = TERMINATED if isinstance(interrupt, _Terminated) else INTERRUPTED
        sys.exit(_say("interrupted; the same command resumes where it stopped", status))


class _Terminated(KeyboardInterrupt):
    """Somebody, such as a cluster's queue, asked the process to end."""


@contextmanager
def _termination() -> Generator[None, None, None]:
    """SIGTERM ends the block like Ctrl-C, so that temporary files are removed."""

    def terminate(_number: int, _frame: object) -> None:
        raise _Terminated

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _say(sentence: str, status: int) -> int:
    print(sentence, file=sys.stderr)
    return status


def as_yaml(config: Any) -> str:  # ruff: ignore[any-type] - any dataclass instance
    """A configuration as the YAML that `--config` reads."""
    plain = {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(config).items()}
    return yaml.safe_dump(plain, sort_keys=False, allow_unicode=True)


def parse_bytes(text: str) -> int:
    """`"2GB"` to bytes (decimal units).

    Raises:
        InputError: If the text is not a positive number with one of the units B, KB, MB, GB, TB.

    Example:
        >>> parse_bytes("1.5 MB")
        1500000
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d*)?)\s*([KMGT]?B?)\s*", text.upper())
    if match is None or match[2] not in UNITS or not float(match[1]):
        raise InputError(f"'{text}' is not a size; expected a number with a unit such as 2GB")
    return int(float(match[1]) * UNITS[match[2]])
