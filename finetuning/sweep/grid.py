"""Grids of runs: options with lists of values, from YAML or from Python.

::

    - command: train                      # or linear; train where it is left out
      options: {data: PACS, steps: 5000}  # of all runs
      vary:                               # every combination of these is a run
        test_env: [art_painting, cartoon, photo, sketch]
        drop_rate: [0, 0.9]
        seed: [0, 1, 2]
      exclude:                            # but for those that are like one of these
        - {test_env: photo, drop_rate: 0}

A file holds one grid, or a list of them. An option that is a list itself takes a list as one value
(`test_env: [sketch, [art_painting, photo]]`: one run holds out two environments).
"""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from itertools import product
from pathlib import Path
from typing import Any

import yaml

from core.command_line import typed_option
from core.errors import InputError
from finetuning.sweep.names import COMMANDS, RunConfig, run_name

Options = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Runs that differ in some options.

    Attributes:
        command: `train` (finetuning.train) or `linear` (finetuning.linear).
        options: Of every run.
        vary: Values of further options; every combination is a run.
        exclude: Combinations that are left out; each names some of the options. What makes no
            sense together is left out so.
    """

    command: str = "train"
    options: Options = field(default_factory=dict)
    vary: Options = field(default_factory=dict)
    exclude: Sequence[Options] = ()

    def cells(self) -> list[RunConfig]:
        """The runs, the last option of `vary` changing fastest; none has an output yet.

        Raises:
            InputError: If an option, a value or an exclusion makes no sense, or no run is left.

        Example:
            >>> grid = Grid(vary={"seed": [0, 1], "drop_rate": [0, 0.9]}, exclude=[{"seed": 1}])
            >>> [(cell.seed, cell.drop_rate) for cell in grid.cells()]
            [(0, 0.0), (0, 0.9)]
        """
        self._check()
        kind = COMMANDS[self.command]
        own = {name: _typed(kind, name, value) for name, value in self.options.items()}
        shared = vars(kind()) | own
        varied = {name: [_typed(kind, name, v) for v in vs] for name, vs in self.vary.items()}
        excluded = [{n: _typed(kind, n, v) for n, v in some.items()} for some in self.exclude]
        cells = [shared | dict(zip(varied, vs, strict=True)) for vs in product(*varied.values())]
        # Only what is kept need make sense: exclude is what removes the rest.
        return [kind(**cell) for cell in _without(cells, excluded)]

    def _check(self) -> None:
        if self.command not in COMMANDS:
            known = " or ".join(COMMANDS)
            raise InputError(f"command is {self.command!r}; {known} was expected")
        for name, values in self.vary.items():
            if isinstance(values, str) or not isinstance(values, Sequence) or not values:
                raise InputError(
                    f"vary has {name}: {values!r}; a list of values was expected, such as "
                    f"{name}: [{values!r}]"
                )
        if both := self.options.keys() & self.vary.keys():
            raise InputError(f"{min(both)} is in options and in vary; one of them was expected")


def _typed(kind: type[RunConfig], name: str, value: object) -> object:
    known = [f.name for f in fields(kind) if f.name != "output"]
    if name == "output":
        raise InputError("output is no option of a grid; its runs are named by the sweep")
    if name not in known:
        close = difflib.get_close_matches(name, known, n=3, cutoff=0.5) or known[:3]
        command = next(command for command, k in COMMANDS.items() if k is kind)
        raise InputError(
            f"{name} is no option of finetuning.{command}; expected one such as {', '.join(close)}"
        )
    return typed_option(kind, name, value)


def _without(cells: Sequence[Options], excluded: Sequence[Options]) -> list[Options]:
    is_like = lambda cell, some: all(cell[name] == value for name, value in some.items())
    for some in excluded:
        if not any(is_like(cell, some) for cell in cells):
            raise InputError(f"no run is like {some}, which exclude names: mend or remove it")
    kept = [cell for cell in cells if not any(is_like(cell, some) for some in excluded)]
    if not kept:
        raise InputError(f"exclude leaves none of {len(cells)} runs; at least one was expected")
    return kept


def configurations(grids: Sequence[Grid], root: Path) -> list[RunConfig]:
    """The runs of all grids, each with a folder in `root` that bears its name (`run_name`).

    Raises:
        InputError: If a grid makes no sense, or two cells are the same run.
    """
    runs: dict[str, RunConfig] = {}
    for number, grid in enumerate(grids, 1):
        try:
            for cell in grid.cells():
                name = run_name(cell)
                if name in runs:
                    shown = (
                        ", ".join(f"{n} {getattr(cell, n)}" for n in grid.vary) or "its only one"
                    )
                    raise InputError(f"a run is there twice ({shown}); leave one out by exclude")
                runs[name] = replace(cell, output=str(root / name))
        except InputError as error:
            raise InputError(f"grid {number}: {error}") from error
    return list(runs.values())


def read_grids(path: Path) -> list[Grid]:
    """The grids in a YAML file.

    Raises:
        InputError: If the file cannot be read, or holds anything but grids.
    """
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise _no_grid(path, f"cannot be read as YAML ({' '.join(str(error).split())})") from error
    entries = found if isinstance(found, list) else [found]
    if not entries:
        raise _no_grid(path, "is empty")
    return [_grid(path, number, entry) for number, entry in enumerate(entries, 1)]


def _grid(path: Path, number: int, entry: object) -> Grid:
    known = {f.name for f in fields(Grid)}
    if not isinstance(entry, dict) or not entry:
        raise _no_grid(path, f"holds {entry!r:.60} as grid {number}")
    for name, value in entry.items():
        if name not in known:
            raise _no_grid(path, f"has {name} in grid {number}")
        if name == "command" and not isinstance(value, str):
            raise _no_grid(path, f"has command: {value!r:.60} in grid {number}, no word")
        if name in {"options", "vary"} and not _is_mapping(value):
            raise _no_grid(
                path, f"has {name}: {value!r:.60} in grid {number}, no names with values"
            )
        if name == "exclude" and not (isinstance(value, list) and all(map(_is_mapping, value))):
            raise _no_grid(
                path, f"has exclude: {value!r:.60} in grid {number}, no list of options"
            )
    return Grid(**entry)


def _is_mapping(value: object) -> bool:
    return isinstance(value, dict) and all(isinstance(name, str) for name in value)


def _no_grid(path: Path, found: str) -> InputError:
    names = ", ".join(f.name for f in fields(Grid))
    return InputError(
        f"'{path}' {found}; a grid, or a list of them, with entries among {names} was expected: "
        "mend the file"
    )
