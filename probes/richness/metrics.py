"""What each measure of richness means.

Better means richer here: a direction says which way more directions, more evenly used, lie, and
not which way accuracy lies.
"""

from typing import Any

from core.records import Metric

ROY = "Roy & Vetterli 2007, EUSIPCO"
GARRIDO = "Garrido et al. 2023, arXiv 2210.02885"
GAO = "Gao et al. 2017, bioRxiv 214262"
CHUN = "Himeno & Yamada 2014; Chun et al. 2025, arXiv 2509.26560"
RUDELSON = "Rudelson & Vershynin 2007; He & Ozay 2022 (NESum)"
YU = "Yu et al. 2020, arXiv 2006.08558"
AGRAWAL = "Agrawal et al. 2022, NeurIPS"
HURLEY = "Hurley & Rickard 2009, arXiv 0811.4706"
HOYER = "Hoyer 2004, JMLR 5"
VINJE = "Vinje & Gallant 2000, Science 287"
PAPYAN = "Papyan et al. 2020, arXiv 2008.08186"
ZHU = "Zhu et al. 2021, arXiv 2105.02375"
GALANTI = "Galanti et al. 2022, arXiv 2112.15121"
TIRER = "Tirer et al. 2023, arXiv 2210.16658"
THILAK = "Thilak et al. 2024, arXiv 2312.04000"
WANG = "Wang & Isola 2020, arXiv 2005.10242"
BARDES = "Bardes et al. 2022, arXiv 2105.04906"
CHEN = "Chen & He 2021, arXiv 2011.10566"

RANK: dict[str, Any] = {"direction": "higher", "low": 1.0}
SHARE: dict[str, Any] = {"low": 0.0, "high": 1.0}

METRICS = {
    "effective_rank": Metric(title="effective rank", symbol='"erank"(Z)', reference=ROY, **RANK),
    "effective_rank_centred": Metric(
        title="effective rank, centred", symbol='"erank"(Z_c)', reference=ROY, **RANK
    ),
    "effective_rank_eigen": Metric(title="effective rank (eigenvalues)", reference=ROY, **RANK),
    "effective_rank_eigen_centred": Metric(
        title="effective rank (eigenvalues), centred", reference=ROY, **RANK
    ),
    "rankme": Metric(title="RankMe", reference=GARRIDO, **RANK),
    "participation_ratio": Metric(title="participation ratio", reference=GAO, **RANK),
    "participation_ratio_centred": Metric(
        title="participation ratio, centred",
        symbol='("tr" C)^2 / norm(C)^2',
        reference=GAO,
        **RANK,
    ),
    # An estimate, which noise can take below one.
    "participation_ratio_unbiased": Metric(
        title="participation ratio, centred, unbiased traces", direction="higher", reference=CHUN
    ),
    "stable_rank": Metric(title="stable rank", reference=RUDELSON, **RANK),
    "stable_rank_centred": Metric(
        title="stable rank (NESum), centred",
        symbol="norm(Z_c)_F^2 / norm(Z_c)_2^2",
        reference=RUDELSON,
        **RANK,
    ),
    **{
        f"explained_variance_dims_{percent}": Metric(
            title=f"principal components for {percent} % of the variance", **RANK
        )
        for percent in (90, 95, 99)
    },
    "coding_rate": Metric(
        title="coding rate in nats", symbol="R(Z)", direction="higher", low=0.0, reference=YU
    ),
    "coding_rate_unit": Metric(
        title="coding rate in nats, at mean squared norm one",
        direction="higher",
        low=0.0,
        reference=YU,
    ),
    # Near one is good, so neither way is.
    "alpha_req": Metric(title="decay of the spectrum", symbol="alpha", reference=AGRAWAL),
    "alpha_req_r2": Metric(
        title="fit of the spectrum's decay", symbol="R^2", high=1.0, reference=AGRAWAL
    ),
    "mean_share": Metric(
        title="share of the mean in the squared norm", symbol="N norm(mu)^2 / norm(Z)_F^2", **SHARE
    ),
    # Training on the labels asks for collapse, transfer to other labels for its absence: a low
    # value is a success on one set and a loss on another, so none of these has a direction.
    "nc1": Metric(
        title="NC1, within over between classes",
        symbol='"tr"(Sigma_W Sigma_B^+) \\/ K',
        low=0.0,
        reference=PAPYAN,
    ),
    "trace_ratio": Metric(
        title="trace ratio within over between classes", low=0.0, reference=TIRER
    ),
    "cdnv": Metric(title="class-distance normalised variance", low=0.0, reference=GALANTI),
    "nc2_norm_variation": Metric(
        title="NC2, variation of the norms of class means", low=0.0, reference=PAPYAN
    ),
    "nc2_etf_error": Metric(
        title="NC2, distance of class means from a simplex", low=0.0, high=2.0, reference=ZHU
    ),
    "nc3_duality_error": Metric(
        title="NC3, distance of classifier from class means", low=0.0, high=4.0, reference=PAPYAN
    ),
    "nc4_agreement": Metric(
        title="NC4, agreement with the nearest class mean", reference=PAPYAN, **SHARE
    ),
    "lidar": Metric(title="LiDAR", reference=THILAK, **RANK),
    "zero_share": Metric(title="share of exact zeros", **SHARE),
    "dead_units": Metric(title="dead units", direction="lower", low=0.0),
    "dead_share": Metric(title="share of dead units", direction="lower", **SHARE),
    "hoyer": Metric(title="Hoyer sparseness of an example", reference=HOYER, **SHARE),
    "gini": Metric(title="Gini index of an example", reference=HURLEY, **SHARE),
    "population_sparsity": Metric(
        title="Treves-Rolls sparsity of an example", reference=VINJE, **SHARE
    ),
    "lifetime_sparsity": Metric(title="Treves-Rolls sparsity of a unit", reference=VINJE, **SHARE),
    "kurtosis": Metric(title="excess kurtosis of an example", low=-2.0),
    "zero_examples": Metric(title="examples without any activity", direction="lower", low=0.0),
    "correlation": Metric(title="mean magnitude of correlations", direction="lower", **SHARE),
    "constant_columns": Metric(title="constant features", direction="lower", low=0.0),
    "covariance_term": Metric(
        title="covariance term of VICReg", direction="lower", low=0.0, reference=BARDES
    ),
    "normalised_std": Metric(
        title="standard deviation on the sphere, of the possible one",
        direction="higher",
        reference=CHEN,
        **SHARE,
    ),
    "uniformity": Metric(
        title="uniformity on the sphere", direction="lower", low=-8.0, high=0.0, reference=WANG
    ),
    "alignment": Metric(
        title="distance of two views on the sphere",
        direction="lower",
        low=0.0,
        high=4.0,
        reference=WANG,
    ),
}
