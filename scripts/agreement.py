"""Our measures beside those of published packages on the same features, for `docs/agreement.md`.

    python -m scripts.agreement > docs/agreement.md

Packages that are not installed are named and left out: reptrix, torch-cka, rsatoolbox,
stable-pretraining.

Shapes: N examples, D features.
"""

import importlib.metadata
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from core.command_line import run
from probes.richness import alpha_req, effective_rank, lidar, rankme
from probes.similarity import linear_cka

NUM_EXAMPLES, NUM_FEATURES = 1000, 128
CLASSES, VIEWS = 100, 10


class Row(NamedTuple):
    """One number of ours beside one of a package, and why they differ."""

    measure: str
    ours: float
    package: str
    theirs: Callable[[], float]
    reason: str


class Data(NamedTuple):
    """Two representations of the same examples, ten views each of a hundred classes."""

    x: Tensor
    y: Tensor
    labels: Tensor


@dataclass(frozen=True, kw_only=True)
class AgreementConfig:
    """Options of the comparison."""

    seed: int = 0
    """Seed of the features."""


def made_up(seed: int) -> Data:
    """Features with a power law, a mean and classes; a noisy projection of them as the second."""
    generator = torch.Generator().manual_seed(seed)
    draw = lambda *shape: torch.randn(*shape, generator=generator)
    scales = torch.arange(1, NUM_FEATURES + 1).float() ** -0.5
    centres = draw(CLASSES, NUM_FEATURES).repeat_interleave(VIEWS, 0)
    x = (centres + draw(NUM_EXAMPLES, NUM_FEATURES)) * scales + 0.5
    y = x @ draw(NUM_FEATURES, 64) / 8 + 0.5 * draw(NUM_EXAMPLES, 64)
    return Data(x, y, torch.arange(CLASSES).repeat_interleave(VIEWS))


def reptrix_rows(data: Data) -> Iterator[Row]:
    """Rank, decay and LiDAR of reptrix."""
    from reptrix.alpha import get_alpha  # type: ignore[import-not-found]
    from reptrix.lidar import get_lidar  # type: ignore[import-not-found]
    from reptrix.rankme import get_rankme  # type: ignore[import-not-found]

    yield Row(
        "RankMe",
        rankme(data.x),
        "reptrix",
        lambda: get_rankme(data.x),
        "it takes the eigenvalues of the centred covariance; the paper the singular values of the "
        "features as they are",
    )
    yield Row(
        "effective rank of eigenvalues, centred",
        effective_rank(data.x, on="eigen"),
        "reptrix",
        lambda: get_rankme(data.x),
        "what its RankMe computes, plus 1e-7 a share",
    )
    yield Row(
        "alpha-ReQ",
        alpha_req(data.x).alpha,
        "reptrix",
        lambda: get_alpha(data.x)[0],
        "its range 10..99 counts from zero, so that it fits ranks 11 to 100; ours 10 to 99",
    )
    yield Row(
        "LiDAR",
        lidar(data.x, data.labels).value,
        "reptrix",
        lambda: get_lidar(data.x, CLASSES, VIEWS, del_sigma_augs=1e-4),
        "it takes the variances of the columns of the LiDAR matrix for its eigenvalues (squared "
        "and centred), and a general eigensolver of the inverse",
    )


def torch_cka_rows(data: Data) -> Iterator[Row]:
    """The HSIC of torch-cka."""
    from torch_cka import CKA  # type: ignore[import-not-found]

    peer = CKA.__new__(CKA)
    peer.device = "cpu"  # all that its HSIC reads

    def value(*, zeroed: bool) -> float:
        kernels = [z @ z.T for z in (data.x.double(), data.y.double())]
        if zeroed:
            kernels = [kernel.fill_diagonal_(0) for kernel in kernels]
        peer_kernels = [k.float() for k in kernels]
        a, b = peer_kernels
        return peer._HSIC(a, b) / (peer._HSIC(a, a) * peer._HSIC(b, b)) ** 0.5

    yield Row(
        "linear CKA, debiased",
        linear_cka(data.x, data.y),
        "torch-cka",
        lambda: value(zeroed=True),
        "rounding in single precision",
    )
    yield Row(
        "linear CKA, debiased",
        linear_cka(data.x, data.y),
        "torch-cka, diagonals kept",
        lambda: value(zeroed=False),
        "the estimator is unbiased only for kernels with a zero diagonal; its `compare` sets it, "
        "and averages ratios over batches",
    )


def rsatoolbox_rows(data: Data) -> Iterator[Row]:
    """The whitened cosine of dissimilarities, which is linear CKA (Diedrichsen et al. 2021)."""
    from rsatoolbox.data import Dataset  # type: ignore[import-not-found]
    from rsatoolbox.rdm import calc_rdm, compare  # type: ignore[import-not-found]

    few = slice(0, 200)  # its covariance is of pairs of pairs

    def value() -> float:
        rdms = [calc_rdm(Dataset(z[few].double().numpy())) for z in (data.x, data.y)]
        return float(compare(*rdms, method="cosine_cov").item())

    yield Row(
        "linear CKA, biased (200 examples)",
        linear_cka(data.x[few], data.y[few], debiased=False),
        "rsatoolbox",
        value,
        "rounding",
    )


def stable_pretraining_rows(data: Data) -> Iterator[Row]:
    """The LiDAR of its callback."""
    from stable_pretraining.callbacks.lidar import LiDAR  # type: ignore[import-not-found]

    peer = LiDAR.__new__(LiDAR)
    settings = {"n_classes": CLASSES, "samples_per_class": VIEWS, "delta": 1e-4, "epsilon": 1e-8}
    for name, value in settings.items():
        setattr(peer, name, value)
    yield Row(
        "LiDAR",
        lidar(data.x, data.labels).value,
        "stable-pretraining",
        lambda: peer._compute_lidar(data.x)["lidar"],
        "it divides by n - 1 and n (q - 1), we by n and n q, which delta sees; single precision",
    )


PACKAGES: dict[str, Callable[[Data], Iterator[Row]]] = {
    "reptrix": reptrix_rows,
    "torch-cka": torch_cka_rows,
    "rsatoolbox": rsatoolbox_rows,
    "stable-pretraining": stable_pretraining_rows,
}


def agreement(config: AgreementConfig) -> None:
    """Print the page."""
    data = made_up(config.seed)
    print(
        "# Agreement with published packages\n\nMade by `python -m scripts.agreement`: "
        f"{NUM_EXAMPLES} x {NUM_FEATURES} made-up features in single precision, with a power law, "
        f"a mean and {CLASSES} classes of {VIEWS} views.\n"
    )
    print("| measure | ours | package | its value | relative difference | reason |")
    print("| --- | --- | --- | --- | --- | --- |")
    left_out = []
    for package, rows in PACKAGES.items():
        try:
            version = importlib.metadata.version(package)
            found = list(rows(data))
        except ImportError as error:
            left_out.append(f"{package} ({error})")
            continue
        for row in found:
            print(_line(row, version))
    if left_out:
        print(f"\nNot compared, since they do not import here: {'; '.join(left_out)}.")


def _line(row: Row, version: str) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # theirs
        theirs = float(np.real(row.theirs()))
    difference = theirs / row.ours - 1
    return (
        f"| {row.measure} | {row.ours:.6g} | {row.package}, {version} | {theirs:.6g} | "
        f"{difference:+.1e} | {row.reason} |"
    )


def main() -> None:
    """Entry point of `python -m scripts.agreement`."""
    run(agreement, AgreementConfig)


if __name__ == "__main__":
    main()
