"""Features before and after every run, as one record."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from analysis.creation_verdict import PROBES
from analysis.intervals import Row
from core.domains import load_domains
from core.errors import InputError
from core.records import Record
from probes.feature_creation.config import FeatureCreationConfig
from probes.feature_creation.metrics import METRICS
from probes.feature_creation.probed import probe_rows
from probes.feature_creation.shared import shared_rows
from probes.feature_creation.views import Views, joined
from probes.feature_groups import ALL, Group, Where, paired
from probes.feature_probe import FeatureProbe
from probes.feature_sets import FeatureSet
from probes.feature_sources import FLAG, load_features
from probes.partial import Arrays
from probes.sources import Source, shared_options
from probes.stages import Stage
from probes.subjects import Subject
from probes.transfer.families import source_of

INIT = "/init"


def load(config: FeatureCreationConfig) -> list[FeatureSet]:
    """Features of every run before and after; the record says how many images it trained on.

    Raises:
        InputError: If a checkpoint is no run folder, or see `load_features`.
    """
    sources = [Source.find(name, config.weights, FLAG) for name in config.checkpoints]
    for source in sources:
        if source.run_options is None:
            raise InputError(
                f"'{source.path}' is a checkpoint file; a run folder, which holds the network "
                f"before fine-tuning too, was expected: change {FLAG}"
            )
    sets = load_features(config)
    sizes = [size for source in sources for size in 2 * [_train_size(source, sources, config)]]
    return [
        replace(found, facts=found.facts | {"train_size": size})
        for found, size in zip(sets, sizes, strict=True)
    ]


def _train_size(
    source: Source, sources: Sequence[Source], config: FeatureCreationConfig
) -> int | None:
    """Images that a run trained on, however few of them are measured; None for other images."""
    shared = shared_options(sources, config, FLAG)
    skip = shared["skip_unreadable"]
    domains = load_domains(shared["data"], envs=shared["envs"], skip_unreadable=skip)
    envs = source.trained_on(domains, config)
    parts = [source.parts(domains, env, "iid")[0] for env in envs if env in domains.environments]
    return sum(map(len, parts)) if len(parts) == len(envs) and parts else None


def all_stages(subjects: Sequence[Subject], config: FeatureCreationConfig) -> list[Stage]:
    """The probes of each run, and what its features share on each environment and split."""
    by_run = {subject.run: subject for subject in subjects}
    stages = []
    for run, after in by_run.items():
        before = by_run.get(f"{run}{INIT}")
        if before is not None:
            stages += _stages(before, after, config)
    return stages


def _stages(before: Subject, after: Subject, config: FeatureCreationConfig) -> list[Stage]:
    old, new = (source_of(subject, config.seed) for subject in (before, after))
    train = _views(old.train, new.train)
    tests = {
        where.env: _views(old.tests[where], new.tests[where], where)
        for where in new.tests
        if where.env != ALL
    }

    def probes(_: Arrays) -> Iterator[Row]:
        return probe_rows(train, tests, seed=config.seed)

    stages = [Stage(f"{after.run}|{PROBES}", after.columns, probes)]
    for split in dict.fromkeys(views.split for views in tests.values()):
        whole = joined([views for views in tests.values() if views.split == split])

        def shared(_: Arrays, whole: Views = whole) -> Iterator[Row]:
            options = {n: getattr(config, n) for n in ("folds", "permutations", "seed")}
            return shared_rows(whole, **options)

        columns = after.columns | {"env": ALL, "split": split}
        stages.append(Stage(f"{after.run}|{split}", columns, shared))
    return stages


def _views(before: Group, after: Group, where: Where | None = None) -> Views:
    before, after = paired(before, after)
    split = "given" if where is None else where.split
    return Views(before.features, after.features, after.labels, split)


def _intervals(config: FeatureCreationConfig) -> str:
    return (
        "R2 (given the regressions) and CKA: delete-group jackknife over examples, normal; null: "
        f"middle 95 % of {config.permutations} permutations; accuracies: Wilson over test "
        "examples, differences: Agresti and Min over paired ones, given the probes"
    )


PROBE = FeatureProbe(
    "feature_creation", METRICS, all_stages, _intervals, load, whole_training=True
)


def measure(config: FeatureCreationConfig) -> Record:
    """Measure every run; see `FeatureProbe.measure`."""
    return PROBE.measure(config)
