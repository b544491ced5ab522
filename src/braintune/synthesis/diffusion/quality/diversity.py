"""How alike scans of one set are: multi-scale structural similarity of pairs."""

from collections.abc import Sequence

import numpy as np
import torch
from monai.metrics.regression import compute_ms_ssim

_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
_KERNEL = 7


def scales_that_fit(shape: Sequence[int]) -> tuple[float, ...]:
    """Weights of as many scales as a grid has room for, which add up to 1.

    The five weights are those of Wang, Simoncelli and Bovik (2003); small grids use the first ones.

    Args:
        shape: Voxels along each axis, at least 7.

    Example:
        >>> [len(scales_that_fit([n, n, n])) for n in (16, 40, 112)]
        [2, 3, 5]
    """
    fitting = [
        count
        for count in range(1, len(_WEIGHTS) + 1)
        # The second bound is what MONAI demands.
        if min(shape) // 2 ** (count - 1) >= _KERNEL
        and min(shape) // max(1, count - 1) ** 2 > _KERNEL - 1
    ]
    chosen = _WEIGHTS[: max(fitting, default=1)]
    return tuple(weight / sum(chosen) for weight in chosen)


def similarity(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """MS-SSIM of scans with intensities in [0, 1].

    Args:
        first: Of shape (pairs, 1, x, y, z).
        second: Of the same shape.

    Returns:
        Of shape (pairs,); 1 for equal scans.
    """
    values = compute_ms_ssim(
        first,
        second,
        spatial_dims=3,
        data_range=1.0,
        kernel_size=_KERNEL,
        weights=scales_that_fit(first.shape[2:]),
    )
    return values.flatten()


def pairs_of(count: int, most: int, seed: int) -> list[tuple[int, int]]:
    """Different pairs of a set, drawn at random where there are more than wanted.

    Example:
        >>> pairs_of(3, 10, seed=0)
        [(0, 1), (0, 2), (1, 2)]
    """
    total = count * (count - 1) // 2
    if total <= most:
        return [(i, j) for i in range(count) for j in range(i + 1, count)]
    chance = np.random.default_rng([seed, 81])
    drawn: set[tuple[int, int]] = set()
    while len(drawn) < most:
        i, j = sorted(int(n) for n in chance.integers(count, size=2))
        if i != j:
            drawn.add((i, j))
    return sorted(drawn)


def mean_similarity(images: torch.Tensor, most: int, seed: int) -> float | None:
    """Mean MS-SSIM over pairs of a set: 1 if all are the same, lower the more diverse they are.

    Args:
        images: Of shape (scans, 1, x, y, z).
        most: How many pairs at most.
        seed: Which pairs.

    Returns:
        None for fewer than two scans.
    """
    pairs = pairs_of(len(images), most, seed)
    if not pairs:
        return None
    values = [float(similarity(images[i : i + 1], images[j : j + 1])) for i, j in pairs]
    return float(np.mean(values))
