"""A study made up so that no section of its report is empty."""

import numpy as np
import pandas as pd

from analysis.runs import check_runs
from core.records import Record, tidy
from tests.analysis.claims_data import CELLS, CLAIMED, ENVS, SEEDS, simulated

LR = dict(zip(CELLS, (1e-4, 2e-4, 5e-4, 1e-3), strict=True))
DECAY = dict(zip(CELLS, (1e-4, 1e-5, 1e-4, 1e-5), strict=True))


def study_runs(dataset: str = "digits", *, seed: int = 0) -> pd.DataFrame:
    """The study of `tests.analysis.claims_data` with rivals, subsets and best steps added."""
    runs = simulated(CLAIMED, seed=seed).assign(dataset=dataset)
    runs["weight_decay"] = runs["cell"].map(DECAY)
    single = runs["method"].isin(["erm", "dropout"])
    r2 = 0.9 - 0.1 * np.log10(runs["lr"] / 1e-4)
    runs["explained_displacement"] = r2.where(single & (runs["drop_rate"] == 0))
    dropout = main(runs, "dropout").query("drop_rate == 0.9")
    finals = runs[runs["method"].isin(["ensemble_final", "average_final"])]
    parts = [
        runs.assign(ensemble_size=runs["method"].str.endswith("final").map({True: 12, False: 1})),
        dropout.assign(noise="gaussian", ood=dropout["ood"] - 0.01),
        dropout.assign(placement="stages", ood=dropout["ood"] - 0.02),
        dropout.assign(placement="blocks", drop_rate=0.5, ood=dropout["ood"] - 0.03),
        finals.assign(drop_rate=0.9, ood=finals["ood"] + 0.03, ensemble_size=12),
        main(runs, "erm").assign(pretrained="poor", pretraining=1.0, ood=0.3),
        *subsets(finals, seed),
    ]
    added = pd.concat(parts, ignore_index=True)
    added["run"] = "run " + added.index.astype("string")
    return check_runs(pd.concat([added, best_steps(added)]))


def main(runs: pd.DataFrame, method: str) -> pd.DataFrame:
    """Runs of a method in the main setting."""
    return runs.query(
        f"method == '{method}' and not from_scratch and head_lr_factor == 1 "
        "and train_size == 1000 and pretrained == 'rich'"
    )


def best_steps(runs: pd.DataFrame) -> pd.DataFrame:
    """Single runs and linear models at their best step."""
    stepped = runs[runs["method"].isin(["erm", "dropout", "linear"])]
    return stepped.assign(selection="best", iid=stepped["iid"] + 0.002)


def subsets(finals: pd.DataFrame, seed: int) -> list[pd.DataFrame]:
    """Ensembles and averages of few runs, five draws a size."""
    generator = np.random.default_rng(seed)
    parts = []
    for size in (2, 4, 8):
        for draw in range(5):
            part = finals.assign(ensemble_size=size, seed=draw)
            part["method"] = part["method"].str.replace("final", "subset")
            noise = 0.01 / size * generator.standard_normal(len(part))
            parts.append(part.assign(ood=part["ood"] - 0.01 / size + noise))
    return parts


def study_record(runs: pd.DataFrame) -> Record:
    """Options and provenance of the study; its numbers are the runs frame."""
    values = tidy([{"run": "all", "metric": "runs", "value": float(len(runs))}])
    provenance = {
        "versions": {"lazyrich": "0.1.0"},
        "data": "digits",
        "failed": {"ink-9": "the loss is infinite"},
        "runs": [{"run": f"{env}-{seed}", "sha256": "0" * 64} for env in ENVS for seed in SEEDS],
    }
    config = {"protocol": "smoke", "seeds": list(SEEDS)}
    return Record(probe="study", config=config, values=values, metrics={}, provenance=provenance)
