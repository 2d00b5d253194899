"""Options of `python -m scripts.study`."""

from dataclasses import dataclass, replace

from core.errors import InputError
from finetuning.config import TrainConfig, resolve
from scripts.study.protocols import PROTOCOLS, Name, Protocol
from scripts.study_options import StudyOptions, ordinary

POORER = {"glyphnet.rich": "glyphnet.plain"}  # what the embedded weights are compared with
NO_POORER = "none"


@dataclass(frozen=True, kw_only=True)
class StudyConfig(StudyOptions):
    """Options of the study."""

    output: str = "runs/study"
    """Folder to create, or to go on in if a study with the same options was interrupted."""
    protocol: Name = "smoke"
    """How much is run: `smoke` (minutes on the digits), `mini` (an hour or two) or `paper`."""
    poorer: str | None = None
    """Weights of the same model that were pretrained less richly than --pretrained, `none` for
    none (default: glyphnet.plain beside glyphnet.rich)."""
    seeds: tuple[int, ...] = ()
    """Seeds of the first environment, as many further ones in the others (default: the
    protocol's)."""
    batch_size: int | None = None
    """Images per training environment and step (default: the protocol's)."""

    keep_checkpoints: bool = False
    """Keep the weights along every run after their ensemble and average are measured."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.seeds:
            self.check_values("seeds")
        for seed in self.seeds:
            ordinary(self, seed=seed)  # which checks it
        if self.poorer == self.pretrained:
            raise InputError(
                f"--poorer is {self.poorer}, as is --pretrained; other weights of the same model "
                "were expected: change one, or give --poorer none"
            )
        self._check_steps()

    def _check_steps(self) -> None:
        steps = self.steps or self.scale.steps
        run = resolve(ordinary(self, steps=steps, eval_every=self.every))
        assert run.steps is not None and run.eval_every is not None
        if run.steps < 2 * run.eval_every:
            raise InputError(
                f"--steps is {run.steps} and --eval_every {run.eval_every}, here or in the "
                "protocol; steps for two evaluations were expected, whose weights are averaged: "
                "give more steps, or evaluate more often"
            )

    @property
    def every(self) -> int | None:
        """Steps between evaluations; None for the preset's."""
        return self.eval_every or self.scale.every

    @property
    def scale(self) -> Protocol:
        """The protocol that was chosen."""
        return PROTOCOLS[self.protocol]

    @property
    def poorer_weights(self) -> str | None:
        """The weights that were pretrained less richly; None without."""
        chosen = POORER.get(self.pretrained) if self.poorer is None else self.poorer
        return None if chosen == NO_POORER else chosen


def settled(config: StudyConfig) -> StudyConfig:
    """The options with those of the protocol where they were left out.

    A protocol's steps have one milestone in their middle, as the paper's.

    Example:
        >>> settled(StudyConfig()).milestones, settled(StudyConfig(steps=80)).milestones
        ((10,), (40,))
    """
    scale = config.scale
    steps = config.steps or scale.steps
    milestones = config.milestones
    if milestones is None and steps is not None:
        milestones = (steps // 2,)
    return replace(
        config,
        seeds=config.seeds or scale.seeds,
        batch_size=config.batch_size or scale.batch_size,
        steps=steps,
        milestones=milestones,
        eval_every=config.every,
    )


def base_run(config: StudyConfig) -> TrainConfig:
    """The ordinary run that all others are variations of, with nothing left out."""
    return resolve(ordinary(settled(config)))
