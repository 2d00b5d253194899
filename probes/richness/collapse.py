r"""How features are arranged around their classes: neural collapse and its relatives.

Shapes: K classes that occur, D features.

References:
    | Prevalence of neural collapse (Papyan et al., 2020), https://arxiv.org/abs/2008.08186
    | A Geometric Analysis of Neural Collapse (Zhu et al., 2021), https://arxiv.org/abs/2105.02375
    | On the Role of Neural Collapse in Transfer Learning (Galanti et al., 2022)
    | https://arxiv.org/abs/2112.15121
"""

import torch
from jaxtyping import Float
from torch import Tensor

from core.arrays import matrix
from core.errors import InputError
from probes.richness.class_structure import Classifier, ClassStructure
from probes.richness.spectrum import deviations


def nc1(structure: ClassStructure) -> float:
    r"""Variation within classes against that between them; zero for full collapse.

    .. math:: \frac1K \tr \bigl( \Sigma_W \Sigma_B^+ \bigr), \quad
        \Sigma_W = \frac1N \sum_i (z_i - \mu_{y_i})(z_i - \mu_{y_i})^T, \quad
        \Sigma_B = \frac1K \sum_k (\mu_k - \mu_G)(\mu_k - \mu_G)^T

    Raises:
        InputError: If the class means span fewer than K - 1 dimensions.

    References:
        | Prevalence of neural collapse (Papyan et al., 2020), https://arxiv.org/abs/2008.08186
    """
    means = structure.centred_means @ structure.basis
    between = means.T @ means / structure.num_classes
    values = torch.linalg.eigvalsh(between)
    if values[0] <= max(structure.means.shape) * torch.finfo(torch.float64).eps * values[-1]:
        raise InputError(
            f"the means of {structure.num_classes} classes span fewer than {len(values)} "
            "dimensions, so that NC1 is infinite; leave out classes that are the same"
        )
    return float(torch.linalg.solve(between, structure.within).trace()) / structure.num_classes


def trace_ratio(structure: ClassStructure) -> float:
    r"""Total variance within classes over that between them, :math:`\tr \Sigma_W / \tr \Sigma_B`.

    Raises:
        InputError: If all class means are the same.

    References:
        | Perturbation Analysis of Neural Collapse (Tirer et al., 2023)
        | https://arxiv.org/abs/2210.16658
    """
    _check_distinct(structure)
    return structure.total_within() / structure.total_between()


def cdnv(structure: ClassStructure) -> float:
    r"""Class-distance normalised variance, as the mean over ordered pairs of classes.

    .. math:: \frac{1}{K(K-1)} \sum_{k \ne l} \frac{v_k + v_l}{2 \|\mu_k - \mu_l\|^2}

    with :math:`v_k` the mean squared distance of a class from its mean. (Some public code sums
    over pairs instead.)

    Raises:
        InputError: If two classes have the same mean.

    References:
        | On the Role of Neural Collapse in Transfer Learning (Galanti et al., 2022)
        | https://arxiv.org/abs/2112.15121
    """
    apart = torch.pdist(structure.means).square()
    if not apart.min():
        raise InputError(
            "two classes have the same mean, so that their CDNV is infinite; leave one out"
        )
    first, second = torch.triu_indices(structure.num_classes, structure.num_classes, 1)
    variances = structure.variances.to(apart.device)
    return float(((variances[first] + variances[second]) / (2 * apart)).mean())


def nc2_norm_variation(structure: ClassStructure) -> float:
    r"""Coefficient of variation of :math:`\|\mu_k - \mu_G\|` over classes; zero if equinorm.

    Raises:
        InputError: If all class means are the same.

    References:
        | Prevalence of neural collapse (Papyan et al., 2020), https://arxiv.org/abs/2008.08186
    """
    _check_distinct(structure)
    norms = structure.centred_means.norm(dim=1)
    return float(norms.std(correction=0) / norms.mean())


def nc2_etf_error(structure: ClassStructure) -> float:
    r"""Distance of the centred class means from a simplex equiangular tight frame.

    .. math:: \Bigl\| \frac{M M^T}{\|M M^T\|_F} - \frac{1}{\sqrt{K - 1}}
        \Bigl( I - \frac{\mathbf{1 1}^T}{K} \Bigr) \Bigr\|_F

    Zero for two classes around the mean of their means, which cannot be anything else.

    Raises:
        InputError: If all class means are the same.

    References:
        | A Geometric Analysis of Neural Collapse (Zhu et al., 2021)
        | https://arxiv.org/abs/2105.02375
    """
    _check_distinct(structure)
    gram = structure.centred_means @ structure.centred_means.T
    num = structure.num_classes
    simplex = (torch.eye(num).to(gram) - 1 / num) / (num - 1) ** 0.5
    return float((gram / gram.norm() - simplex).norm())


def nc3_duality_error(structure: ClassStructure, classifier: Classifier) -> float:
    r"""Squared distance of the classifier from the centred class means, both of norm one.

    .. math:: \bigl\| W / \|W\|_F - M / \|M\|_F \bigr\|_F^2 \in [0, 4]

    Raises:
        InputError: If the classifier does not fit, is zero, or all class means are the same.

    References:
        | Prevalence of neural collapse (Papyan et al., 2020), https://arxiv.org/abs/2008.08186
    """
    _check_distinct(structure)
    weight, _ = _weights(structure, classifier)
    if not weight.any():
        raise InputError("the classifier's weights are all zero; a trained one was expected")
    means = structure.centred_means
    return float((weight / weight.norm() - means / means.norm()).square().sum())


def nc4_agreement(structure: ClassStructure, classifier: Classifier) -> float:
    r"""Share of examples that the classifier gives to the class whose mean is nearest.

    Of the classes that occur; others stand for election in neither.

    Raises:
        InputError: If the classifier does not fit the features and labels.

    References:
        | Prevalence of neural collapse (Papyan et al., 2020), https://arxiv.org/abs/2008.08186
    """
    weight, bias = _weights(structure, classifier)
    means = structure.centred_means @ structure.basis
    same = 0
    for part in deviations(structure.features, structure.centre):
        # What lies outside the span is equally far from every mean.
        nearest = torch.cdist(part @ structure.basis, means).argmin(1)
        logits = part @ weight.T + (weight @ structure.centre + bias)
        same += int((nearest == logits.argmax(1)).sum())
    return same / len(structure.features)


def _weights(
    structure: ClassStructure, classifier: Classifier
) -> tuple[Float[Tensor, "K D"], Float[Tensor, " K"]]:
    """Rows of the classes that occur, in float64 beside the features."""
    means = structure.means
    weight = matrix(classifier.weight, "classifier weights").detach().to(means)
    largest = int(structure.classes[-1])
    if weight.shape[1] != means.shape[1] or len(weight) <= largest:
        raise InputError(
            f"the classifier is {len(weight)} x {weight.shape[1]}; weights for class {largest} "
            f"and {means.shape[1]} features were expected: give the head of these features"
        )
    bias = torch.zeros(len(weight)) if classifier.bias is None else classifier.bias
    bias = torch.as_tensor(bias).detach().to(means)
    if bias.shape != (len(weight),):
        raise InputError(
            f"the bias has shape {tuple(bias.shape)}; one for each class was expected"
        )
    return weight[structure.classes], bias[structure.classes]


def _check_distinct(structure: ClassStructure) -> None:
    if not structure.centred_means.any():
        raise InputError(
            f"the means of all {structure.num_classes} classes are the same; classes that differ "
            "were expected"
        )
