"""Which of the paper's claims do these runs support?

    python -m analysis.claims RUNS [--output ledger.json]

RUNS is the folder of a study or of a sweep, or a `runs.parquet` or `runs.jsonl` (`analysis.runs`).
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path

from analysis.claims.ledger import document, ledger, table
from analysis.runs import FILES, read_runs
from core.command_line import run
from core.errors import InputError
from core.outputs import whole_file

INSIDE = ("", "study")  # where a sweep, and a study, has its runs frame


@dataclass(frozen=True, kw_only=True)
class LedgerConfig:
    """Options of the ledger."""

    runs: str = "runs/study"
    """Folder of a study or of a sweep, or a file of runs; may be given without the flag."""
    output: str = ""
    """JSON file to write; nothing is written where it is empty."""


def main(config: LedgerConfig) -> None:
    """Judge every claim, print the table, write the ledger."""
    entries = ledger(read_runs(runs_file(Path(config.runs))))
    if config.output:
        with whole_file(Path(config.output), parents=True) as file:
            text = json.dumps(document(entries), indent=2, ensure_ascii=False, allow_nan=False)
            file.write_text(text + "\n", encoding="utf-8")
    print(table(entries))


def runs_file(path: Path) -> Path:
    """The runs frame in the folder of a study or of a sweep; a file is itself.

    Raises:
        InputError: If there is none.
    """
    if path.is_file():
        return path
    places = [path / folder / name for folder in INSIDE for name in FILES]
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        raise InputError(
            f"'{path}' holds no {' or '.join(FILES)}, nor does '{path / INSIDE[1]}'; a file of "
            "runs, or the folder of a sweep or a study that has ended, was expected: give one"
        )
    return found


if __name__ == "__main__":
    if len(sys.argv) > 1 and not sys.argv[1].startswith("-"):
        sys.argv.insert(1, "--runs")
    run(main, LedgerConfig)
