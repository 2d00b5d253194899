"""All sections of the study report in their order, declared before the data."""

from collections.abc import Callable

import pandas as pd

from analysis.claims.averaging import NEEDS
from analysis.claims.rows import main_runs, pretrained_runs, scratch_runs, sized_runs
from analysis.estimates import number
from reports.study import beside, clouds, curves, grids, rates, settings
from reports.study.choosing import selection
from reports.study.comparison import SPLITS, Comparison, reasons, table
from reports.study.effects import association, effects
from reports.study.linear import interpolation, linear_models
from reports.study.references import all_points
from reports.study.robustness import robustness
from reports.study.sections import Content, Section, each_dataset
from reports.tables import Table

BOTH = "runs at dropout rates 0.9 and 0"
RATE = "dropout rate"
Runs = Callable[[pd.DataFrame], pd.DataFrame]
Compare = Callable[[str, pd.DataFrame], Comparison]


def _clouds(runs: pd.DataFrame) -> Content:
    main = main_runs(runs)
    found, left_out = each_dataset(main, settings.methods)
    published, unpublished = all_points(main)
    return Content(
        plates=clouds.plates(found, published),
        table=_published_table(published),
        notes=[*left_out, *unpublished, *reasons(found)],
        facts={"most": clouds.MOST},
    )


def _published_table(published: dict[str, pd.DataFrame]) -> Table:
    rows = [
        [
            dataset,
            p["method"].replace("_", " "),
            f"{p['drop_rate']:g}",
            *(number(p[split]) for split in SPLITS),
            p["weights"],
            p["source"],
        ]
        for dataset, points in published.items()
        for p in points.to_dict("records")
    ]
    header = ["Data set", "Method", "Dropout", "iid", "ood", "Weights", "Source"]
    return {"labels": 3, "header": header, "rows": rows}


def _beside(select: Runs, compare: Compare) -> Callable[[pd.DataFrame], Content]:
    """Accuracies and paired differences side by side."""

    def build(runs: pd.DataFrame) -> Content:
        found, left_out = each_dataset(select(runs), compare)
        notes = [*left_out, *reasons(found)]
        return Content(plates=beside.plates(found), table=table(found), notes=notes)

    return build


def _curves(
    select: Runs, compare: Compare, *, axis: str = RATE, less: str = "no dropout"
) -> Callable[[pd.DataFrame], Content]:
    """Accuracies, and differences, along an axis."""

    def build(runs: pd.DataFrame) -> Content:
        found, left_out = each_dataset(select(runs), compare)
        made = curves.plates(found, axis=axis, less=less)
        return Content(plates=made, table=table(found), notes=[*left_out, *reasons(found)])

    return build


def _rates(runs: pd.DataFrame) -> Content:
    main = main_runs(runs)
    found, left_out = each_dataset(main, rates.along_rates)
    published, unpublished = all_points(main)
    made = curves.plates(found, axis=RATE, less="no dropout", published=published)
    best = rates.best_rates((str(name), of) for name, of in main.groupby("dataset"))
    notes = [*best, *left_out, *unpublished, *reasons(found)]
    return Content(plates=made, table=table(found), notes=notes)


def _sizes(runs: pd.DataFrame) -> Content:
    sized = sized_runs(runs)
    found, left_out = each_dataset(sized, rates.along_sizes)
    made = curves.plates(found, axis=RATE, less="no dropout")
    best, _ = each_dataset(sized, _best_of_sizes)
    notes = [*(one for of_set in best for one in of_set), *left_out, *reasons(found)]
    return Content(plates=made, table=table(found), notes=notes)


def _best_of_sizes(dataset: str, rows: pd.DataFrame) -> list[str]:
    return rates.best_rates((f"{dataset}, {label}", of) for label, of in rates.sizes(rows))


def _placements(runs: pd.DataFrame) -> Content:
    found, left_out = each_dataset(rates.rivals(runs), rates.placements)
    notes = [*left_out, *reasons(found)]
    return Content(plates=grids.plates(found), table=table(found), notes=notes)


SECTIONS = (
    Section(name="clouds", needs=BOTH, build=_clouds),
    Section(
        name="methods",
        needs=f"{BOTH}; ensemble_* and average_* at rate 0",
        build=_beside(main_runs, settings.methods),
    ),
    Section(name="rates", needs="runs at two rates, one of them 0", build=_rates),
    Section(
        name="sizes",
        needs="runs at two rates, with two training sizes or numbers of steps",
        build=_sizes,
    ),
    Section(
        name="scratch",
        needs="runs with from_scratch at two rates, one of them 0",
        build=_curves(scratch_runs, rates.along_rates),
    ),
    Section(
        name="fast_head",
        needs=f"{BOTH}, with head_lr_factor 10 and 1",
        build=_beside(pretrained_runs, settings.fast_head),
    ),
    Section(name="on_top", needs=NEEDS, build=_beside(main_runs, settings.on_top)),
    Section(
        name="pretraining",
        needs="column pretraining (rank of the weights); erm at its largest, average_trajectory "
        "at rate 0.9 and head_lr_factor 10 at its smallest",
        build=_beside(pretrained_runs, settings.pretraining),
    ),
    Section(
        name="linear",
        needs="methods linear, tangent or kernel beside single runs, at steps best and final",
        build=linear_models,
    ),
    Section(
        name="interpolation",
        needs="single runs with lr, steps and the measure interpolation_gap_max",
        build=interpolation,
    ),
    Section(
        name="noises",
        needs="runs of another noise than dropout in the main setting",
        build=_curves(rates.rivals, rates.noises, less="dropout"),
    ),
    Section(
        name="placements",
        needs="runs with dropout at stages or blocks in the main setting",
        build=_placements,
    ),
    Section(
        name="ensemble_sizes",
        needs="methods ensemble_subset or average_subset with several ensemble_size",
        build=_curves(main_runs, rates.ensemble_sizes, axis="runs averaged", less=""),
    ),
    Section(name="selection", needs="single runs at two rates or more", build=selection),
    Section(name="robustness", needs=f"{BOTH}, two cells or seeds or more", build=robustness),
    Section(
        name="effects",
        needs="single runs in which rate, lr, weight_decay or head_lr_factor vary",
        build=effects,
    ),
    Section(
        name="association",
        needs="measures of richness or linearity as columns, of three runs of an environment "
        "and seed",
        build=association,
    ),
)
