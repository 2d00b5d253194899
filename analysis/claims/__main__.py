"""Which of the paper's claims do these runs support?

    python -m analysis.claims RUNS [--output ledger.json]

RUNS is a `runs.parquet` or `runs.jsonl` (see `analysis.runs`), or the folder that holds it.
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path

from analysis.claims.ledger import document, ledger, table
from analysis.runs import read_runs
from core.command_line import run
from core.outputs import whole_file


@dataclass(frozen=True, kw_only=True)
class LedgerConfig:
    """Options of the ledger."""

    runs: str = "runs/study"
    """File of runs, or the folder that holds it; may be given without the flag."""
    output: str = ""
    """JSON file to write; nothing is written where it is empty."""


def main(config: LedgerConfig) -> None:
    """Judge every claim, print the table, write the ledger."""
    entries = ledger(read_runs(config.runs))
    if config.output:
        with whole_file(Path(config.output), parents=True) as file:
            text = json.dumps(document(entries), indent=2, ensure_ascii=False, allow_nan=False)
            file.write_text(text + "\n", encoding="utf-8")
    print(table(entries))


if __name__ == "__main__":
    if len(sys.argv) > 1 and not sys.argv[1].startswith("-"):
        sys.argv.insert(1, "--runs")
    run(main, LedgerConfig)
