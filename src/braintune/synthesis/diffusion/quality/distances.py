"""How far apart two sets of feature vectors are."""

import numpy as np
import numpy.typing as npt
from scipy.spatial.distance import cdist

Features = npt.NDArray[np.float64]


def frechet_distance(first: Features, second: Features) -> float:
    """Fréchet distance of the Gaussians with the sets' means and covariances (Heusel et al. 2017).

    It is biased upwards for few vectors; compare only sets of the same sizes.

    Args:
        first: Of shape (scans, features).
        second: Of shape (scans, features).

    Example:
        >>> values = np.array([[0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
        >>> round(frechet_distance(values, values + 2), 6)
        8.0
    """
    covariances = [np.atleast_2d(np.cov(values, rowvar=False)) for values in (first, second)]
    # The trace of (C₁C₂)^½ is that of (C₁^½ C₂ C₁^½)^½, which is symmetric.
    values, vectors = np.linalg.eigh(covariances[0])
    root = (vectors * np.sqrt(values.clip(0))) @ vectors.T
    cross = np.linalg.eigvalsh(root @ covariances[1] @ root).clip(0)
    shift = first.mean(0) - second.mean(0)
    traces = sum(float(np.trace(covariance)) for covariance in covariances)
    return float(shift @ shift + traces - 2 * np.sqrt(cross).sum())


def squared_mmd(first: Features, second: Features) -> float:
    """Unbiased squared maximum mean discrepancy (Gretton et al. 2012, equation 3).

    The kernel is Gaussian, as wide as the median distance within both sets together.

    Args:
        first: Of shape (scans, features), at least two.
        second: Of shape (scans, features), at least two.
    """
    kernel = gaussian_kernel(np.concatenate([first, second]))
    return mmd_of_kernel(kernel, len(first))


def gaussian_kernel(values: Features) -> Features:
    """The Gaussian kernel of all pairs, as wide as their median distance."""
    squares = cdist(values, values, "sqeuclidean")
    median = float(np.median(squares[np.triu_indices(len(values), 1)]))
    return np.asarray(np.exp(-squares / max(median, 1e-12)))


def mmd_of_kernel(kernel: Features, count: int) -> float:
    """The unbiased squared discrepancy of the first ``count`` rows and the rest."""
    same, other, cross = kernel[:count, :count], kernel[count:, count:], kernel[:count, count:]
    return float(_off_diagonal(same) + _off_diagonal(other) - 2 * cross.mean())


def permutation_p(first: Features, second: Features, draws: int, seed: int) -> float:
    """How often sets that are mixed at random are as far apart, by MMD; one-sided."""
    kernel = gaussian_kernel(np.concatenate([first, second]))
    observed = mmd_of_kernel(kernel, len(first))
    chance = np.random.default_rng([seed, 82])
    beyond = 0
    for _ in range(draws):
        order = chance.permutation(len(kernel))
        beyond += mmd_of_kernel(kernel[np.ix_(order, order)], len(first)) >= observed
    return (1 + beyond) / (1 + draws)


def _off_diagonal(kernel: Features) -> float:
    count = len(kernel)
    return float((kernel.sum() - np.trace(kernel)) / (count * (count - 1)))
