"""The linear counterparts of a run: folders beside it, made with the same options.

| twin | made by | holds |
|---|---|---|
| tangent | `finetuning.train --tangent` | the weights that the tangent model was trained to |
| linear | `finetuning.linear` | the logits of the paper's model (1) for every image |

A tangent twin has the run's options but for those that say where and how fast, a linear one the
same network, images and split (`SHARED_WITH_LINEAR`); its steps, batches and learning rates are
its own. Pretrained weights are told by their SHA-256, images by the place of their folder, however
its path is spelt.
"""

import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypedDict

from core.documents import read_json, read_yaml
from core.errors import InputError
from core.options import RUNS_BEFORE
from probes.sources import Source

Kind = Literal["tangent", "linear"]

NONE = ("none",)
PREDICTIONS = "predictions.safetensors"
# Options of a run that change where, how fast and what else is kept, but not the weights.
NOT_COMPARED = {
    *("output", "device", "workers", "amp", "channels_last", "compile"),
    *("average", "average_from", "checkpoint_every"),
}
# What model (1) shares with the run that it is a counterpart of.
SHARED_WITH_LINEAR = (
    *("model", "model_kwargs", "pretrained", "data", "envs", "test_env", "seed", "split_seed"),
    *("drop_rate", "image_size", "transform", "train_fraction", "noise", "placement"),
)

log = logging.getLogger(__name__)


class _Options(TypedDict):
    """None is needed: a folder that lacks what a twin has is nobody's."""


class _Facts(TypedDict, total=False):
    pretrained_sha256: str | None


@dataclass(frozen=True)
class Twins:
    """The folders of a run's counterparts; None where there is none."""

    tangent: Path | None = None
    linear: Path | None = None

    def __bool__(self) -> bool:
        return self.tangent is not None or self.linear is not None


def find_twins(sources: Sequence[Source], named: Sequence[str], weights: str) -> list[Twins]:
    """The twins of every run: those named, or else those among its siblings.

    Args:
        sources: Run folders; checkpoint files and tangent runs have no twins.
        named: Folders, `none`, or nothing.
        weights: `final` or `best`, which weights of a run are looked at.

    Raises:
        InputError: If a run has two twins of a kind, or a named folder is damaged, unfinished
            or no twin of any run.
    """
    if tuple(named) == NONE:
        return [Twins() for _ in sources]
    if named:
        return _among_named(sources, [Path(name) for name in named], weights)
    return [
        _twins_of(source, _siblings(source.path), weights) if _is_ordinary(source) else Twins()
        for source in sources
    ]


def _among_named(sources: Sequence[Source], folders: Sequence[Path], weights: str) -> list[Twins]:
    ordinary = [source for source in sources if _is_ordinary(source)]
    for folder in folders:
        _check_named(folder, ordinary, weights)
    return [
        _twins_of(source, folders, weights) if _is_ordinary(source) else Twins()
        for source in sources
    ]


def _check_named(folder: Path, ordinary: Sequence[Source], weights: str) -> None:
    expected = (
        "a folder that `finetuning.train --tangent` or `finetuning.linear` wrote was expected"
    )
    if not (folder / "config.yaml").is_file():
        raise InputError(f"there is no '{folder / 'config.yaml'}'; {expected}: check --twins")
    kind = _kind(_options(folder))
    if kind is None:
        raise InputError(
            f"'{folder}' holds neither a tangent run nor a linear model; {expected}: check --twins"
        )
    differences = [_differences(kind, source, folder) for source in ordinary]
    if all(differences):
        closest = min(differences, key=len, default=["--finetuned names no ordinary run"])
        raise InputError(
            f"'{folder}' is no twin of any run ({'; '.join(closest[:3])}); a folder made with "
            "the options of a run in --finetuned was expected: check --twins"
        )
    if missing := _missing(folder, kind, weights):
        raise InputError(
            f"'{folder}' has no {missing}; a finished one was expected: finish it with the "
            "same command, or leave it out of --twins"
        )


def _twins_of(source: Source, folders: Iterable[Path], weights: str) -> Twins:
    found: dict[Kind, Path] = {}
    for folder in folders:
        kind = _kind(_options(folder))
        if kind is None or _differences(kind, source, folder):
            continue
        if missing := _missing(folder, kind, weights):
            log.warning("'%s' is not finished (no %s) and left out", folder, missing)
        elif kind in found:
            raise InputError(
                f"'{source.path}' has two {kind} twins, '{found[kind]}' and '{folder}'; one was "
                "expected: name it with --twins"
            )
        else:
            found[kind] = folder
    return Twins(**found)


def _is_ordinary(source: Source) -> bool:
    """Whether it is a run folder, and not itself a linear counterpart."""
    return source.run_options is not None and not _with_defaults(source.run_options)["tangent"]


def _siblings(run: Path) -> list[Path]:
    """Folders beside a run that hold readable options, in the order of their names."""
    place = run.resolve()
    folders = [path.parent for path in sorted(place.parent.glob("*/config.yaml"))]
    return [folder for folder in folders if folder != place and _is_readable(folder)]


def _is_readable(folder: Path) -> bool:
    """Whether the options of a folder that nobody named can be read; it may be anybody's."""
    try:
        _options(folder)
        _facts(folder)
    except InputError as error:
        log.warning("it is not known whether this is a twin of a run: %s", error)
        return False
    return True


def _options(folder: Path) -> dict[str, Any]:
    return _with_defaults(read_yaml(folder / "config.yaml", _Options))


def _facts(folder: Path) -> _Facts:
    path = folder / "run.json"
    return read_json(path, _Facts) if path.is_file() else {}


def _with_defaults(options: Mapping[str, Any]) -> dict[str, Any]:
    return {**RUNS_BEFORE, **options}


def _kind(options: Mapping[str, Any]) -> Kind | None:
    if "linear_blocks" in options:
        return "linear"
    return "tangent" if options["tangent"] is True else None


def _differences(kind: Kind, source: Source, folder: Path) -> list[str]:
    """Options in which a twin differs from the run, one phrase each; none for a twin."""
    run, options = _with_defaults(source.run_options or {}), _options(folder)
    names = SHARED_WITH_LINEAR if kind == "linear" else sorted(run.keys() | options.keys())
    differing = [
        f"{name} is {options.get(name)}, the run's {run.get(name)}"
        for name in names
        if name not in NOT_COMPARED | {"tangent", "data", "pretrained"}
        and options.get(name) != run.get(name)
    ]
    if not _same_place(options.get("data"), run.get("data")):
        differing.append(f"data is {options.get('data')}, the run's {run.get('data')}")
    return [*differing, *_other_start(folder, source.path, options, run)]


def _same_place(*folders: str | None) -> bool:
    return len({os.path.realpath(folder or "") for folder in folders}) == 1


def _other_start(
    folder: Path, run_folder: Path, options: Mapping[str, Any], run: Mapping[str, Any]
) -> list[str]:
    """How the pretrained weights differ: by what they hold, where both folders say it."""
    shas = [_facts(path).get("pretrained_sha256") for path in (folder, run_folder)]
    names = [each.get("pretrained") for each in (options, run)]
    same = shas[0] == shas[1] if all(shas) else names[0] == names[1]
    if same:
        return []
    twin, own = (f"{n} ({sha[:8]})" if sha else n for n, sha in zip(names, shas, strict=True))
    return [f"pretrained is {twin}, the run's {own}"]


def _missing(folder: Path, kind: Kind, weights: str) -> str | None:
    """The first file that a finished twin has and this one lacks."""
    of_run = ("final.safetensors", f"{weights}.safetensors", "init.safetensors", "run.json")
    needed = of_run if kind == "tangent" else (PREDICTIONS, "run.json")
    return next((name for name in needed if not (folder / name).is_file()), None)
